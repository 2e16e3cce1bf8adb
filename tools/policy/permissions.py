"""Who acts, what is protected, and whether it is granted."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

_LONGEST_NAME = 200
_UNWRITABLE = {"Cc", "Cs"}
"""Unicode categories: control characters and lone surrogates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who acts: stamped by the server at the edge, never taken from a request body."""

    tenant: str
    subject: str
    """Identity within the tenant; `anonymous` when the server asks for no credentials."""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    on_behalf_of: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Whatever else the authenticator told; graphs may read it, nothing decides by it. It may be secret,
    and differ between two requests of the same one."""
    encryption: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the project's encryption handlers find the keys of this one by; no secret."""

    def __post_init__(self) -> None:
        """Refuse what keys, logs and notifications cannot carry.

        Raises:
            ValueError: the tenant or the subject is too long or holds control characters.
        """
        for field_name, name in (("tenant", self.tenant), ("subject", self.subject)):
            if len(name) > _LONGEST_NAME:
                raise ValueError(f"the {field_name} of a principal has at most {_LONGEST_NAME} characters")
            if any(unicodedata.category(character) in _UNWRITABLE for character in name):
                raise ValueError(f"the {field_name} {name!r} of a principal holds control characters")

    def to_row(self) -> dict[str, Any]:
        """The JSON object stored with a run."""
        return {
            "tenant": self.tenant,
            "subject": self.subject,
            "roles": sorted(self.roles),
            "permissions": sorted(self.permissions),
            "on_behalf_of": self.on_behalf_of,
            "attributes": dict(self.attributes),
            **({"encryption": dict(self.encryption)} if self.encryption else {}),
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
            attributes=row.get("attributes", {}),
            encryption=row.get("encryption", {}),
        )
