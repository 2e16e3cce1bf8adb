"""The headers that an operator gives every webhook. Checked at the start, so nothing heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..webhook_settings import WebhookSettings

_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}")
_VARIABLE = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset({"content-length", "content-type", "host", "transfer-encoding", "user-agent"})


class HeadersInvalid(Exception):
    """`webhooks.headers` cannot be sent; the message names header and variable, never a value."""


def headers_of(settings: WebhookSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """The headers of every webhook, with the variables in them filled in.

    Raises:
        HeadersInvalid: a name or a value is no header, or a variable is missing or not to be named.
    """
    return {
        name: _filled(name, value.get_secret_value(), settings.env_prefix, environ)
        for name, value in settings.headers.items()
    }


def _filled(name: str, text: str, prefix: str, environ: Mapping[str, str]) -> str:
    if not _NAME.fullmatch(name):
        raise HeadersInvalid(f"`webhooks.headers`: {name!r} is not the name of a header")
    if name.lower() in _OURS or name.lower().startswith("webhook-"):
        raise HeadersInvalid(f"`webhooks.headers`: {name!r} is set by the server itself")

    def variable(found: re.Match[str]) -> str:
        named = _VARIABLE.fullmatch(found[1].strip())
        if named is None:
            raise HeadersInvalid(f"`webhooks.headers`: {name!r} may hold `${{{{ env.NAME }}}}` and no other")
        if not named[1].startswith(prefix):
            raise HeadersInvalid(
                f"`webhooks.headers`: {name!r} names the variable {named[1]!r}, which does not begin with "
                f"{prefix!r} (`webhooks.env_prefix`)"
            )
        if named[1] not in environ:
            raise HeadersInvalid(
                f"`webhooks.headers`: {name!r} names the variable {named[1]!r}, which is not set"
            )
        return environ[named[1]]

    filled = _TEMPLATE.sub(variable, text).strip()
    if not filled.isprintable() or not filled.isascii():
        raise HeadersInvalid(f"`webhooks.headers`: the value of {name!r} is not printable ASCII")
    return filled
