"""From the credentials of a request to a principal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from ...tools.policy.permissions import Principal
from ..errors import Unauthenticated
from ..runs.owners import principal_of
from ..settings import ApiKey

ANONYMOUS = Principal(tenant="default", subject="anonymous", roles=frozenset({"admin"}))
"""Everybody, on a server that asks for no credentials."""


OWN = Principal(tenant="default", subject="server", roles=frozenset({"admin"}))
"""The server itself, where code of the project calls it and works for nobody."""


class Authenticator:
    """Knows the API keys; without any, everybody is `ANONYMOUS`."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        # Looked up by digest, so the time it takes tells nothing about the secret.
        self._principals = {bytes.fromhex(key.sha256): principal_of(key) for key in keys}

    @property
    def tenants(self) -> frozenset[str]:
        """Tenants that are known before any request."""
        known = {principal.tenant for principal in self._principals.values()}
        return frozenset(known or {ANONYMOUS.tenant})

    @property
    def own_principal(self) -> Principal:
        """As whom code of the project calls this server when it works for nobody, such as at start."""
        return OWN if self._principals else ANONYMOUS

    def authenticate(self, headers: Mapping[str, str]) -> Principal:
        """Find who sent the headers. An empty credential counts as none; the first known one counts.

        Raises:
            Unauthenticated: keys are required, and none or a wrong one was given.
        """
        if not self._principals:
            return ANONYMOUS
        credentials = _credentials(headers)
        if not credentials:
            raise Unauthenticated("an API key is required; send it as `x-api-key` or `Authorization: Bearer`")
        for credential in credentials:
            if principal := self._principals.get(hashlib.sha256(credential.encode()).digest()):
                return principal
        raise Unauthenticated("the API key is not valid")


def _credentials(headers: Mapping[str, str]) -> list[str]:
    """What may be one of our keys, `x-api-key` first: the SDK sends a key of LangSmith's there unasked."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = (headers.get("x-api-key", ""), token if scheme.lower() == "bearer" else "")
    return [credential for one in given if (credential := one.strip())]
