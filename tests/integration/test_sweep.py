"""What the sweep removes, and what it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from interlock.checkpoints.notify import PRESENCE
from interlock.server.domain import Run
from interlock.server.records import queue
from interlock.server.resources import Resources
from interlock.server.runs import lifecycle
from interlock.server.runs.lifecycle import Drained, Finished
from interlock.server.settings import EventSettings
from interlock.server.worker import sweep

from .engine import claimed, current, events_of, start

Until = Callable[..., Awaitable[Any]]


async def ended(resources: Resources, **fields: Any) -> Any:
    run = await claimed(resources, await start(resources, **fields))
    await lifecycle.finish(resources, run, Finished(status="success", values=b"{}"))
    return run


async def age(resources: Resources, seconds: float) -> None:
    """Make everything older than it is."""
    await resources.database.execute(
        b"UPDATE interlock.runs SET ended_at = ended_at - make_interval(secs => %s)", (seconds,)
    )
    await resources.database.execute(
        b"UPDATE interlock.event_segments SET created_at = created_at - make_interval(secs => %s)", (seconds,)
    )


async def test_a_stateless_run_is_forgotten_after_its_grace_with_all_it_left(resources: Resources) -> None:
    gone = await ended(resources, thread_id=None)
    kept = await ended(resources)
    await resources.database.execute(
        b"INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES (%s, 'c', '{}')",
        (f"acme/{gone.thread_id}",),
    )
    await sweep.tidy(resources)
    assert await current(resources, gone) is not None
    await age(resources, sweep.TEMPORARY_GRACE_S + 1)
    await sweep.tidy(resources)
    assert await current(resources, gone) is None
    assert await events_of(resources, gone.thread_id) == []
    assert await resources.database.fetch_all(b"SELECT 1 FROM checkpoints") == []
    assert await current(resources, kept) is not None
    assert await events_of(resources, kept.thread_id)


async def test_a_thread_that_outlived_its_stateless_run_keeps_all_it_holds(resources: Resources) -> None:
    first = await start(resources, thread_id=None)
    second = await start(resources, thread_id=first.thread_id)
    for run in (first, second):
        await lifecycle.finish(
            resources, await claimed(resources, run), Finished(status="success", values=b"{}")
        )
    events = await events_of(resources, first.thread_id)
    await age(resources, sweep.TEMPORARY_GRACE_S + 1)
    await sweep.tidy(resources)
    assert await current(resources, first) is not None
    assert await events_of(resources, first.thread_id) == events


async def test_events_are_removed_after_their_retention_but_not_those_of_a_run_in_flight(
    resources: Resources,
) -> None:
    done = await ended(resources)
    waiting = await start(resources)
    brief = resources.settings.model_copy(update={"events": EventSettings(retention_s=60)})
    resources = replace(resources, settings=brief)
    await sweep.tidy(resources)
    assert await events_of(resources, done.thread_id)
    await age(resources, 61)
    await sweep.tidy(resources)
    assert await events_of(resources, done.thread_id) == []
    assert await events_of(resources, waiting.thread_id)


def nothing(_: Run) -> bool:
    """What a worker carries that has only begun."""
    return False


async def expire(resources: Resources) -> None:
    """Let all leases run out."""
    await resources.database.execute(
        b"UPDATE interlock.runs SET lease_until = now() - interval '1 second' WHERE status = 'running'"
    )


async def test_a_reclaim_leaves_living_leases_alone(resources: Resources) -> None:
    reclaim = sweep.Reclaim(carries=nothing, grace_s=0)
    alive = await claimed(resources, await start(resources))
    assert await reclaim.expired(resources) == 0
    await expire(resources)
    assert await reclaim.expired(resources) == 1
    row = await current(resources, alive)
    assert row is not None
    assert (row.status, row.crashes) == ("pending", 1)
    assert await reclaim.expired(resources) == 0


async def test_a_reclaim_leaves_what_its_own_worker_carries_to_that_worker(resources: Resources) -> None:
    mine = await claimed(resources, await start(resources))
    others = await claimed(resources, await start(resources))
    await expire(resources)
    reclaim = sweep.Reclaim(carries=lambda run: run.run_id == mine.run_id, grace_s=0)
    assert await reclaim.expired(resources) == 1
    left = await current(resources, mine)
    taken = await current(resources, others)
    assert left is not None
    assert taken is not None
    assert [(row.status, row.crashes) for row in (left, taken)] == [("running", 0), ("pending", 1)]


async def test_a_run_that_saves_a_step_between_the_deaths_of_its_workers_is_not_quarantined(
    resources: Resources,
) -> None:
    reclaim = sweep.Reclaim(carries=nothing, grace_s=0)
    run = await start(resources)
    for attempt in range(1, 6):
        await claimed(resources, run)
        await resources.database.execute(
            b"INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, metadata)"
            b" VALUES (%s, %s, '{}', jsonb_build_object('run_id', %s::text))",
            (f"acme/{run.thread_id}", str(attempt), str(run.run_id)),
        )
        await expire(resources)
        assert await reclaim.expired(resources) == 1
    row = await current(resources, run)
    assert row is not None
    assert (row.status, row.attempt, row.crashes) == ("pending", 5, 1)


async def test_after_an_outage_the_living_have_time_to_give_back_what_they_lost(
    resources: Resources, until: Until
) -> None:
    reclaim = sweep.Reclaim(carries=nothing, grace_s=0.5)
    run = await claimed(resources, await start(resources))
    await expire(resources)
    assert await reclaim.expired(resources) == 0
    await lifecycle.finish(resources, run, Drained())
    again = await claimed(resources, run)
    await expire(resources)
    await until(lambda: reclaim.expired(resources))
    row = await current(resources, again)
    assert row is not None
    assert (row.status, row.crashes) == ("pending", 1)


async def held_by(resources: Resources, worker_id: str) -> Run:
    run = await start(resources)
    async with resources.database.connection() as connection:
        (held,) = await queue.claim(connection, worker_id=worker_id, slots=1, lease_s=3)
    assert held.run_id == run.run_id
    return held


async def test_orphans_are_taken_back_at_boot_but_not_from_a_worker_that_lives_unconnected(
    resources: Resources, until: Until
) -> None:
    settings = resources.settings
    quick = settings.model_copy(update={"worker": settings.worker.model_copy(update={"lease_s": 3.0})})
    resources = replace(resources, settings=quick)
    dead, renewing, connecting = [await held_by(resources, name) for name in ("dead", "renews", "connects")]
    async with resources.database.connection() as session, asyncio.TaskGroup() as group:
        boot = group.create_task(sweep.reclaim_orphans(resources, carries=nothing))

        async def renewed_until_the_end() -> bool:
            await queue.renew(session, [queue.Lease(renewing)], lease_s=3)
            return boot.done()

        await session.execute(b"SELECT pg_advisory_lock(%s, hashtext('connects'))", (PRESENCE,))
        await until(renewed_until_the_end)
        await session.execute(b"SELECT pg_advisory_unlock_all()")
    rows = [await current(resources, run) for run in (dead, renewing, connecting)]
    assert [row and row.status for row in rows] == ["pending", "running", "running"]
