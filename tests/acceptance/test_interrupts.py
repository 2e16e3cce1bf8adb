"""Graphs that stop and wait: for a person, or at a breakpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

HUMAN: dict[str, Any] = {"messages": [{"type": "human", "content": "hello", "id": "question-1"}]}
Until = Callable[..., Awaitable[Any]]
Wait = Callable[..., Awaitable[dict[str, Any]]]


async def by_wait(client: LangGraphClient, thread: str, graph: str, **kwargs: Any) -> Any:
    return await client.runs.wait(thread, graph, raise_error=False, **kwargs)


async def by_stream(client: LangGraphClient, thread: str, graph: str, **kwargs: Any) -> Any:
    return [part async for part in client.runs.stream(thread, graph, stream_mode="values", **kwargs)][-1].data


async def by_background(client: LangGraphClient, thread: str, graph: str, **kwargs: Any) -> Any:
    run = await client.runs.create(thread, graph, **kwargs)
    return await client.runs.join(thread, run["run_id"])


ways = pytest.mark.parametrize("run", [by_wait, by_stream, by_background])


async def pending(client: LangGraphClient, thread: str) -> list[dict[str, Any]]:
    """The interrupts of the thread, whatever task they hang on."""
    by_task = (await client.threads.get(thread))["interrupts"]
    return [dict(entry) for entries in by_task.values() for entry in entries]


async def test_interrupt_is_on_thread_and_state_as_soon_as_the_stream_ends(client: LangGraphClient) -> None:
    """O13: a hundred times, ten at once."""

    async def once() -> None:
        thread = (await client.threads.create())["thread_id"]
        shown = await by_stream(client, thread, "hitl", input={})
        record, state = await asyncio.gather(client.threads.get(thread), client.threads.get_state(thread))

        ask = {"id": shown["__interrupt__"][0]["id"], "value": {"question": "go on?", "before": 1}}
        assert record["status"] == "interrupted"
        assert list(record["interrupts"].values()) == [[ask]]
        assert state["interrupts"] == [ask]
        assert [list(task["interrupts"]) for task in state["tasks"]] == [[ask]]
        assert list(record["interrupts"]) == [task["id"] for task in state["tasks"]]
        assert state["next"] == ["ask"]

    for _ in range(10):
        await asyncio.gather(*(once() for _ in range(10)))


@ways
async def test_resume_goes_on_where_the_graph_stopped(client: LangGraphClient, run: Wait) -> None:
    """O17."""
    thread = (await client.threads.create())["thread_id"]
    stopped = await run(client, thread, "hitl", input={})
    assert stopped["__interrupt__"][0]["value"] == {"question": "go on?", "before": 1}

    values = await run(client, thread, "hitl", command={"resume": {"verdict": "yes"}})
    assert values == {"before": 1, "answer": {"verdict": "yes"}, "after": 1}
    assert (await client.threads.get(thread))["status"] == "idle"
    assert await pending(client, thread) == []


@ways
@pytest.mark.parametrize("nodes", [["B"], "*"])
async def test_breakpoint_of_a_run_stops_before_the_node(
    client: LangGraphClient, run: Wait, nodes: list[str] | str
) -> None:
    """O16."""
    thread = (await client.threads.create())["thread_id"]
    expected = ["A"] if nodes == ["B"] else []
    await run(client, thread, "abc", input={}, interrupt_before=nodes)
    state = await client.threads.get_state(thread)
    record = await client.threads.get(thread)

    assert state["next"] == ["B" if expected else "A"]
    assert state["values"].get("trace", []) == expected
    assert record["status"] == "interrupted"
    assert record["interrupts"] == {}
    assert (await run(client, thread, "abc", input=None))["trace"] == ["A", "B", "C"]


@ways
async def test_breakpoint_of_a_run_stops_after_the_node(client: LangGraphClient, run: Wait) -> None:
    """O16."""
    thread = (await client.threads.create())["thread_id"]
    await run(client, thread, "abc", input={}, interrupt_after=["B"])

    assert (await client.threads.get_state(thread))["next"] == ["C"]
    assert (await run(client, thread, "abc", input=None))["trace"] == ["A", "B", "C"]


async def test_breakpoint_shows_as_an_empty_interrupt_and_no_further_values(client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    parts = [
        part
        async for part in client.runs.stream(
            thread, "abc", input={}, interrupt_before=["B"], stream_mode=["values", "updates"]
        )
    ]
    assert parts[-1].event == "updates"
    assert parts[-1].data == {"__interrupt__": []}


async def test_each_of_two_questions_gets_its_own_answer(client: LangGraphClient) -> None:
    """O18: by id, in one request."""
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "par", input={})
    ids = {entry["value"]["side"]: entry["id"] for entry in await pending(client, thread)}
    assert len(set(ids.values())) == 2

    answers = {ids["left"]: "port", ids["right"]: "starboard"}
    values = await by_wait(client, thread, "par", command={"resume": answers})
    assert values == {"left": "port", "right": "starboard", "joined": "port/starboard"}


async def test_one_answer_leaves_the_other_question_open(client: LangGraphClient) -> None:
    """O18."""
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "par", input={})
    ids = {entry["value"]["side"]: entry["id"] for entry in await pending(client, thread)}

    halfway = await by_wait(client, thread, "par", command={"resume": {ids["left"]: "port"}})
    assert [entry["id"] for entry in halfway["__interrupt__"]] == [ids["right"]]
    assert [entry["id"] for entry in await pending(client, thread)] == [ids["right"]]
    values = await by_wait(client, thread, "par", command={"resume": {ids["right"]: "starboard"}})
    assert values["joined"] == "port/starboard"


async def test_bare_answer_to_two_questions_is_refused_and_the_thread_stays_resumable(
    client: LangGraphClient,
) -> None:
    """O18."""
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "par", input={})
    refused = await by_wait(client, thread, "par", command={"resume": "both"})
    assert "multiple pending interrupts" in refused["__error__"]["message"]

    state = await client.threads.get_state(thread)
    ids = {entry["value"]["side"]: entry["id"] for entry in state["interrupts"]}
    answers = {ids["left"]: 1, ids["right"]: 2}
    assert (await by_wait(client, thread, "par", command={"resume": answers}))["joined"] == "1/2"


async def test_interrupt_of_one_thread_never_shows_on_another(client: LangGraphClient) -> None:
    """O19."""
    waiting, done, fresh = [(await client.threads.create())["thread_id"] for _ in range(3)]
    await asyncio.gather(
        by_wait(client, waiting, "hitl", input={}), by_wait(client, done, "chat", input=HUMAN)
    )
    for thread in (done, fresh):
        record, state = await client.threads.get(thread), await client.threads.get_state(thread)
        history = await client.threads.get_history(thread)
        assert record["status"] == "idle"
        assert record["interrupts"] == {}
        assert state["interrupts"] == []
        assert "__interrupt__" not in str([record, state, history])
        assert not [task for entry in history for task in entry["tasks"] if task["interrupts"]]
    assert len(await pending(client, waiting)) == 1


async def test_ignored_question_frees_the_thread(client: LangGraphClient) -> None:
    """O20."""
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "hitl", input={})
    await client.threads.update_state(thread, None, as_node="__end__")

    assert (await client.threads.get_state(thread))["next"] == []
    record = await client.threads.get(thread)
    assert record["status"] == "idle"
    assert record["interrupts"] == {}

    stopped = await by_wait(client, thread, "hitl", input={})
    assert stopped["__interrupt__"][0]["value"]["before"] == 2
    assert (await by_wait(client, thread, "hitl", command={"resume": "now"}))["answer"] == "now"


@pytest.mark.parametrize("goto", ["__end__", ["__end__"]])
async def test_command_to_the_end_resolves_a_thread_that_waits(
    client: LangGraphClient, goto: str | list[str]
) -> None:
    """As agent-chat-ui and deep-agents-ui mark a thread as resolved: LangGraph alone would ask again."""
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "hitl", input={})
    head = (await client.threads.get_state(thread))["checkpoint"]

    parts = [
        part
        async for part in client.runs.stream(
            thread,
            "hitl",
            input={},
            command={"goto": goto, "update": None},
            checkpoint={key: value for key, value in head.items() if key != "thread_id"},
            stream_mode=["values", "updates"],
        )
    ]
    assert [(part.event, part.data) for part in parts[1:]] == [("values", {"before": 1})]
    record, state = await client.threads.get(thread), await client.threads.get_state(thread)
    assert (record["status"], record["interrupts"], record["values"]) == ("idle", {}, {"before": 1})
    assert (state["next"], state["interrupts"]) == ([], [])

    assert (await by_wait(client, thread, "hitl", input={}))["__interrupt__"][0]["value"]["before"] == 2


async def test_command_to_the_end_keeps_what_it_brings_along(client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "par", input={})
    command: Any = {"goto": "__end__", "update": {"joined": "nobody asked"}}
    assert (await by_wait(client, thread, "par", command=command)) == {"joined": "nobody asked"}
    assert (await client.threads.get(thread))["status"] == "idle"
    assert await pending(client, thread) == []


async def test_run_that_waits_for_a_person_has_ended_and_its_answer_is_a_run_of_its_own(
    client: LangGraphClient,
) -> None:
    """O21, with the statuses that the vendor's clients understand: run `success`, thread `interrupted`."""
    thread = (await client.threads.create())["thread_id"]
    asked = await client.runs.create(thread, "hitl", input={})
    await client.runs.join(thread, asked["run_id"])
    assert (await client.runs.get(thread, asked["run_id"]))["status"] == "success"
    assert (await client.threads.get(thread))["status"] == "interrupted"
    assert thread in {
        found["thread_id"] for found in await client.threads.search(status="interrupted", limit=100)
    }

    answered = await client.runs.create(thread, "hitl", command={"resume": "yes"})
    await client.runs.join(thread, answered["run_id"])
    runs = await client.runs.list(thread)
    assert [run["run_id"] for run in runs] == [answered["run_id"], asked["run_id"]]
    assert {run["status"] for run in runs} == {"success"}


async def test_answer_with_nothing_pending_changes_nothing(client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "abc", input={})
    assert (await by_wait(client, thread, "abc", command={"resume": "late"}))["trace"] == ["A", "B", "C"]


async def test_command_can_update_and_jump(client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    await by_wait(client, thread, "abc", input={}, interrupt_before=["B"])
    jumped = await by_wait(client, thread, "abc", command={"update": {"trace": ["by hand"]}, "goto": "C"})

    assert jumped["trace"][:2] == ["A", "by hand"]
    assert jumped["trace"][-1] == "C"


async def test_stateless_resume_is_refused(http: httpx.AsyncClient) -> None:
    refused = await http.post("/runs/wait", json={"assistant_id": "hitl", "command": {"resume": 1}})
    assert refused.status_code == 400
    assert refused.json()["detail"] == "You must provide a thread_id when resuming."
