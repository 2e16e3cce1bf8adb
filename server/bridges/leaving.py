"""An answer whose status is known only when it is made, for a client that may leave meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
from fastapi import Request

from ..api.held import LEAVE_DEADLINE_S, OnLeave

Made = TypeVar("Made")

CLIENT_LEFT = 499
"""Status of a response that nobody reads."""


async def unless_left(request: Request, answer: Coroutine[Any, Any, Made], on_leave: OnLeave) -> Made | None:
    """Wait for an answer; None when the client leaves first, once what its leaving does is done."""
    making = asyncio.create_task(answer)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({making, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if making.done():
            return making.result()
        with anyio.move_on_after(LEAVE_DEADLINE_S, shield=True):
            await on_leave()
        return None
    finally:
        making.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
