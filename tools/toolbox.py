"""What a process needs to govern tools, built from its settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from ..checkpoints.database import Database
from .checks import GatewayOptions
from .egress import Egress
from .gateway import Gateway
from .policy.cedar import Policies
from .policy.review import ReviewRecords
from .registry import Registry, builtin_registry


class ToolboxOptions(GatewayOptions, Protocol):
    """What an operator sets for the tools of a process."""

    @property
    def policies(self) -> Path | None:
        """A `.cedar` file or a folder of them, in place of the packaged ones."""
        ...

    @property
    def egress_allow(self) -> Iterable[str]:
        """Hosts that tools may reach."""
        ...

    @property
    def private_networks(self) -> Iterable[str]:
        """Private networks that they may reach too."""
        ...


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Registry, policies and limits; one for each process, safe from any thread."""

    registry: Registry
    policies: Policies
    egress: Egress
    options: GatewayOptions

    @classmethod
    def open(cls, options: ToolboxOptions) -> Self:
        """Load the policies and put the tools together.

        Raises:
            PolicyInvalid: the policies do not fit the schema; the server must not start.
        """
        return cls(
            registry=builtin_registry(),
            policies=Policies.load(() if options.policies is None else (options.policies,)),
            egress=Egress(options.egress_allow, private_networks=options.private_networks),
            options=options,
        )

    def gateway(self, database: Database, *, reviews: ReviewRecords) -> Gateway:
        """The gateway of one event loop."""
        return Gateway(
            registry=self.registry,
            policies=self.policies,
            database=database,
            reviews=reviews,
            egress=self.egress,
            options=self.options,
        )
