"""Cancelling, rolling back and deleting runs, in every state they can be in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from interlock.checkpoints.errors import FenceLost
from interlock.server.domain import CancelAction
from interlock.server.errors import NotFound
from interlock.server.records.event_log import NewEvent
from interlock.server.resources import Resources
from interlock.server.runs import cancel, lifecycle, state
from interlock.server.runs.lifecycle import Finished

from .engine import ANN, claimed, current, events_of, start, thread_of, told, working

Until = Callable[..., Awaitable[Any]]
ACTIONS: list[CancelAction] = ["interrupt", "rollback"]


async def stop(resources: Resources, run: Any, action: CancelAction = "interrupt", **more: Any) -> None:
    await cancel.cancel(resources, ANN, thread_id=run.thread_id, run_id=run.run_id, action=action, **more)


async def test_a_pending_run_ends_at_once_and_its_thread_stays_as_it_was(resources: Resources) -> None:
    run = await start(resources)
    await stop(resources, run)
    row = await current(resources, run)
    assert row is not None
    assert row.status == "interrupted"
    assert told(await events_of(resources, run.thread_id)) == [
        ("run.created", None),
        ("run.ended", "interrupted"),
    ]
    thread = await thread_of(resources, run)
    assert thread is not None
    assert (thread.status, thread.error) == ("idle", None)


async def test_a_running_run_ends_at_once_and_its_worker_is_shut_out(resources: Resources) -> None:
    run = await claimed(resources, await start(resources))
    await stop(resources, run, reason="stop button")
    row = await current(resources, run)
    assert row is not None
    assert (row.status, row.cancel_reason, row.lease_until) == ("interrupted", "stop button", None)
    thread = await thread_of(resources, run)
    assert thread is not None
    assert thread.status == "interrupted"
    assert thread.error == {"error": "UserInterrupt", "message": "stop button"}
    assert run.fence is not None
    with pytest.raises(FenceLost):
        await resources.event_log.append(
            tenant_id="acme",
            thread_id=run.thread_id,
            run_id=run.run_id,
            fence=run.fence,
            events=[NewEvent(kind="custom", data=b"1")],
        )
    with pytest.raises(FenceLost):
        await lifecycle.finish(resources, run, Finished(status="success"))
    assert told(await events_of(resources, run.thread_id))[-1] == ("run.ended", "interrupted")


async def test_the_thread_shows_the_state_in_which_its_run_was_stopped(
    database_url: str, until: Until
) -> None:
    async with working(database_url) as (_, resources):
        run = await start(resources, "slow", input={"steps": 100, "seconds": 0.05})

        async def two_steps_are_done() -> bool:
            left = await state.read(resources, ANN, thread_id=run.thread_id)
            return len(left["values"].get("done", [])) >= 2

        await until(two_steps_are_done)
        await stop(resources, run)
        thread = await thread_of(resources, run)
        left = await state.read(resources, ANN, thread_id=run.thread_id)
    assert thread is not None
    assert thread.status == "interrupted"
    assert thread.error is not None
    assert thread.values == left["values"]
    assert left["next"] == ["step"]


@pytest.mark.parametrize("running", [False, True])
async def test_rollback_leaves_no_trace_of_the_run(resources: Resources, running: bool) -> None:
    before = await claimed(resources, await start(resources))
    await lifecycle.finish(resources, before, Finished(status="success", values=b'{"kept": 1}'))
    run = await start(resources, thread_id=before.thread_id)
    if running:
        run = await claimed(resources, run)
    await stop(resources, run, "rollback")
    assert await current(resources, run) is None
    assert run.run_id not in {event.run_id for event in await events_of(resources, run.thread_id)}
    thread = await thread_of(resources, run)
    assert thread is not None
    assert (thread.status, thread.values) == ("idle", {"kept": 1})
    assert await current(resources, before) is not None


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_ended_or_unknown_run_is_not_found(resources: Resources, action: CancelAction) -> None:
    run = await claimed(resources, await start(resources))
    await lifecycle.finish(resources, run, Finished(status="success"))
    with pytest.raises(NotFound, match="Run not found"):
        await stop(resources, run, action)
    with pytest.raises(NotFound):
        await stop(resources, replace(run, run_id=uuid4()), action)
    with pytest.raises(NotFound):
        await stop(resources, replace(run, thread_id=uuid4()), action)


async def test_another_tenant_cannot_cancel(resources: Resources) -> None:
    run = await start(resources)
    bob = replace(ANN, tenant="other")
    with pytest.raises(NotFound):
        await cancel.cancel(resources, bob, thread_id=run.thread_id, run_id=run.run_id)
    assert await cancel.cancel_many(resources, bob, status="all") == 0
    row = await current(resources, run)
    assert row is not None
    assert row.status == "pending"


@pytest.mark.parametrize("action", ACTIONS)
async def test_the_next_run_of_the_line_is_served_after_a_cancel(
    resources: Resources, action: CancelAction
) -> None:
    first = await claimed(resources, await start(resources))
    second = await start(resources, thread_id=first.thread_id)
    third = await start(resources, thread_id=first.thread_id)
    await stop(resources, second, action)
    await stop(resources, first, action)
    assert (await claimed(resources, third)).run_id == third.run_id


async def test_many_are_stopped_by_id_and_only_those(resources: Resources) -> None:
    first = await claimed(resources, await start(resources))
    second = await start(resources, thread_id=first.thread_id)
    other = await start(resources)
    ids = [second.run_id, other.run_id, uuid4()]
    assert await cancel.cancel_many(resources, ANN, thread_id=first.thread_id, run_ids=ids) == 1
    statuses = [row.status for run in (first, second, other) if (row := await current(resources, run))]
    assert statuses == ["running", "interrupted", "pending"]


async def test_many_are_stopped_by_status_and_only_those(resources: Resources) -> None:
    running = await claimed(resources, await start(resources))
    behind = await start(resources, thread_id=running.thread_id)
    waiting = await start(resources)
    assert await cancel.cancel_many(resources, ANN, status="pending") == 2
    statuses = [row.status for run in (running, behind, waiting) if (row := await current(resources, run))]
    assert statuses == ["running", "interrupted", "interrupted"]
    assert await cancel.cancel_many(resources, ANN, status="all") == 1
    assert await cancel.cancel_many(resources, ANN, status="all") == 0


async def test_workers_hear_of_a_cancel_only_for_what_runs(resources: Resources, until: Until) -> None:
    heard: list[str] = []
    resources.wakeups.listen("interlock_cancel", heard.append)
    await until(lambda: heard == [""])
    await stop(resources, await start(resources))
    run = await claimed(resources, await start(resources))
    await stop(resources, run)
    await until(lambda: len(heard) > 1)
    assert heard[1:] == [str(run.run_id)]


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_cancelled_stateless_run_takes_its_thread_along(
    resources: Resources, action: CancelAction
) -> None:
    run = await start(resources, thread_id=None)
    await stop(resources, run, action)
    assert await thread_of(resources, run) is None


async def test_a_deleted_run_is_gone_and_what_it_wrote_stays(resources: Resources) -> None:
    ended = await claimed(resources, await start(resources))
    await lifecycle.finish(resources, ended, Finished(status="success", values=b'{"x": 1}'))
    running = await claimed(resources, await start(resources, thread_id=ended.thread_id))
    for run in (ended, running):
        await cancel.delete(resources, ANN, thread_id=run.thread_id, run_id=run.run_id)
        assert await current(resources, run) is None
        with pytest.raises(NotFound, match="Run not found"):
            await cancel.delete(resources, ANN, thread_id=run.thread_id, run_id=run.run_id)
    thread = await thread_of(resources, ended)
    assert thread is not None
    assert (thread.status, thread.values) == ("idle", {"x": 1})
    with pytest.raises(FenceLost):
        await lifecycle.finish(resources, running, Finished(status="success"))
