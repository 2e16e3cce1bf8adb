"""Runs that would go on for too long: every kind of limit stops one, with its state kept."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import UnprocessableEntityError

from . import protocol

HUMAN: dict[str, Any] = {"messages": [{"type": "human", "content": "hello"}]}
runaways = pytest.mark.parametrize(
    ("graph", "given", "limit"),
    [
        ("loop", {"n": 1_000}, {"steps": 3}),
        ("slow", {"steps": 1_000, "seconds": 0.05}, {"seconds": 0.2}),
        ("tools", HUMAN, {"model_calls": 1}),
        ("tools", HUMAN, {"tool_calls": 0}),
        ("tools", HUMAN, {"tokens": 10}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)


async def start(client: LangGraphClient, graph: str, given: dict[str, Any], budget: Any) -> tuple[str, Any]:
    thread = (await client.threads.create())["thread_id"]
    config: Any = {"budget": budget, "recursion_limit": 10_000}
    return thread, await client.runs.wait(thread, graph, input=given, config=config, raise_error=False)


@runaways
async def test_a_run_at_its_limit_asks_a_person_and_goes_on_with_what_it_is_granted(
    client: LangGraphClient, graph: str, given: dict[str, Any], limit: dict[str, Any]
) -> None:
    """O55."""
    thread, answer = await start(client, graph, given, limit)
    [waiting] = answer["__interrupt__"]
    [asked] = waiting["value"]["action_requests"]
    assert asked["name"] == "continue_run"
    assert list(asked["args"]) == list(limit)
    assert (await client.threads.get(thread))["status"] == "interrupted"
    before = await client.threads.get_state(thread)
    assert before["next"]

    await client.runs.wait(thread, graph, command={"resume": {"decisions": [{"type": "approve"}]}})
    after = await client.threads.get_state(thread)
    assert after["values"] != before["values"]


async def test_the_question_at_a_limit_is_shown_on_the_thread_event_stream_when_it_can_be_answered(
    http: httpx.AsyncClient,
) -> None:
    thread = str(uuid4())
    config = {"budget": {"steps": 3}, "recursion_limit": 10_000}
    await protocol.start(http, thread, "loop", {"n": 1_000}, config=config)
    events = await protocol.read(http, thread, protocol.is_end)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["method"] for event in events[-3:]] == ["values", "input.requested", "lifecycle"]
    answer = {"interrupt_id": events[-2]["params"]["data"]["interrupt_id"], "namespace": []}
    response = {"decisions": [{"type": "reject", "message": "enough"}]}
    told = await protocol.send(http, thread, "input.respond", **answer, response=response)
    assert told["type"] == "success"


@runaways
async def test_a_run_at_a_hard_limit_ends_with_a_typed_reason_and_keeps_its_state(
    client: LangGraphClient, graph: str, given: dict[str, Any], limit: dict[str, Any]
) -> None:
    """O55."""
    thread, answer = await start(client, graph, given, limit | {"on_limit": "stop"})
    assert answer["__error__"]["error"] == "BudgetExceeded"
    assert (await client.threads.get(thread))["status"] == "error"
    assert (await client.threads.get_state(thread))["next"]


@pytest.mark.parametrize("limit", [{"step": 3}, {"steps": -1}, {"tokens": "many"}])
async def test_a_limit_that_is_none_is_refused_before_anything_runs(
    client: LangGraphClient, limit: dict[str, Any]
) -> None:
    thread = (await client.threads.create())["thread_id"]
    with pytest.raises(UnprocessableEntityError):
        await client.runs.create(thread, "loop", input={"n": 3}, config={"budget": limit})  # pyright: ignore[reportArgumentType] - ours, not the SDK's
    assert await client.runs.list(thread) == []
