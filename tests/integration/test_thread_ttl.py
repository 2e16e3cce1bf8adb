"""How long threads are kept. Time passes by moving `expires_at` back in the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from interlock.checkpoints.database import Database
from interlock.server.runs.threads import sweep_expired

from .conftest import ServeApi

Until = Callable[..., Awaitable[Any]]
SWEEPS = {"sweep_interval_minutes": 0.005}


async def thread(http: httpx.AsyncClient, **fields: Any) -> str:
    response = await http.post("/threads", json=fields)
    assert response.status_code == 200, response.text
    return response.json()["thread_id"]


async def ttl_of(http: httpx.AsyncClient, thread_id: str) -> Any:
    return (await http.get(f"/threads/{thread_id}", params={"include": "ttl"})).json()["ttl"]


async def outlive(database: Database, *thread_ids: str) -> None:
    moved = await database.execute(
        b"UPDATE interlock.threads SET expires_at = now() - interval '1 second'"
        b" WHERE thread_id = ANY(%s::uuid[])",
        (list(thread_ids),),
    )
    assert moved == len(thread_ids)


async def run(http: httpx.AsyncClient, thread_id: str) -> dict[str, Any]:
    body = {"assistant_id": "abc", "input": {}}
    response = await http.post(f"/threads/{thread_id}/runs/wait", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def left_of(database: Database, thread_id: str) -> dict[str, int]:
    """How many rows of each table name a thread."""
    columns = await database.fetch_all(
        b"SELECT c.table_schema || '.' || c.table_name AS place FROM information_schema.columns c"
        b" JOIN information_schema.tables t USING (table_schema, table_name)"
        b" WHERE c.column_name = 'thread_id' AND t.table_type = 'BASE TABLE'"
    )
    found: dict[str, int] = {}
    for place in (row["place"] for row in columns):
        statement = f"SELECT count(*) AS n FROM {place} WHERE thread_id::text LIKE %s"
        row = await database.fetch_one(statement.encode(), (f"%{thread_id}",))
        assert row is not None
        found[place] = row["n"]
    assert len(found) > 5
    return {place: n for place, n in found.items() if n}


@pytest.mark.parametrize(
    ("given", "minutes", "strategy"),
    [
        (90, 90, "delete"),
        ({"ttl": 0.5}, 0.5, "delete"),
        ({"ttl": 10, "strategy": "keep_latest"}, 10, "keep_latest"),
    ],
)
async def test_a_thread_shows_how_long_it_is_kept_if_asked(
    http: httpx.AsyncClient, given: Any, minutes: float, strategy: str
) -> None:
    made = (await http.post("/threads", json={"ttl": given})).json()
    assert "ttl" not in made
    ttl = await ttl_of(http, made["thread_id"])
    assert (ttl["ttl_minutes"], ttl["strategy"]) == (minutes, strategy)
    expires, created = (datetime.fromisoformat(at) for at in (ttl["expires_at"], made["created_at"]))
    assert expires - created == timedelta(minutes=minutes)
    assert "ttl" not in (await http.get(f"/threads/{made['thread_id']}")).json()


async def test_a_thread_is_kept_for_ever_unless_somebody_says_otherwise(http: httpx.AsyncClient) -> None:
    thread_id = await thread(http)
    assert await ttl_of(http, thread_id) is None
    await http.patch(f"/threads/{thread_id}", json={"ttl": 5})
    assert (await ttl_of(http, thread_id))["ttl_minutes"] == 5
    refused = await http.get(f"/threads/{thread_id}", params={"include": "ttl,colour"})
    assert refused.status_code == 422
    assert "colour" in refused.json()["detail"]


@pytest.mark.parametrize("ttl", [0, -1, 5e-324, "soon", True, 1e12, {"ttl": 5, "strategy": "burn"}, {}])
async def test_a_time_that_makes_no_sense_is_refused(http: httpx.AsyncClient, ttl: Any) -> None:
    response = await http.post("/threads", json={"ttl": ttl})
    assert response.status_code == 422
    assert "ttl" in response.json()["detail"]
    assert (await http.post("/threads/count", json={})).json() == 0


async def test_the_time_counts_from_the_last_change(serve_api: ServeApi, database: Database) -> None:
    async with serve_api(worker=True) as http:
        thread_id = await thread(http, ttl=60)

        async def expires() -> str:
            return (await ttl_of(http, thread_id))["expires_at"]

        last = await expires()
        changes = [
            lambda: http.patch(f"/threads/{thread_id}", json={"metadata": {"a": 1}}),
            lambda: run(http, thread_id),
            lambda: http.post(f"/threads/{thread_id}/state", json={"values": {"trace": ["x"]}}),
        ]
        for change in changes:
            await change()
            earlier, last = last, await expires()
            assert last > earlier
        copy = (await http.post(f"/threads/{thread_id}/copy")).json()["thread_id"]
        assert (await ttl_of(http, copy))["ttl_minutes"] == 60


async def test_new_threads_have_the_default_time_however_they_are_made(serve_api: ServeApi) -> None:
    ttl = {"default_ttl": 7, "strategy": "keep_latest"}
    async with serve_api(worker=True, thread_ttl=ttl) as http:
        own, default = await thread(http, ttl=3), await thread(http)
        assert (await ttl_of(http, own))["ttl_minutes"] == 3
        body = {"assistant_id": "abc", "input": {}, "on_completion": "keep"}
        stateless = (await http.post("/runs", json=body)).json()["thread_id"]
        for thread_id in (default, stateless):
            shown = await ttl_of(http, thread_id)
            assert (shown["ttl_minutes"], shown["strategy"]) == (7, "keep_latest")


async def test_a_thread_that_is_deleted_leaves_no_row_anywhere(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    """O15."""
    async with serve_api(worker=True, thread_ttl=SWEEPS) as http:
        deleted, outlived = await thread(http), await thread(http, ttl=1)
        for thread_id in (deleted, outlived):
            for _ in range(10 if thread_id == deleted else 1):
                await run(http, thread_id)
            cron = {"assistant_id": "abc", "input": {}, "schedule": "0 0 1 1 *"}
            assert (await http.post(f"/threads/{thread_id}/runs/crons", json=cron)).status_code == 200
            assert "interlock.crons" in await left_of(database, thread_id)
        assert (await http.delete(f"/threads/{deleted}")).status_code == 204
        await outlive(database, outlived)

        async def gone() -> bool:
            return (await http.get(f"/threads/{outlived}")).status_code == 404

        await until(gone)
        for thread_id in (deleted, outlived):
            assert await left_of(database, thread_id) == {}


async def test_of_a_thread_that_keeps_its_latest_state_only_that_is_left_and_goes_on(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    """O15."""
    async with serve_api(worker=True, thread_ttl=SWEEPS) as http:
        thread_id = await thread(http, ttl={"ttl": 1, "strategy": "keep_latest"})
        await run(http, thread_id)
        latest = await run(http, thread_id)
        history = {"limit": 100}
        assert len((await http.post(f"/threads/{thread_id}/history", json=history)).json()) > 2
        await outlive(database, thread_id)

        async def cut() -> bool:
            return len((await http.post(f"/threads/{thread_id}/history", json=history)).json()) == 1

        await until(cut)
        assert (await http.get(f"/threads/{thread_id}/state")).json()["values"] == latest
        resting = await ttl_of(http, thread_id)
        assert (resting["ttl_minutes"], resting["expires_at"]) == (1, None)
        assert (await run(http, thread_id))["trace"] == [*latest["trace"], "A", "B", "C"]
        assert (await ttl_of(http, thread_id))["expires_at"] is not None


async def test_a_busy_thread_outlives_its_time(serve_api: ServeApi, database: Database, until: Until) -> None:
    """O15."""
    async with serve_api(worker=True, thread_ttl=SWEEPS) as http:
        busy, idle = await thread(http, ttl=1), await thread(http, ttl=1)
        later = {"assistant_id": "abc", "input": {}, "after_seconds": 3600}
        started = (await http.post(f"/threads/{busy}/runs", json=later)).json()
        await outlive(database, busy)
        await database.execute(b"UPDATE interlock.threads SET expires_at = expires_at - interval '1 hour'")

        async def idle_gone() -> bool:
            return (await http.get(f"/threads/{idle}")).status_code == 404

        await until(idle_gone)
        assert (await http.get(f"/threads/{busy}")).json()["status"] == "busy"
        await http.post(f"/threads/{busy}/runs/{started['run_id']}/cancel")
        await outlive(database, busy)

        async def busy_gone() -> bool:
            return (await http.get(f"/threads/{busy}")).status_code == 404

        await until(busy_gone)


async def test_one_round_deals_with_so_many_threads_and_no_more(
    serve_api: ServeApi, database: Database, until: Until
) -> None:
    limited = {"sweep_interval_minutes": 60, "sweep_limit": 2}
    async with serve_api(thread_ttl=limited) as http:
        await outlive(database, *[await thread(http, ttl=1) for _ in range(3)])
    async with serve_api(worker=True, thread_ttl=limited) as http:

        async def one_left() -> bool:
            return (await http.post("/threads/count", json={})).json() == 1

        await until(one_left)


async def test_busy_threads_take_nobody_elses_place_when_threads_expire(
    serve_api: ServeApi, database: Database
) -> None:
    async with serve_api(thread_ttl={"sweep_limit": 1}) as http:
        busy, idle = await thread(http, ttl=1), await thread(http, ttl=1)
        later = {"assistant_id": "abc", "input": {}, "after_seconds": 3600}
        assert (await http.post(f"/threads/{busy}/runs", json=later)).status_code == 200
        await outlive(database, busy)
        await database.execute(b"UPDATE interlock.threads SET expires_at = expires_at - interval '1 hour'")
        await outlive(database, idle)
        assert await sweep_expired(http.app.state.resources) == 1  # type: ignore[attr-defined]
        assert (await http.get(f"/threads/{idle}")).status_code == 404
        assert (await http.get(f"/threads/{busy}")).json()["status"] == "busy"


async def test_a_thread_that_cannot_be_deleted_keeps_no_other(
    serve_api: ServeApi, database: Database
) -> None:
    async with serve_api() as http:
        stuck, other = await thread(http, ttl=1, metadata={"stuck": True}), await thread(http, ttl=1)
        await database.execute(
            b"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            b" 'BEGIN RAISE EXCEPTION ''not this one''; END'"
        )
        await database.execute(
            b"CREATE TRIGGER stuck BEFORE DELETE ON interlock.threads FOR EACH ROW"
            b" WHEN (OLD.metadata ? 'stuck') EXECUTE FUNCTION refuse()"
        )
        await outlive(database, stuck)
        await database.execute(b"UPDATE interlock.threads SET expires_at = expires_at - interval '1 hour'")
        await outlive(database, other)
        assert await sweep_expired(http.app.state.resources) == 1  # type: ignore[attr-defined]
        assert (await http.get(f"/threads/{other}")).status_code == 404
        assert (await http.get(f"/threads/{stuck}")).status_code == 200
