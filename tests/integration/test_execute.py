"""One attempt at a run on the real floors: what it records, and the outcome it names."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from interlock.checkpoints.errors import FenceLost
from interlock.checkpoints.saver import ThreadSaver
from interlock.server.domain import Event, Run
from interlock.server.records import queue
from interlock.server.records.references import is_reference
from interlock.server.resources import Resources
from interlock.server.runs import lifecycle
from interlock.server.runs.lifecycle import Drained, Finished, LeaseLost
from interlock.server.wire.run_stream import answer
from interlock.server.worker.execute import execute
from interlock.server.worker.stop import Cancel, Drain, Stop, Timeout

from . import engine


async def attempt(resources: Resources, run: Run, stop: Stop | None = None) -> Any:
    """Claim a run, execute it and record its outcome."""
    taken = await engine.claimed(resources, run)
    outcome = await execute(resources, taken, stop or Stop())
    await lifecycle.finish(resources, taken, outcome)
    return outcome


async def go(resources: Resources, graph: str, **fields: Any) -> tuple[Run, Any, list[Event]]:
    run = await engine.start(resources, graph, **fields)
    outcome = await attempt(resources, run)
    return run, outcome, of_run(await engine.events_of(resources, run.thread_id), run)


def of_run(events: list[Event], run: Run) -> list[Event]:
    return [event for event in events if event.run_id == run.run_id]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def payloads(events: list[Event], kind: str) -> list[Any]:
    return [orjson.loads(event.data) for event in events if event.kind == kind]


async def test_a_run_is_recorded_from_its_creation_to_its_end(resources: Resources) -> None:
    run, outcome, events = await go(resources, "hitl", input={})
    assert kinds(events) == ["run.created", "run.started", "values", "values", "run.ended"]
    assert payloads(events, "run.started") == [{"run_id": str(run.run_id), "attempt": 1}]
    assert outcome.status == "success"
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]


async def test_the_outcome_is_the_state_that_is_stored(resources: Resources) -> None:
    run, outcome, events = await go(resources, "hitl", input={})
    [[interrupt]] = outcome.interrupts.values()
    assert outcome.next == ("ask",)
    assert payloads(events, "values")[-1]["__interrupt__"][0]["id"] == interrupt["id"]
    assert orjson.loads(outcome.values) == {"before": 1}
    reader = ThreadSaver(resources.database, tenant_id=run.tenant_id, thread_id=run.thread_id, fence=None)
    head = await reader.aget_tuple({"configurable": {"thread_id": str(run.thread_id)}})
    assert head.config["configurable"]["checkpoint_id"] == outcome.checkpoint_id


async def test_what_tells_of_a_state_leaves_only_after_its_commit(resources: Resources) -> None:
    """O13: as each event arrives, the state that it tells of is in the database."""
    run = await engine.start(
        resources, "hitl", input={}, stream_mode=["values", "updates", "checkpoints", "tasks"]
    )
    taken = await engine.claimed(resources, run)
    executing = asyncio.create_task(execute(resources, taken, Stop()))
    seen = 0
    async for events in resources.event_log.follow(
        tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id, after=0
    ):
        for event in events:
            if event.kind == "checkpoints":
                place = orjson.loads(event.data)["config"]["configurable"]
                stored = await resources.database.fetch_one(
                    b"SELECT 1 FROM checkpoints WHERE checkpoint_id = %s", (place["checkpoint_id"],)
                )
                assert stored is not None
                seen += 1
            if b"__interrupt__" in event.data:
                written = await resources.database.fetch_one(
                    b"SELECT 1 FROM checkpoint_writes WHERE channel = '__interrupt__'"
                )
                assert written is not None
                seen += 1
        if executing.done() and seen >= 5:
            break
        if executing.done():
            await lifecycle.finish(resources, taken, executing.result())
    assert seen >= 5
    assert (await executing).interrupts


async def test_an_exception_of_a_node_is_the_answer_of_the_run(resources: Resources) -> None:
    run, outcome, events = await go(resources, "err", input={})
    assert outcome.status == "error"
    [ended] = payloads(events, "run.ended")
    assert ended["error"] == outcome.error
    thread = await engine.thread_of(resources, run)
    assert (thread.status, thread.error) == ("error", outcome.error)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"who": "a\0b"}, "InvalidNamespaceError"),
        ({"who": "\u9a5b" * 1000}, "ValueError"),
        ({"ttl": -1}, "DatabaseError"),
    ],
)
async def test_what_the_store_refuses_to_a_node_is_the_answer_of_the_run(
    resources: Resources, given: dict[str, Any], error: str
) -> None:
    _, outcome, _ = await go(resources, "mem", input=given)
    assert isinstance(outcome, Finished)
    assert (outcome.status, outcome.error and outcome.error["error"]) == ("error", error)


async def test_a_run_without_input_on_a_new_thread_says_so(resources: Resources) -> None:
    _, outcome, _ = await go(resources, "abc", input=None)
    assert outcome.error["error"] == "EmptyInputError"


async def test_the_recursion_limit_of_the_request_holds(resources: Resources) -> None:
    _, outcome, _ = await go(
        resources, "slow", input={"steps": 9, "seconds": 0, "events": 0}, config={"recursion_limit": 3}
    )
    assert outcome.error["error"] == "GraphRecursionError"


@pytest.mark.parametrize(("durability", "checkpoints"), [("sync", 5), ("async", 5), ("exit", 1)])
async def test_durability_decides_how_many_checkpoints_there_are(
    resources: Resources, durability: Any, checkpoints: int
) -> None:
    _, outcome, _ = await go(resources, "abc", input={"trace": []}, durability=durability)
    row = await resources.database.fetch_one(b"SELECT count(*) AS n FROM checkpoints")
    assert row["n"] == checkpoints
    assert orjson.loads(outcome.values) == {"trace": ["A", "B", "C"]}
    assert outcome.checkpoint_id is not None


async def test_a_breakpoint_leaves_the_thread_interrupted_without_a_question(resources: Resources) -> None:
    """O16."""
    run, outcome, events = await go(
        resources, "abc", input={"trace": []}, interrupt_before=["B"], stream_mode=["updates"]
    )
    assert (outcome.status, outcome.next, outcome.interrupts) == ("success", ("B",), {})
    assert payloads(events, "updates")[-1] == {"__interrupt__": []}
    thread = await engine.thread_of(resources, run)
    assert (thread.status, thread.interrupts) == ("interrupted", {})
    _, outcome, _ = await go(resources, "abc", input=None, thread_id=run.thread_id)
    assert orjson.loads(outcome.values) == {"trace": ["A", "B", "C"]}


async def test_events_of_runnables_come_with_the_run_as_their_root(resources: Resources) -> None:
    run, _, events = await go(resources, "chat", stream_mode=["events", "values"])
    told = payloads(events, "events")
    assert {"on_chain_start", "on_chat_model_stream", "on_chain_end"} <= {entry["event"] for entry in told}
    assert told[0]["run_id"] == str(run.run_id)
    assert payloads(events, "values")[-1]["messages"]


async def test_without_sub_graphs_asked_for_no_event_has_a_namespace(resources: Resources) -> None:
    _, _, events = await go(
        resources,
        "sub",
        input={"messages": [{"role": "user", "content": "hi"}], "ask": False},
        stream_mode=["messages", "updates", "tasks", "checkpoints"],
    )
    assert {event.namespace for event in events} == {()}
    tokens = [m for m, _ in payloads(events, "messages") if m["type"] == "AIMessageChunk"]
    assert {m["id"].split("-")[0] for m in tokens} == {"close"}


async def test_a_drained_run_goes_on_in_another_attempt_and_repeats_no_step(
    resources: Resources, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv("STEP_NOTES", str(notes))
    run = await engine.start(resources, "slow", input={"steps": 4, "seconds": 0.2, "events": 1})
    stop = Stop()
    taken = await engine.claimed(resources, run)
    executing = asyncio.create_task(execute(resources, taken, stop))
    async for events in resources.event_log.follow(
        tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id, after=0
    ):
        if any(orjson.loads(e.data).get("done") for e in events if e.kind == "values"):
            stop.set(Drain())
            break
    outcome = await executing
    assert isinstance(outcome, Drained)
    await lifecycle.finish(resources, taken, outcome)

    outcome = await attempt(resources, run)

    assert outcome.status == "success"
    assert orjson.loads(outcome.values)["done"] == [1, 2, 3, 4]
    assert [line.split()[-1] for line in notes.read_text().splitlines()] == ["1", "2", "3", "4"]
    events = of_run(await engine.events_of(resources, run.thread_id), run)
    assert [p["attempt"] for p in payloads(events, "run.started")] == [1, 2]
    assert kinds(events).count("run.ended") == 1


async def test_a_timeout_and_a_cancel_stop_a_node_where_it_stands(resources: Resources) -> None:
    for reason, expected in ((Timeout(1.0), Finished), (Cancel("interrupt"), LeaseLost)):
        run = await engine.start(resources, "slow", input={"steps": 1, "seconds": 60, "events": 60_000})
        taken, stop = await engine.claimed(resources, run), Stop()
        executing = asyncio.create_task(execute(resources, taken, stop))
        async for events in resources.event_log.follow(
            tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id, after=0
        ):
            if "values" in kinds(list(events)):
                break
        stop.set(reason)
        outcome = await executing
        assert isinstance(outcome, expected)
        if isinstance(outcome, Finished):
            assert (outcome.status, outcome.error["error"]) == ("timeout", "RunTimeout")


async def test_an_attempt_whose_thread_was_taken_ends_and_leaves_nothing_more(resources: Resources) -> None:
    run = await engine.start(resources, "slow", input={"steps": 50, "seconds": 0.05, "events": 1})
    taken = await engine.claimed(resources, run)
    executing = asyncio.create_task(execute(resources, taken, Stop()))
    async for events in resources.event_log.follow(
        tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id, after=0
    ):
        if "values" in kinds(list(events)):
            break
    async with resources.database.transaction() as connection:
        assert await queue.lock_thread(connection, tenant_id=run.tenant_id, thread_id=run.thread_id)
        await connection.execute(b"UPDATE interlock.threads SET fence = fence + 1")
        before = len(await engine.events_of(resources, run.thread_id))
    assert await executing == LeaseLost()
    assert len(await engine.events_of(resources, run.thread_id)) == before
    with pytest.raises(FenceLost):
        await lifecycle.finish(resources, taken, Finished(status="success"))


async def test_a_graph_that_writes_faster_than_the_log_takes_is_held_back(resources: Resources) -> None:
    """O08: what waits for the log stays small, and nothing of it is lost."""
    _, outcome, events = await go(
        resources,
        "slow",
        input={"steps": 1, "seconds": 0, "events": 20_000},
        stream_mode=["custom"],
    )
    assert outcome.status == "success"
    assert [p["event"] for p in payloads(events, "custom")] == list(range(20_000))


LONG = [
    {"role": "user", "content": f"{number} " + "lorry " * 400, "id": f"m{number}"} for number in range(40)
]


async def test_a_large_conversation_is_not_stored_again_in_the_log(resources: Resources) -> None:
    run = await engine.start(resources, "chat", input={"messages": LONG})
    live: list[Event] = []

    async def read() -> None:
        async for events in resources.event_log.follow(
            tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id, after=0
        ):
            live.extend(events)

    reading = asyncio.create_task(read())
    outcome = await attempt(resources, run)
    await reading

    stored = of_run(await engine.events_of(resources, run.thread_id), run)
    states = [event for event in stored if event.kind == "values"]
    assert all(is_reference(event.data) for event in states)
    assert sum(len(event.data) for event in stored) < 5_000
    later = [
        event
        async for events in resources.event_log.follow(
            tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id, after=0
        )
        for event in events
    ]
    assert later == live
    assert [event.data for event in later if event.kind == "values"][-1] == outcome.values
    found = await answer(resources.event_log, run)
    assert found.values == outcome.values


async def test_a_state_that_is_gone_is_left_out_and_the_rest_is_told(resources: Resources) -> None:
    run, _, _ = await go(resources, "chat", input={"messages": LONG})
    await resources.database.execute(b"DELETE FROM checkpoint_blobs")
    found = [
        event
        async for events in resources.event_log.follow(
            tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id, after=0
        )
        for event in events
    ]
    assert kinds(found) == ["run.created", "run.started", "run.ended"]
    assert (await answer(resources.event_log, run)).values is None


async def test_runs_of_two_threads_at_once_keep_their_configs_apart(resources: Resources) -> None:
    """O12."""
    runs = [
        await engine.start(resources, "ident", input={}, config={"configurable": {"colour": colour}})
        for colour in ("red", "blue", "green")
    ]
    async with resources.database.connection() as connection:
        taken = await queue.claim(connection, worker_id="test", slots=10, lease_s=10)
    outcomes = await asyncio.gather(*(execute(resources, run, Stop()) for run in taken))
    told = {run.run_id: orjson.loads(o.values)["told"] for run, o in zip(taken, outcomes, strict=True)}
    for run, colour in zip(runs, ("red", "blue", "green"), strict=True):
        assert told[run.run_id]["colour"] == colour
        assert told[run.run_id]["run_id"] == str(run.run_id)
        assert told[run.run_id]["thread_id"] == str(run.thread_id)


async def test_one_answer_at_a_time_reaches_its_own_question(resources: Resources) -> None:
    """O18."""
    run, outcome, _ = await go(resources, "par", input={})
    ids = {
        found["value"]["side"]: found["id"] for pending in outcome.interrupts.values() for found in pending
    }
    _, outcome, _ = await go(
        resources, "par", input=None, thread_id=run.thread_id, command={"resume": {ids["left"]: "L"}}
    )
    assert [found["id"] for pending in outcome.interrupts.values() for found in pending] == [ids["right"]]
    _, outcome, _ = await go(resources, "par", input=None, thread_id=run.thread_id, command={"resume": "R"})
    assert orjson.loads(outcome.values)["joined"] == "L/R"
