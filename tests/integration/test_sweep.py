"""What the sweep removes, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from interlock.server.resources import Resources
from interlock.server.runs import lifecycle
from interlock.server.runs.lifecycle import Finished
from interlock.server.settings import EventSettings
from interlock.server.worker import sweep

from .engine import claimed, current, events_of, start


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


async def test_a_reclaim_leaves_living_leases_alone(resources: Resources) -> None:
    alive = await claimed(resources, await start(resources))
    assert await sweep.reclaim(resources) == 0
    await resources.database.execute(b"UPDATE interlock.runs SET lease_until = now() - interval '1 second'")
    assert await sweep.reclaim(resources) == 1
    row = await current(resources, alive)
    assert row is not None
    assert (row.status, row.crashes) == ("pending", 1)
    assert await sweep.reclaim(resources) == 0
