"""Ends tasks that would go on for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_ASK_AGAIN_S = 1.0


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until each has ended: one that loses a cancel is asked again.

    Both the code of a project and `asyncio.wait_for` before Python 3.12 swallow some, and whoever waits for
    such a task would wait for ever.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_ASK_AGAIN_S)
