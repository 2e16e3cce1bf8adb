"""Who opens a WebSocket, from which page, and with which subprotocol."""

from __future__ import annotations

import re

from starlette.websockets import WebSocket

from ..errors import Forbidden
from ..runs.scope import Rule
from ..settings import CorsSettings
from .callers import OFFERED_KEY, Caller, Guard

SUBPROTOCOL = "interlock"
_may_read_threads = Guard(Rule("threads", "read"))


async def accept(websocket: WebSocket) -> None:
    """Complete the handshake; a browser gives up where none of its subprotocols is chosen."""
    offered: list[str] = websocket.scope.get("subprotocols", [])
    open_ones = [name for name in offered if not name.startswith(OFFERED_KEY)]
    chosen = SUBPROTOCOL if SUBPROTOCOL in open_ones else next(iter(open_ones or offered), None)
    await websocket.accept(subprotocol=chosen)


async def caller_of(websocket: WebSocket) -> Caller:
    """Find who opened a connection, and see to it that it may read threads.

    Raises:
        Unauthenticated: a key is required, and none or a wrong one was given.
        Forbidden: the caller may not read threads, or the page is not one that may call.
    """
    _allow_origin(websocket.headers.get("origin"), websocket.app.state.settings.http.cors)
    return await _may_read_threads(websocket)


def _allow_origin(origin: str | None, cors: CorsSettings) -> None:
    """Browsers ask nobody before they open a WebSocket: what CORS forbids has to be refused here."""
    if origin is None or "*" in cors.allow_origins or origin in cors.allow_origins:
        return
    if cors.allow_origin_regex is None or not re.fullmatch(cors.allow_origin_regex, origin):
        raise Forbidden(f"pages of {origin!r} may not call: see `http.cors.allow_origins`")
