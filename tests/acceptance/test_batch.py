"""Many runs in one request, created and cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from langgraph_sdk.client import LangGraphClient

Until = Callable[..., Awaitable[Any]]
LONG = {"steps": 100, "seconds": 0.2}


def count_runs(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(*) FROM interlock.runs").fetchone()
        assert row is not None
        return row[0]


async def test_batch_creates_all_runs_in_order_or_none(
    client: LangGraphClient, http: httpx.AsyncClient, shared_database_url: str
) -> None:
    """O27."""
    entries = [
        {"assistant_id": graph, "input": {}, "metadata": {"n": n}, "on_completion": "keep"}
        for n, graph in enumerate(["abc", "hitl", "abc"])
    ]
    runs = (await http.post("/runs/batch", json=entries)).json()
    assert [run["metadata"]["n"] for run in runs] == [0, 1, 2]
    assert len({run["thread_id"] for run in runs}) == 3
    for run in runs:
        await client.runs.join(run["thread_id"], run["run_id"])

    before = count_runs(shared_database_url)
    bad = [entries[0], entries[1] | {"assistant_id": "no-such-graph"}, entries[2]]
    refused = await http.post("/runs/batch", json=bad)
    assert refused.status_code == 422
    assert "no-such-graph" in refused.json()["detail"]
    assert (await http.post("/runs/batch", json=[])).status_code == 422
    assert count_runs(shared_database_url) == before


async def test_bulk_cancel_stops_only_what_matches(
    client: LangGraphClient, http: httpx.AsyncClient, until: Until
) -> None:
    """O27: by ids, by status, and both together are refused."""
    threads = [(await client.threads.create())["thread_id"] for _ in range(2)]
    mine, other = [await client.runs.create(thread, "slow", input=LONG) for thread in threads]
    queued = await client.runs.create(threads[0], "slow", input=LONG)

    both = {"thread_id": threads[0], "run_ids": [mine["run_id"]], "status": "all"}
    assert (await http.post("/runs/cancel", json=both)).status_code == 422
    assert (await http.post("/runs/cancel", json={})).status_code == 422
    unknown = {"thread_id": threads[0], "run_ids": [str(uuid4())]}
    assert (await http.post("/runs/cancel", json=unknown)).status_code == 404
    foreign = {"thread_id": threads[0], "run_ids": [other["run_id"]]}
    assert (await http.post("/runs/cancel", json=foreign)).status_code == 404

    async def statuses() -> list[str]:
        pairs = [(threads[0], mine), (threads[0], queued), (threads[1], other)]
        return [(await client.runs.get(thread, run["run_id"]))["status"] for thread, run in pairs]

    await until(statuses_are(statuses, ["running", "pending", "running"]))
    assert (await http.post("/runs/cancel", json={"status": "pending"})).status_code == 204
    await until(statuses_are(statuses, ["running", "interrupted", "running"]))
    ids = {"thread_id": threads[0], "run_ids": [mine["run_id"]]}
    assert (await http.post("/runs/cancel", json=ids)).status_code == 204
    await until(statuses_are(statuses, ["interrupted", "interrupted", "running"]))
    assert (await http.post("/runs/cancel", json={"status": "all"})).status_code == 204
    await until(statuses_are(statuses, ["interrupted", "interrupted", "interrupted"]))
    assert (await http.post("/runs/cancel", json={"status": "running"})).status_code == 404


def statuses_are(
    statuses: Callable[[], Awaitable[list[str]]], wanted: list[str]
) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await statuses() == wanted

    return check
