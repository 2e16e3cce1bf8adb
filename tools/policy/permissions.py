"""Who acts, what is protected, and whether it is granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who acts: stamped by the server at the edge, never taken from a request body."""

    tenant: str
    subject: str
    """Identity within the tenant; `anonymous` when the server asks for no credentials."""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    on_behalf_of: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the authenticator told; graphs may read it, nothing decides by it."""

    def to_row(self) -> dict[str, Any]:
        """The JSON object stored with a run."""
        return {
            "tenant": self.tenant,
            "subject": self.subject,
            "roles": sorted(self.roles),
            "permissions": sorted(self.permissions),
            "on_behalf_of": self.on_behalf_of,
            "attributes": dict(self.attributes),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read what `to_row` wrote."""
        return cls(
            tenant=row["tenant"],
            subject=row["subject"],
            roles=frozenset(row["roles"]),
            permissions=frozenset(row["permissions"]),
            on_behalf_of=row["on_behalf_of"],
            attributes=row["attributes"],
        )
