"""Breakpoints over a crash: they hold, and who went past one is not stopped again."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import orjson
import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from interlock.checkpoints.saver import ThreadSaver
from interlock.server.domain import Event, Run
from interlock.server.resources import Resources
from interlock.server.runs import lifecycle
from interlock.server.runs.lifecycle import Drained
from interlock.server.worker.breakpoints import Breakpoints
from interlock.server.worker.execute import execute
from interlock.server.worker.stop import Lost, Stop

from . import engine


async def attempt(resources: Resources, run: Run) -> Any:
    """Claim a run, execute it and record its outcome."""
    taken = await engine.claimed(resources, run)
    outcome = await execute(resources, taken, Stop())
    await lifecycle.finish(resources, taken, outcome)
    return outcome


def payloads(events: list[Event], kind: str) -> list[Any]:
    return [orjson.loads(event.data) for event in events if event.kind == kind]


async def lost_attempt(resources: Resources, run: Run) -> Any:
    """Execute a run to the end of an attempt whose outcome nobody stores."""
    taken = await engine.claimed(resources, run)
    outcome = await execute(resources, taken, Stop())
    await lifecycle.hand_back(resources, taken, usage=None)
    return outcome


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    ("breakpoint_at", "next_nodes"),
    [
        ({"interrupt_before": ["A"]}, ("A",)),
        ({"interrupt_before": ["B"]}, ("B",)),
        ({"interrupt_before": "*"}, ("A",)),
        ({"interrupt_after": ["A"]}, ("B",)),
        ({"interrupt_after": "*"}, ("B",)),
    ],
)
async def test_a_breakpoint_holds_when_the_attempt_that_reached_it_could_not_say_so(
    resources: Resources, breakpoint_at: dict[str, Any], next_nodes: tuple[str, ...], durability: Any
) -> None:
    run = await engine.start(
        resources,
        "abc",
        input={"trace": []},
        stream_mode=["values", "updates"],
        durability=durability,
        **breakpoint_at,
    )
    lost = await lost_attempt(resources, run)
    outcome = await attempt(resources, run)
    assert (outcome.status, outcome.next) == ("success", next_nodes)
    assert (outcome.values, outcome.checkpoint_id) == (lost.values, lost.checkpoint_id)
    events = await engine.events_of(resources, run.thread_id)
    [start] = [e.seq for e in events if e.kind == "run.started" and b'"attempt":2' in e.data]
    second = [event for event in events if event.seq > start]
    assert [event.kind for event in second] == ["values", "updates", "run.ended"]
    assert payloads(second, "values") == [orjson.loads(lost.values)]
    assert payloads(second, "updates") == [{"__interrupt__": []}]
    outcome = await attempt(
        resources, await engine.start(resources, "abc", input=None, thread_id=run.thread_id)
    )
    assert orjson.loads(outcome.values) == {"trace": ["A", "B", "C"]}


@pytest.mark.parametrize("forks", [False, True])
async def test_a_run_that_went_past_a_breakpoint_does_not_stop_there_again(
    resources: Resources, forks: bool
) -> None:
    run = await engine.start(resources, "abc", input={"trace": [], "seconds": 0.3}, interrupt_before=["B"])
    stopped = await attempt(resources, run)
    onward = await engine.start(
        resources,
        "abc",
        input=None,
        thread_id=run.thread_id,
        checkpoint_id=stopped.checkpoint_id if forks else None,
        interrupt_before=["B"],
        interrupt_after=["A"],
    )
    taken, stop = await engine.claimed(resources, onward), Stop()
    executing = asyncio.create_task(execute(resources, taken, stop))
    async for events in resources.event_log.follow(
        tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=onward.run_id, after=0
    ):
        if any(event.kind == "values" for event in events):
            break
    stop.set(Lost())
    assert isinstance(await executing, Drained)
    await lifecycle.hand_back(resources, taken, usage=None)
    outcome = await attempt(resources, onward)
    assert (outcome.status, outcome.next) == ("success", ())
    assert orjson.loads(outcome.values)["trace"] == ["A", "B", "C"]


async def test_a_breakpoint_after_a_node_that_was_sent_for_holds(resources: Resources) -> None:
    class State(TypedDict, total=False):
        sent: int

    def fetch(given: dict[str, int]) -> State:
        return {"sent": given["number"]}

    builder = StateGraph(State)
    builder.add_node("fetch", fetch)
    builder.add_node("close", lambda state: {})
    builder.add_conditional_edges(START, lambda state: [Send("fetch", {"number": 7})], ["fetch"])
    builder.add_edge("fetch", "close")
    builder.add_edge("close", END)
    run = await engine.claimed(resources, await engine.start(resources))
    saver = ThreadSaver(resources.database, tenant_id=run.tenant_id, thread_id=run.thread_id, fence=run.fence)
    graph = builder.compile(checkpointer=saver, interrupt_after=["fetch"])
    head: Any = {"configurable": {"thread_id": str(run.thread_id)}}
    await graph.ainvoke({"sent": 0}, head, durability="sync")
    asked = {"interrupt_before": None, "interrupt_after": None}

    stopped = await Breakpoints.of(graph, asked).stopped_at(graph, saver, head)

    assert stopped is not None
    assert (stopped.next, stopped.values) == (("close",), {"sent": 7})
    elsewhere = {**asked, "interrupt_after": ["close"]}
    assert await Breakpoints.of(graph, elsewhere).stopped_at(graph, saver, head) is None
