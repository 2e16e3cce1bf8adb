"""The hot statements of the queue touch few rows, however long it is and whatever the planner knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from interlock.checkpoints.database import Database
from interlock.checkpoints.notify import PRESENCE
from interlock.checkpoints.queries import load_queries
from interlock.server.domain import Run
from interlock.server.records import queue, tidying

from .queue_rows import claim, enqueue

_PENDING = 10_000
_QUERIES = load_queries(queue.__file__)


_FILL_RUNS = b"""
INSERT INTO interlock.runs (
    tenant_id, thread_id, run_id, assistant_id, graph_id, status, multitask_strategy, kwargs, principal,
    first_seq, behind, run_at
)
SELECT
    'acme', md5('t' || (i %% %(threads)s))::uuid, md5('r' || i)::uuid, md5('a')::uuid, 'chat',
    CASE WHEN i < %(ended)s THEN 'success' ELSE 'pending' END, 'enqueue', '{}',
    '{"tenant": "acme", "subject": "ann", "roles": [], "permissions": [],
      "on_behalf_of": null, "attributes": {}}',
    i, i >= %(ended)s + %(threads)s, now() - interval '1 hour' + i * interval '1 ms'
FROM generate_series(0, %(last)s) AS i
"""


async def fill(database: Database, *, threads: int, ended: int = 0) -> None:
    """Queue 10,000 runs over some threads, each line in its order, after runs that have ended."""
    async with database.transaction() as connection:
        await connection.execute(
            b"INSERT INTO interlock.threads (tenant_id, thread_id)"
            b" SELECT 'acme', md5('t' || i)::uuid FROM generate_series(0, %s) AS i",
            (threads - 1,),
        )
        await connection.execute(
            _FILL_RUNS, {"threads": threads, "ended": ended, "last": ended + _PENDING - 1}
        )


async def rows_touched(database: Database, statement: bytes, parameters: Mapping[str, Any]) -> int:
    """How many rows the scans of a statement looked at; it is rolled back."""
    async with database.pool.connection() as connection, connection.transaction(force_rollback=True):
        cursor = await connection.execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
        row = await cursor.fetchone()
    assert row is not None
    return sum(_scanned(row["QUERY PLAN"][0]["Plan"]))


def _scanned(node: Mapping[str, Any]) -> Iterator[int]:
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        yield round((node["Actual Rows"] + removed) * node["Actual Loops"])
    for child in node.get("Plans", ()):
        yield from _scanned(child)


@pytest.mark.parametrize("threads", [10_000, 1_000, 100, 1])
@pytest.mark.parametrize("analysed", [False, True])
async def test_a_claim_touches_few_rows_of_a_long_queue(
    database: Database, threads: int, analysed: bool
) -> None:
    await fill(database, threads=threads)
    if analysed:
        async with database.connection() as connection:
            await tidying.analyse_if_never(connection)
    parameters = {"worker_id": "w", "slots": 10, "lease_s": 10}
    assert await rows_touched(database, _QUERIES.claim_runs, parameters) < _PENDING / 4
    assert len(await claim(database)) == min(10, threads)


async def test_a_claim_touches_few_rows_when_every_waiting_run_is_behind_a_running_one(
    database: Database,
) -> None:
    await fill(database, threads=50)
    assert len(await claim(database, 50)) == 50
    parameters = {"worker_id": "w", "slots": 10, "lease_s": 10}
    assert await rows_touched(database, _QUERIES.claim_runs, parameters) < 500


async def test_the_other_hot_statements_touch_few_rows_after_many_runs(database: Database) -> None:
    await fill(database, threads=1_000, ended=20_000)
    async with database.connection() as connection:
        await tidying.analyse_if_never(connection)
    (run, *_) = await claim(database)
    identity = {"tenant_id": "acme", "thread_id": run.thread_id, "run_id": run.run_id}
    mine = {
        "tenant_ids": ["acme"],
        "thread_ids": [run.thread_id],
        "run_ids": [run.run_id],
        "fences": [run.fence],
        "usages": [None],
        "lease_s": 10,
    }
    for name, parameters in {
        "renew_leases": mine,
        "expired_runs": {},
        "orphaned_runs": {"presence": PRESENCE},
        "inflight_runs": identity,
        "serve_next": identity,
        "get_run": identity | {"held": None},
        "run_by_key": identity | {"idempotency_key": "k"},
        "hand_back_run": identity | {"fence": run.fence, "usage": None},
    }.items():
        assert await rows_touched(database, getattr(_QUERIES, name), parameters) < 1_000, name


async def test_many_tenants_are_served_in_turn(database: Database) -> None:
    tenants = [f"tenant-{number:03}" for number in range(40)]
    for tenant in tenants:
        for _ in range(3):
            await enqueue(database, tenant=tenant, thread_id=None)
    served = [run.tenant_id for run in await claim(database, 40)]
    assert sorted(served) == tenants


async def test_groups_of_a_tenant_are_served_in_turn_and_tenants_before_groups(database: Database) -> None:
    for group in ("a", "b", "c"):
        for _ in range(4):
            await enqueue(database, tenant="crowded", group=group)
    quiet = [await enqueue(database, tenant="quiet") for _ in range(2)]
    urgent = await enqueue(database, tenant="crowded", group="a", priority=-1)
    first = await claim(database, 5)
    assert urgent.run_id in {run.run_id for run in first}
    assert {run.run_id for run in quiet} <= {run.run_id for run in first}
    second = await claim(database, 4)
    groups = Counter(await groups_of(database, [*first, *second]))
    assert groups == {"a": 3, "b": 2, "c": 2, "default": 2}


async def groups_of(database: Database, runs: list[Run]) -> list[str]:
    async with database.connection() as connection:
        cursor = await connection.execute(
            b"SELECT fairness_group FROM interlock.runs WHERE run_id = ANY(%s)", ([r.run_id for r in runs],)
        )
        return [row["fairness_group"] for row in await cursor.fetchall()]
