"""Who started a run, in the form that graphs know from `langgraph_sdk.auth`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from ...tools.policy.permissions import Principal
from ..encoding import Discreet


class RunUser(Mapping[str, Any], Discreet):
    """The `BaseUser` of a run: what the authenticator told, by attribute and by key."""

    def __init__(self, principal: Principal) -> None:
        self._fields: dict[str, Any] = {
            "display_name": principal.subject,
            "is_authenticated": principal.subject != "anonymous",
            "roles": sorted(principal.roles),
            "tenant": principal.tenant,
            # A copy: a handler may change it, and the next request may come with the same principal.
            **deepcopy(dict(principal.attributes)),
            "identity": principal.subject,
            "permissions": sorted(principal.permissions),
        }

    @property
    def identity(self) -> str:
        """Who it is, within the tenant."""
        return self._fields["identity"]

    @property
    def display_name(self) -> str:
        """What to call them."""
        return self._fields["display_name"]

    @property
    def is_authenticated(self) -> bool:
        """False where the server asks nobody who they are."""
        return self._fields["is_authenticated"]

    @property
    def permissions(self) -> list[str]:
        """What they may do."""
        return self._fields["permissions"]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_fields"][name]
        except KeyError:
            raise AttributeError(f"the authenticator told no {name!r} of this user") from None

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def shown(self) -> dict[str, Any]:
        """What clients see of it, such as in the config of a checkpoint: the rest may be a secret."""
        return {"identity": self.identity, "display_name": self.display_name}

    def __repr__(self) -> str:
        # What the authenticator told may be a secret.
        return f"<user {self.identity}>"
