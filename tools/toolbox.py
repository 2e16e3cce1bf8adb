"""Builds what a process needs to govern tools, from its settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..checkpoints.database import Database
from .checks import GatewayOptions
from .egress import Egress
from .gateway import Gateway
from .policy.cedar import Policies
from .policy.review import ReviewRecords
from .registry import Registry, builtin_registry


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Registry, policies and limits; one for each process, safe from any thread."""

    registry: Registry
    policies: Policies
    egress: Egress
    options: GatewayOptions

    @classmethod
    def open(
        cls,
        options: GatewayOptions | None = None,
        *,
        policies: Path | None = None,
        egress_allow: Iterable[str] = (),
        private_networks: Iterable[str] = (),
        registry: Registry | None = None,
    ) -> Self:
        """Load the policies and put the tools together.

        Args:
            options: what an operator sets for every call.
            policies: a `.cedar` file or a folder of them, in place of the packaged ones.
            egress_allow: hosts that tools may reach.
            private_networks: private networks that they may reach too.
            registry: the declared tools; without it those that come with the server.

        Raises:
            PolicyInvalid: the policies do not fit the schema; the server must not start.
        """
        return cls(
            registry=registry or builtin_registry(),
            policies=Policies.load(() if policies is None else (policies,)),
            egress=Egress(egress_allow, private_networks=private_networks),
            options=options or GatewayOptions(),
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
