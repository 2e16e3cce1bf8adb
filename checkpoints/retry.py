"""Tries again while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import DatabaseUnavailable

T = TypeVar("T")

PAUSES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 4.0)
"""Pauses between tries: a restart of Postgres takes seconds, a failover up to a quarter of a minute."""


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the database is there; what is called can be done twice without harm.

    Raises:
        DatabaseUnavailable: it did not come back.
    """
    for pause in PAUSES_S:
        try:
            return await call()
        except DatabaseUnavailable:
            await asyncio.sleep(pause)
    return await call()
