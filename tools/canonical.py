"""Arguments as canonical JSON (RFC 8785) and their hash: what an approval and a ledger entry bind to."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import rfc8785

_SAFE_INTEGER = 2**53 - 1
_DEPTH_LIMIT = 64


class NotJson(ValueError):
    """A value has no JSON form that can be kept: a number that is not finite, a lone surrogate, NUL, an
    object of Python."""


class Canonical(NamedTuple):
    """Arguments in their one canonical form."""

    text: bytes
    hash: str
    """SHA-256 of `text`, hex."""


def canonical(arguments: dict[str, Any]) -> Canonical:
    """Bring arguments into canonical form.

    JSON numbers are doubles in RFC 8785. A whole number beyond 2^53 stands as an object in the
    canonical text instead of being rounded, so that two different ones never share a hash.

    Raises:
        NotJson: the arguments have no JSON form.
    """
    try:
        text = rfc8785.dumps(_exact(arguments, _DEPTH_LIMIT))
    except rfc8785.CanonicalizationError as error:
        raise NotJson(str(error)) from error
    return Canonical(text, hashlib.sha256(text).hexdigest())


def _exact(value: Any, depth: int) -> Any:
    if depth == 0:
        raise NotJson(f"nested more than {_DEPTH_LIMIT} levels deep")
    if isinstance(value, dict):
        return {_without_nul(k): _exact(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(v, depth - 1) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _SAFE_INTEGER:
        return {"$integer": str(value)}
    return _without_nul(value)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str) and "\0" in value:
        raise NotJson("a text holds a NUL character, which cannot be stored")
    return value
