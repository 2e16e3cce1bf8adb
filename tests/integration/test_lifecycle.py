"""The ends of a run: each one transaction, fenced, with exactly one last event."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from interlock.checkpoints.errors import FenceLost
from interlock.server.domain import Run, ThreadStatus
from interlock.server.resources import Resources
from interlock.server.runs import lifecycle
from interlock.server.runs.lifecycle import Crashed, Drained, Finished, LeaseLost, Outcome
from interlock.server.worker.execute import execute
from interlock.server.worker.stop import Stop
from interlock.tools.policy.budget import Limit

from .engine import claimed, current, events_of, start, thread_of, told

BOOM = {"error": "ValueError", "message": "boom"}


async def running(resources: Resources, **fields: Any) -> Run:
    return await claimed(resources, await start(resources, **fields))


async def end(resources: Resources, run: Run, outcome: Outcome) -> None:
    """End a run; one that breaks off does so until it is quarantined."""
    await lifecycle.finish(resources, run, outcome)
    while (row := await current(resources, run)) is not None and row.status == "pending":
        await lifecycle.finish(resources, await claimed(resources, run), outcome)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Finished(status="success", values=b'{"a": 1}'), "idle"),
        (Finished(status="success", values=b'{"a": 1}', next=("B",)), "interrupted"),
        (
            Finished(status="success", interrupts={"task": [{"id": "i", "value": "?"}]}, next=("B",)),
            "interrupted",
        ),
        (Finished(status="error", error=BOOM), "error"),
        (Finished(status="timeout", error=BOOM), "error"),
        (Finished(status="interrupted"), "interrupted"),
    ],
)
async def test_the_thread_rests_where_its_run_left_it(
    resources: Resources, outcome: Finished, status: ThreadStatus
) -> None:
    run = await running(resources)
    await lifecycle.finish(resources, run, outcome)
    row, thread = await current(resources, run), await thread_of(resources, run)
    assert row is not None
    assert thread is not None
    assert (row.status, row.error, thread.status, thread.error) == (
        outcome.status,
        outcome.error,
        status,
        outcome.error,
    )
    assert thread.interrupts == dict(outcome.interrupts)
    assert thread.values == ({"a": 1} if outcome.values else None)
    assert told(await events_of(resources, run.thread_id)) == [
        ("run.created", None),
        ("run.ended", outcome.status),
    ]


async def test_a_good_run_clears_the_error_of_the_one_before(resources: Resources) -> None:
    run = await running(resources)
    await lifecycle.finish(resources, run, Finished(status="success", values=b'{"kept": 1}'))
    run = await running(resources, thread_id=run.thread_id)
    await lifecycle.finish(resources, run, Finished(status="error", error=BOOM))
    thread = await thread_of(resources, run)
    assert thread is not None
    assert (thread.error, thread.values) == (BOOM, {"kept": 1})
    run = await running(resources, thread_id=run.thread_id)
    await lifecycle.finish(resources, run, Finished(status="success"))
    thread = await thread_of(resources, run)
    assert thread is not None
    assert (thread.error, thread.status) == (None, "idle")


async def test_values_that_jsonb_cannot_hold_come_back_exactly(resources: Resources) -> None:
    run = await running(resources)
    await lifecycle.finish(
        resources,
        run,
        Finished(
            status="error", values=b'{"text":"nul\\u0000end"}', error={"error": "E", "message": "a\x00b"}
        ),
    )
    row, thread = await current(resources, run), await thread_of(resources, run)
    assert row is not None
    assert thread is not None
    assert thread.values == {"text": "nul\x00end"}
    assert thread.error == row.error == {"error": "E", "message": "a\x00b"}


async def test_usage_is_stored_with_the_end(resources: Resources) -> None:
    run = await running(resources)
    await lifecycle.finish(resources, run, Finished(status="success", usage={"steps": 3}))
    row = await current(resources, run)
    assert row is not None
    assert row.usage == {"steps": 3}


async def test_a_run_ends_once(resources: Resources) -> None:
    run = await running(resources)
    await lifecycle.finish(resources, run, Finished(status="success"))
    for again in (Finished(status="error", error=BOOM), Drained(), Finished(status="success")):
        with pytest.raises(FenceLost):
            await lifecycle.finish(resources, run, again)
    assert told(await events_of(resources, run.thread_id)).count(("run.ended", "success")) == 1


@pytest.mark.parametrize("outcome", [Finished(status="success"), Drained(), Crashed(cause="x"), LeaseLost()])
async def test_nothing_is_written_once_the_lease_is_lost(resources: Resources, outcome: Outcome) -> None:
    old = await running(resources)
    await lifecycle.hand_back(resources, old, usage=None)
    new = await claimed(resources, old)
    events = await events_of(resources, old.thread_id)
    with contextlib.suppress(FenceLost):
        await lifecycle.finish(resources, old, outcome)
    row = await current(resources, old)
    assert row is not None
    assert (row.status, row.fence, row.crashes) == ("running", new.fence, 0)
    assert await events_of(resources, old.thread_id) == events


async def test_a_drained_run_goes_on_elsewhere_at_no_cost(resources: Resources) -> None:
    run = await running(resources)
    await lifecycle.finish(resources, run, Drained(usage={"steps": 2}))
    again = await claimed(resources, run)
    assert (again.attempt, again.crashes, again.usage) == (2, 0, {"steps": 2})


async def test_a_run_that_breaks_off_three_times_is_quarantined(resources: Resources) -> None:
    run = await start(resources)
    behind = await start(resources, thread_id=run.thread_id)
    for attempt in range(1, 4):
        run = await claimed(resources, run)
        assert run.attempt == attempt
        await lifecycle.finish(resources, run, Crashed(cause="SIGKILL"))
    row, thread = await current(resources, run), await thread_of(resources, run)
    assert row is not None
    assert thread is not None
    assert (row.status, row.crashes) == ("error", 3)
    assert row.error is not None
    assert row.error["error"] == "WorkerCrashed"
    assert "SIGKILL" in row.error["message"]
    assert thread.error == row.error
    assert told(await events_of(resources, run.thread_id)).count(("run.ended", "error")) == 1
    assert (await claimed(resources, behind)).run_id == behind.run_id


async def test_a_stateless_run_takes_its_thread_along_and_leaves_its_end_to_read(
    resources: Resources,
) -> None:
    run = await running(resources, thread_id=None)
    await lifecycle.finish(resources, run, Finished(status="success", values=b"{}"))
    assert await thread_of(resources, run) is None
    row = await current(resources, run)
    assert row is not None
    assert row.status == "success"
    assert told(await events_of(resources, run.thread_id))[-1] == ("run.ended", "success")


@pytest.mark.parametrize(
    "outcome",
    [Finished(status="timeout", error=BOOM), Crashed(cause="SIGKILL")],
    ids=["timeout", "quarantine"],
)
async def test_the_thread_shows_the_state_in_which_a_run_ended_without_telling(
    resources: Resources, outcome: Outcome
) -> None:
    """Half of its superstep asks a person, the other half never ended."""
    before = await running(resources)
    await lifecycle.finish(resources, before, Finished(status="success", values=b'{"old": 1}'))
    run = await running(resources, graph="hitl", input={}, thread_id=before.thread_id)
    asked = await execute(resources, run, Stop())
    assert isinstance(asked, Finished)
    await end(resources, run, outcome)
    thread = await thread_of(resources, run)
    assert thread is not None
    assert (thread.status, thread.values, thread.interrupts) == ("error", {"before": 1}, asked.interrupts)
    assert thread.left_by is not None
    assert thread.left_by.checkpoint_id == asked.checkpoint_id


@pytest.mark.parametrize("outcome", [Finished(status="timeout", error=BOOM), Crashed(cause="SIGKILL")])
async def test_a_run_ends_though_its_state_cannot_be_looked_at(
    resources: Resources, outcome: Outcome
) -> None:
    run = await running(resources)
    await resources.database.execute(
        b'UPDATE interlock.threads SET metadata = \'{"graph_id": "no such graph"}\''
    )
    await end(resources, run, outcome)
    thread = await thread_of(resources, run)
    assert thread is not None
    assert thread.status == "error"


@pytest.mark.parametrize("quarantined", [False, True])
async def test_a_run_queued_on_the_thread_of_a_stateless_run_is_served_when_that_one_ends(
    resources: Resources, quarantined: bool
) -> None:
    first = await start(resources, thread_id=None)
    second = await start(resources, thread_id=first.thread_id)
    for _ in range(3 if quarantined else 1):
        first = await claimed(resources, first)
        outcome = Crashed(cause="SIGKILL") if quarantined else Finished(status="success", values=b"{}")
        await lifecycle.finish(resources, first, outcome)
    second = await claimed(resources, second)
    await lifecycle.finish(resources, second, Finished(status="success", values=b'{"kept": 1}'))
    thread = await thread_of(resources, second)
    assert thread is not None
    assert thread.values == {"kept": 1}


async def test_a_budget_pause_asks_a_person_and_shows_it_on_the_thread(resources: Resources) -> None:
    run = await running(resources, config={"budget": {"steps": 2}})
    await lifecycle.finish(
        resources,
        run,
        Finished(
            status="success",
            next=("B",),
            usage={"steps": 2},
            budget_pause=Limit(dimension="steps", limit=2, spent=2),
        ),
    )
    thread = await thread_of(resources, run)
    assert thread is not None
    assert thread.status == "interrupted"
    (asked,) = thread.interrupts["budget"]
    assert asked["value"]["action_requests"]
    resumed = await start(
        resources,
        thread_id=run.thread_id,
        input=None,
        command={"resume": {asked["id"]: {"type": "approve"}}},
    )
    assert resumed.kwargs["command"] is None
    assert resumed.budget["steps"] == 2
