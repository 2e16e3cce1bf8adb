"""Fetches a page of an allowed host."""

from __future__ import annotations

import re
from typing import Annotated

import httpx
from pydantic import Field
from typing_extensions import TypedDict

from ..context import ToolContext
from ..egress import CheckedTransport
from ..errors import ToolFailed
from ..tool import tool

_MAX_BYTES = 1_000_000
_MAX_REDIRECTS = 3
_TIMEOUT = httpx.Timeout(10.0)
# Other codecs of Python are no character sets, or take their time: `punycode` is quadratic.
_CHARSETS = {
    *("utf-8", "utf-16", "us-ascii", "iso-8859-1", "iso-8859-2", "iso-8859-15", "koi8-r"),
    *("windows-1250", "windows-1251", "windows-1252"),
    *("shift_jis", "euc-jp", "euc-kr", "gb18030", "gbk", "big5"),
}
_NAME = re.compile(r"[\w/+.-]{1,100}", re.ASCII)
_TEXTUAL = ("text/", "application/json", "application/xml", "application/xhtml+xml", "+json", "+xml")


class Page(TypedDict):
    """What came back."""

    url: str
    status: int
    content_type: str
    text: str
    truncated: bool


@tool(effect="external", risk="low", permissions={"net:fetch"}, untrusted=True, timeout_s=30)
async def http_fetch(
    context: ToolContext,
    url: Annotated[str, Field(description="http or https address", max_length=2000)],
) -> Page:
    """Fetch the text of a web page or API by GET. Only hosts that the operator allowed can be reached."""
    try:
        address = httpx.URL(url)
        # Compressed bodies are not asked for: a small one could unpack into a very large one.
        async with (
            httpx.AsyncClient(
                transport=CheckedTransport(context.egress),
                timeout=_TIMEOUT,
                max_redirects=_MAX_REDIRECTS,
                follow_redirects=True,
                trust_env=False,
                headers={"accept-encoding": "identity", "user-agent": "interlock-http-fetch/1"},
            ) as client,
            client.stream("GET", address) as response,
        ):
            return await _read(response)
    except httpx.InvalidURL as error:
        raise ToolFailed(f"{url!r} is not a URL") from error
    except UnicodeError as error:
        # Of a redirect: where the first request goes has been checked.
        raise ToolFailed("it redirects to a host whose name cannot be resolved") from error
    except httpx.TooManyRedirects as error:
        raise ToolFailed(f"more than {_MAX_REDIRECTS} redirects") from error
    except httpx.HTTPError as error:
        raise ToolFailed(f"the host did not answer: {type(error).__name__}") from error


async def _read(response: httpx.Response) -> Page:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any(kind.startswith(t) or kind.endswith(t) for t in _TEXTUAL):
        # The header is the host's text, and this message is not marked as such.
        named = kind if _NAME.fullmatch(kind) else "missing or malformed"
        raise ToolFailed(f"the content type is {named}; only text can be fetched")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ToolFailed("the host sent a compressed body although none was asked for")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > _MAX_BYTES:
            break
    truncated = len(body) > _MAX_BYTES
    charset = (response.charset_encoding or "").lower()
    text = bytes(body[:_MAX_BYTES]).decode(charset if charset in _CHARSETS else "utf-8", errors="replace")
    return Page(
        url=str(response.url),
        status=response.status_code,
        content_type=kind,
        text=text,
        truncated=truncated,
    )
