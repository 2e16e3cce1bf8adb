"""Crons that the worker cannot make sense of, or the database refuses: they harm nobody but themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from interlock.checkpoints.database import Database

from .conftest import ServeApi
from .test_cron_firing import come_due, create, runs, shown

Until = Callable[..., Awaitable[Any]]


async def row_of(database: Database, cron: dict[str, Any]) -> dict[str, Any]:
    found = await database.fetch_one(b"SELECT * FROM interlock.crons WHERE cron_id = %s", (cron["cron_id"],))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (b"timezone = 'Europe/Newname'", "Invalid"),
        (b"schedule = 'whenever'", "Invalid"),
        (b"payload = '{'", "JSONDecodeError"),
        (b"principal = '[]'", "TypeError"),
    ],
)
async def test_a_cron_that_cannot_be_planned_is_disabled_and_the_worker_goes_on(
    serve_api: ServeApi, database: Database, until: Until, damage: bytes, error: str
) -> None:
    """As when the time zones of a host are older than those of the one that took the cron."""
    async with serve_api(worker=True) as http:
        broken, other = await create(http), await create(http)
        await database.execute(
            b"UPDATE interlock.crons SET " + damage + b" WHERE cron_id = %s", (broken["cron_id"],)
        )
        await come_due(database, broken, "1 hour")

        async def disabled() -> bool:
            return not (await row_of(database, broken))["enabled"]

        await until(disabled)
        row = await row_of(database, broken)
        assert (row["next_run_at"], row["failure_count"]) == (None, 1)
        assert orjson.loads(row["last_failure"])["error"] == error
        await come_due(database, other)
        await until(lambda: runs(database))
        assert (await shown(http, other))["last_failure"] is None
