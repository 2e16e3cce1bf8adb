"""Crons that the worker cannot make sense of, or the database refuses: they harm nobody but themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from interlock.checkpoints.database import Database

from .conftest import ServeApi, api_key
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

        await until(disabled, deadline_s=60)
        row = await row_of(database, broken)
        assert (row["next_run_at"], row["failure_count"]) == (None, 1)
        assert orjson.loads(row["last_failure"])["error"] == error
        await come_due(database, other)
        await until(lambda: runs(database), deadline_s=60)
        assert (await shown(http, other))["last_failure"] is None


async def test_a_firing_that_the_database_refuses_each_time_is_counted_until_the_cron_is_disabled(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True, crons={"max_failures": 2}) as http:
        refused, other = await create(http, metadata={"refuse": True}), await create(http)
        await database.execute(
            b"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            b" 'BEGIN RAISE EXCEPTION ''not this one''; END'"
        )
        await database.execute(
            b"CREATE TRIGGER refused BEFORE INSERT ON interlock.runs FOR EACH ROW"
            b" WHEN (NEW.metadata ? 'refuse') EXECUTE FUNCTION refuse()"
        )
        for failures in (1, 2):
            await come_due(database, refused, f"{failures} minutes")

            async def counted(failures: int = failures) -> bool:
                return (await shown(http, refused))["failure_count"] == failures

            await until(counted, deadline_s=60)
        after = await shown(http, refused)
        assert (after["enabled"], after["next_run_date"]) == (False, None)
        assert "not this one" in after["last_failure"]["message"]
        await come_due(database, other)
        await until(lambda: runs(database), deadline_s=60)


async def test_crons_of_one_tenant_that_cannot_fire_hold_up_those_of_no_other(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    keys = [api_key("a", "acme"), api_key("o", "other")]
    async with serve_api(worker=True, auth={"api_keys": keys}) as http:
        http.headers["x-api-key"] = "a"
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        cron = await create(http, f"/threads/{thread_id}/runs/crons")
        http.headers["x-api-key"] = "o"
        other = await create(http)
        await database.execute(
            b"INSERT INTO interlock.crons (tenant_id, cron_id, assistant_id, thread_id, schedule, payload,"
            b" principal, next_run_at)"
            b" SELECT tenant_id, gen_random_uuid(), assistant_id, thread_id, schedule, payload, principal,"
            b" next_run_at FROM interlock.crons, generate_series(1, 120) WHERE cron_id = %s",
            (cron["cron_id"],),
        )
        async with database.transaction() as connection:
            await connection.execute(
                b"SELECT FROM interlock.threads WHERE thread_id = %s FOR UPDATE", (thread_id,)
            )
            await database.execute(
                b"UPDATE interlock.crons SET next_run_at = now() - interval '1 hour' WHERE thread_id = %s",
                (thread_id,),
            )
            await come_due(database, other)
            (run,) = await until(lambda: runs(database), deadline_s=60)
            await database.execute(b"UPDATE interlock.crons SET enabled = false")
        assert run["tenant_id"] == "other"
