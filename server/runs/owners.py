"""What somebody may do now who asked for something before: rights are those of today, not of then."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from ...tools.policy.permissions import Principal
from ..errors import Forbidden
from ..settings import ApiKey, AuthSettings


def present(principal: Principal, auth: AuthSettings) -> Principal:
    """The principal with the rights that its keys give it now.

    Raises:
        Forbidden: no key is theirs any more.
    """
    if not auth.api_keys:
        return principal
    keys = [principal_of(key) for key in auth.api_keys if _is_of(key, principal)]
    if not keys:
        raise Forbidden(f"no API key is of {principal.subject!r} any more")
    # Whose other keys can do more must not get that for what was written with this one.
    return replace(principal if principal in keys else reduce(_shared, keys), encryption=principal.encryption)


def principal_of(key: ApiKey) -> Principal:
    """Who shows a key."""
    return Principal(
        tenant=key.tenant,
        subject=key.subject,
        roles=frozenset(key.roles),
        permissions=frozenset(key.permissions),
    )


def _is_of(key: ApiKey, principal: Principal) -> bool:
    return (key.tenant, key.subject) == (principal.tenant, principal.subject)


def _shared(one: Principal, other: Principal) -> Principal:
    return Principal(
        tenant=one.tenant,
        subject=one.subject,
        roles=one.roles & other.roles,
        permissions=one.permissions & other.permissions,
    )
