"""Crons that are due. Time passes by moving them back in the table; nothing waits for a clock."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from interlock.checkpoints.database import Database
from interlock.server.resources import Resources
from interlock.server.runs.catalog import Catalog
from interlock.server.worker.crons import keep_firing

from .conftest import ServeApi, api_key
from .engine import working
from .test_project_auth import ALICE, as_user

Until = Callable[..., Awaitable[Any]]
KEYS = [api_key("a", "acme")]
QUICK = {"poll_s": 0.1, "lease_s": 3}


async def create(http: httpx.AsyncClient, path: str = "/runs/crons", **fields: Any) -> dict[str, Any]:
    body = {"assistant_id": "abc", "schedule": "0 9 * * *", "input": {}, "on_run_completed": None} | fields
    response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def come_due(database: Database, cron: dict[str, Any], ago: str = "1 second") -> None:
    moved = await database.execute(
        b"UPDATE interlock.crons SET next_run_at = now() - %s::interval WHERE cron_id = %s",
        (ago, cron["cron_id"]),
    )
    assert moved == 1


async def firings(database: Database) -> list[dict[str, Any]]:
    return await database.fetch_all(
        b"SELECT f.*, c.next_run_at FROM interlock.cron_firings f"
        b" JOIN interlock.crons c USING (tenant_id, cron_id) ORDER BY slot"
    )


async def runs(database: Database) -> list[dict[str, Any]]:
    return await database.fetch_all(b"SELECT * FROM interlock.runs ORDER BY created_at, run_id")


async def shown(http: httpx.AsyncClient, cron: dict[str, Any]) -> dict[str, Any]:
    return (await http.get(f"/runs/crons/{cron['cron_id']}")).json()


async def test_a_due_cron_starts_its_run_once_and_is_due_again_later(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True) as http:
        cron = await create(http, on_run_completed="keep", assistant_id="ident", metadata={"origin": "clock"})
        await come_due(database, cron)
        (fired,) = await until(lambda: firings(database))
        (run,) = await runs(database)
        assert fired["run_id"] == run["run_id"]
        assert fired["next_run_at"] > fired["slot"]
        thread_id = str(run["thread_id"])
        values = (await http.get(f"/threads/{thread_id}/runs/{run['run_id']}/join")).json()
        assert values["metadata_told"]["origin"] == "clock"
        seen = (await http.get(f"/threads/{thread_id}/runs/{run['run_id']}")).json()
        assert seen["kwargs"]["config"]["configurable"]["cron_id"] == cron["cron_id"]
        assert seen["metadata"]["cron_id"] == cron["cron_id"]
        assert seen["multitask_strategy"] == "enqueue"
        found = await http.post("/threads/search", json={"metadata": {"cron_id": cron["cron_id"]}})
        assert [thread["thread_id"] for thread in found.json()] == [thread_id]
        after = await shown(http, cron)
        assert (after["failure_count"], after["last_failure"], after["enabled"]) == (0, None, True)
        assert after["updated_at"] == cron["updated_at"]
        assert len(await runs(database)) == 1


async def test_the_thread_of_a_firing_goes_with_its_run_unless_it_is_kept(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True) as http:
        cron = await create(http)
        await come_due(database, cron)

        async def ended() -> bool:
            return any(run["status"] == "success" for run in await runs(database))

        await until(ended)
        assert (await http.post("/threads/count", json={})).json() == 0


async def test_what_a_run_can_be_asked_for_a_cron_can_ask_as_well(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    """O16."""
    async with serve_api(worker=True) as http:
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        cron = await create(
            http,
            f"/threads/{thread_id}/runs/crons",
            interrupt_before=["B"],
            durability="exit",
            stream_mode=["updates", "values"],
            config={"tags": ["nightly"], "recursion_limit": 7},
        )
        await come_due(database, cron)

        async def stopped() -> bool:
            return (await http.get(f"/threads/{thread_id}")).json()["status"] == "interrupted"

        await until(stopped)
        state = (await http.get(f"/threads/{thread_id}/state")).json()
        assert (state["next"], state["values"]["trace"]) == (["B"], ["A"])
        (run,) = (await http.get(f"/threads/{thread_id}/runs")).json()
        kwargs = run["kwargs"]
        assert (kwargs["durability"], kwargs["stream_mode"]) == ("exit", ["updates", "values"])
        assert (kwargs["config"]["tags"], kwargs["config"]["recursion_limit"]) == (["nightly"], 7)
        rest = await http.post(f"/threads/{thread_id}/runs/wait", json={"assistant_id": "abc", "input": None})
        assert rest.json()["trace"] == ["A", "B", "C"]


async def test_context_and_the_id_of_the_cron_do_not_contradict_each_other(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True) as http:
        cron = await create(http, context={"colour": "red"}, assistant_id="ident", on_run_completed="keep")
        await come_due(database, cron)
        (run,) = await until(lambda: runs(database))
        path = f"/threads/{run['thread_id']}/runs/{run['run_id']}"
        assert (await http.get(f"{path}/join")).json()["told"]["colour"] == "red"
        assert (await http.get(path)).json()["kwargs"]["context"] == {"colour": "red"}


async def test_a_busy_thread_holds_up_neither_its_cron_nor_the_others(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True) as http:
        threads = [(await http.post("/threads", json={})).json()["thread_id"] for _ in range(3)]
        later = {"assistant_id": "abc", "input": {}, "after_seconds": 3600}
        assert (await http.post(f"/threads/{threads[0]}/runs", json=later)).status_code == 200
        assert (await http.post(f"/threads/{threads[2]}/runs", json=later)).status_code == 200
        queues = await create(http, f"/threads/{threads[0]}/runs/crons")
        locked = await create(http, f"/threads/{threads[1]}/runs/crons")
        rejects = await create(http, f"/threads/{threads[2]}/runs/crons", multitask_strategy="reject")
        free = await create(http)
        async with database.transaction() as connection:
            await connection.execute(
                b"SELECT FROM interlock.threads WHERE thread_id = %s FOR UPDATE", (threads[1],)
            )
            for ago, cron in enumerate((free, rejects, queues, locked), start=1):
                await come_due(database, cron, f"{ago} seconds")

            async def three() -> bool:
                return len(await firings(database)) == 3

            await until(three)
            waiting = (await http.get(f"/threads/{threads[0]}/runs")).json()
            assert len(waiting) == 2
        await until(lambda: _length(firings(database), 4))
        refused = await shown(http, rejects)
        assert refused["last_failure"]["error"] == "Conflicting"
        assert refused["failure_count"] == 0, "a thread that is taken may be free the next time"


async def _length(rows: Awaitable[list[Any]], length: int) -> bool:
    return len(await rows) == length


async def test_of_several_workers_one_fires_and_a_time_is_never_used_twice(
    serve_api: ServeApi, database: Database, database_url: str, until: Until
) -> None:
    async with serve_api() as http:
        cron = await create(http, on_run_completed="keep")
    async with working(database_url, **QUICK), working(database_url, **QUICK), working(database_url, **QUICK):
        for round_ in range(1, 6):
            await come_due(database, cron)
            await until(lambda n=round_: _length(firings(database), n))
        slot = (await firings(database))[0]["slot"]
        await database.execute(b"UPDATE interlock.crons SET next_run_at = %s", (slot,))

        async def passed_over() -> bool:
            return (await firings(database))[0]["next_run_at"] > slot

        await until(passed_over)
        fired = await firings(database)
        assert len(fired) == len(await runs(database)) == 5
        assert len({row["run_id"] for row in fired}) == 5


@pytest.mark.parametrize(("catch_up", "expected"), [("skip", 0), ("once", 1), ("all", 3)])
async def test_after_a_standstill_the_setting_says_what_is_made_up_for(
    serve_api: ServeApi, database: Database, until: Until, catch_up: str, expected: int
) -> None:
    crons = {"catch_up": catch_up, "catch_up_limit": 3}
    async with serve_api(worker=True, crons=crons) as http:
        cron = await create(http)
        # Hours of day that are surely an hour or more away from now, whenever this runs.
        await database.execute(
            b"UPDATE interlock.crons SET schedule = extract(minute FROM now() - interval '20 minutes')::text"
            b" || ' ' || extract(hour FROM now() - interval '20 minutes')::text || ' * * *',"
            b" next_run_at = date_trunc('minute', now() - interval '20 minutes') - interval '9 days'"
        )

        async def caught_up() -> bool:
            row = await database.fetch_one(b"SELECT next_run_at > now() AS ahead FROM interlock.crons")
            return row is not None and row["ahead"]

        await until(caught_up)
        fired = await firings(database)
        assert len(fired) == len(await runs(database)) == expected
        assert len({row["slot"] for row in fired}) == expected
        assert (await shown(http, cron))["failure_count"] == 0


async def test_nothing_fires_after_the_end_and_the_last_time_is_the_last(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True) as http:
        cron = await create(http, schedule="* * * * *", end_time="2100-01-01T00:00:00Z")
        await database.execute(
            b"UPDATE interlock.crons"
            b" SET next_run_at = now() - interval '1 h', end_time = now() - interval '1 h'"
        )
        await until(lambda: firings(database))
        after = await shown(http, cron)
        assert (after["next_run_date"], after["enabled"]) == (None, True)
        assert len(await runs(database)) == 1


async def test_a_disabled_cron_does_not_fire(serve_api: ServeApi, database: Database, until: Until) -> None:
    async with serve_api(worker=True) as http:
        disabled, other = await create(http, enabled=False), await create(http)
        await come_due(database, disabled, "1 hour")
        await come_due(database, other)
        (fired,) = await until(lambda: firings(database))
        assert str(fired["cron_id"]) == other["cron_id"]


async def test_a_change_wakes_the_workers_at_once(
    serve_api: ServeApi, database: Database, database_url: str, until: Until
) -> None:
    async with serve_api() as http, working(database_url, poll_s=3600):
        cron = await create(http, schedule="0 0 1 1 *")
        await http.patch(f"/runs/crons/{cron['cron_id']}", json={"schedule": "* * * * * *"})
        await until(lambda: firings(database), deadline_s=30)


async def test_a_run_acts_for_the_owner_of_its_cron(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        http.headers["x-api-key"] = "a"
        await come_due(database, await create(http))
        (run,) = await until(lambda: runs(database))
        assert run["tenant_id"] == "acme"
        assert run["principal"]["subject"] == "acme user"


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ([api_key("x", "acme") | {"subject": "somebody else"}], "no API key is of 'acme user' any more"),
        ([api_key("a", "acme", "viewer")], "Forbidden"),
        ([api_key("a", "other")], "no API key is of 'acme user' any more"),
        ([api_key("b", "acme", "viewer"), api_key("c", "acme", "admin")], "Forbidden"),
    ],
)
async def test_an_owner_who_has_lost_the_right_starts_nothing_more(
    serve_api: ServeApi, database: Database, until: Until, now: list[dict[str, Any]], told: str
) -> None:
    async with serve_api(auth={"api_keys": KEYS}) as http:
        http.headers["x-api-key"] = "a"
        cron = await create(http)
    admin = api_key("root", "acme", "admin") | {"subject": "root"}
    settings = {"auth": {"api_keys": [*now, admin]}, "crons": {"max_failures": 2}}
    async with serve_api(worker=True, **settings) as http:
        http.headers["x-api-key"] = "root"
        for failures in (1, 2):
            await come_due(database, cron, f"{failures} minutes")

            async def refused(failures: int = failures) -> bool:
                return (await shown(http, cron))["failure_count"] == failures

            await until(refused)
        disabled = await shown(http, cron)
        assert told in disabled["last_failure"]["message"]
        assert disabled["last_failure"]["error"] == "Forbidden"
        assert (disabled["enabled"], disabled["next_run_date"]) == (False, None)
        assert await runs(database) == []
        again = await http.patch(f"/runs/crons/{cron['cron_id']}", json={"enabled": True})
        assert (again.json()["failure_count"], again.json()["last_failure"]) == (0, None)
        assert again.json()["user_id"] == "acme user"


async def test_an_owner_who_can_do_more_by_now_keeps_their_cron(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(auth={"api_keys": KEYS}) as http:
        http.headers["x-api-key"] = "a"
        cron = await create(http)
    async with serve_api(worker=True, auth={"api_keys": [api_key("n", "acme", "admin")]}):
        await come_due(database, cron)
        (run,) = await until(lambda: runs(database))
        assert run["principal"]["roles"] == ["admin"]


async def test_a_cron_that_cannot_be_read_is_reported_and_does_not_stop_the_others(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    async with serve_api(worker=True, crons={"max_failures": 1}) as http:
        broken, other = await create(http), await create(http)
        await database.execute(
            b"""UPDATE interlock.crons SET payload = '{"input": {}, "config": 7}' WHERE cron_id = %s""",
            (broken["cron_id"],),
        )
        await come_due(database, broken, "1 hour")
        await come_due(database, other)
        await until(lambda: runs(database))
        reported = await shown(http, broken)
        assert reported["last_failure"]["error"] == "AttributeError"
        assert reported["enabled"] is False
        assert (await shown(http, other))["last_failure"] is None


async def test_deleting_a_thread_while_its_cron_fires_leaves_neither(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    """O36."""
    async with serve_api(worker=True) as http:
        threads = [(await http.post("/threads", json={})).json()["thread_id"] for _ in range(8)]
        for thread_id in threads:
            await come_due(database, await create(http, f"/threads/{thread_id}/runs/crons"))
        deleted = await asyncio.gather(*(http.delete(f"/threads/{thread_id}") for thread_id in threads))
        assert {response.status_code for response in deleted} == {204}
        assert (await http.post("/runs/crons/count", json={})).json() == 0
        assert await runs(database) == []
        assert (await http.post("/threads/count", json={})).json() == 0


async def test_a_worker_that_is_woken_by_a_cron_while_it_stops_stops_all_the_same(
    serve_api: ServeApi, database: Database, until: Until, resources: Resources
) -> None:
    async with serve_api() as http:
        await create(http)
    watching = asyncio.create_task(keep_firing(resources))
    # It has looked, found the cron not due, and sleeps.
    await until(lambda: resources.wakeups.connected.is_set())
    await come_due(database, (await database.fetch_all(b"SELECT cron_id FROM interlock.crons"))[0])
    await until(lambda: firings(database))
    woken = asyncio.get_running_loop().create_future()
    resources.wakeups.listen("interlock_crons", lambda _: woken.done() or woken.set_result(None))
    woken.add_done_callback(lambda _: watching.cancel())
    await database.execute(b"SELECT pg_notify('interlock_crons', '')")
    await asyncio.wait({watching}, timeout=10)
    assert watching.cancelled()


async def test_the_handlers_of_a_project_are_asked_at_each_firing_and_name_the_owner(
    serve_api: ServeApi, database: Database, until: Until, guarded_catalog: Catalog
) -> None:
    asked = sys.modules[guarded_catalog.auth.authenticate.__module__].asked
    async with serve_api(worker=True, loaded=guarded_catalog, auth={"tenant_key": "org"}) as http:
        http.headers.update(ALICE)
        cron = await create(http, on_run_completed="keep")
        assert cron["metadata"]["owner"] == cron["user_id"]
        asked.clear()
        await come_due(database, cron)
        (run,) = await until(lambda: runs(database))
        assert [(user, action) for user, _, action, _ in asked if action == "create_run"] == [
            (cron["user_id"], "create_run")
        ]
        thread = (await http.get(f"/threads/{run['thread_id']}")).json()
        assert thread["metadata"]["owner"] == cron["user_id"]
        http.headers.update(as_user("alice", "deny:threads.create_run"))
        refused = await http.post(
            "/runs/crons", json={"assistant_id": "abc", "schedule": "0 9 * * *", "input": {}}
        )
        assert refused.status_code == 403
