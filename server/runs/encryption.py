"""The encryption hook of a project, `langgraph_sdk.Encryption`: whether it is whole, and what it is told."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any, cast

import orjson
import structlog
from langgraph_sdk import Encryption
from langgraph_sdk.encryption.types import EncryptionContext

from ...tools.policy.permissions import Principal
from ..errors import Invalid, Refused, ServerError
from .hooks import NotAHook
from .user import RunUser

log = structlog.get_logger(__name__)

HEADER = "x-encryption-context"
"""Base64 of a JSON object, for projects without a context handler, or beside it."""

_DEADLINE_S = 10.0
_PAIRS = {
    "blob": ("checkpoints, events, results of tools", "_blob_encryptor", "_blob_decryptor"),
    "json": ("metadata, values, requests, items of the store", "_json_encryptor", "_json_decryptor"),
}


class EncryptionFailed(ServerError):
    """The project's encryption handlers failed."""

    code = "encryption_failed"

    def __init__(self, message: str, *, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


def checked_encryption(value: Any) -> Encryption | None:
    """The value of `encryption.path`, if what it encrypts it can also decrypt.

    Raises:
        NotAHook: it is something else, or lacks a handler.
    """
    if value is None:
        return None
    if not isinstance(value, Encryption):
        raise NotAHook(f"it is a {type(value).__name__}, not a `langgraph_sdk.Encryption`")
    for form, (what, encryptor, decryptor) in _PAIRS.items():
        encrypts, decrypts = getattr(value, encryptor) is not None, getattr(value, decryptor) is not None
        if encrypts and not decrypts:
            raise NotAHook(f"it has `encrypt.{form}`, and no `decrypt.{form}` to read that again")
        if not encrypts:
            log.warning("not_encrypted", what=what, advice=f"register a handler with `encrypt.{form}`")
    if value._json_encryptor is None and value._blob_encryptor is None:
        raise NotAHook("it has no handlers; register them with `encrypt.json` and `encrypt.blob`")
    return value


async def context_for(hook: Encryption, principal: Principal, header: str | None) -> Mapping[str, Any]:
    """What is stored for a caller's keys: that of the header, as the project's context handler makes of it.

    Raises:
        Invalid: the header is not what it must be.
        ServerError: the handler refuses, or fails.
    """
    given = _of_header(header)
    if hook._context_handler is None:
        return given
    user = cast("Any", RunUser(principal))
    try:
        async with asyncio.timeout(_DEADLINE_S):
            found: Any = await hook._context_handler(user, EncryptionContext(metadata=given))
            return _checked(found)
    # The handler is the project's code.
    except Exception as error:
        log.error("encryption_context_failed", subject=principal.subject, exc_info=error)
        status = getattr(error, "status_code", None)
        if isinstance(status, int):
            raise Refused(str(getattr(error, "detail", error)), status=status, headers={}) from error
        raise EncryptionFailed(
            f"the project's `encryption.context` failed: {type(error).__name__}"
        ) from error


def _of_header(header: str | None) -> dict[str, Any]:
    if not header:
        return {}
    try:
        found = orjson.loads(base64.b64decode(header, validate=True))
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"the header `{HEADER}` must be the base64 of a JSON object: {error}") from error
    if not isinstance(found, dict):
        raise Invalid(f"the header `{HEADER}` must be the base64 of a JSON object")
    return cast("dict[str, Any]", found)


def _checked(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise TypeError(f"it returned a {type(found).__name__}, not an object")
    return orjson.loads(orjson.dumps(dict(cast("Mapping[str, Any]", found))))
