"""Stopping runs, and what a thread looks like afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from .wire import frames, is_running, is_settled

Until = Callable[..., Awaitable[Any]]


def question(text: str) -> dict[str, Any]:
    return {"messages": [{"type": "human", "content": text}]}


async def asked_for_its_tool(client: LangGraphClient, thread: str) -> bool:
    return (await client.threads.get_state(thread))["next"] == ["tools"]


async def start_tool(client: LangGraphClient, until: Until) -> tuple[str, str]:
    """A thread in the middle of a long tool call, and the run that made it."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "tools", input=question("first") | {"seconds": 30})
    await until(lambda: asked_for_its_tool(client, thread))
    return thread, run["run_id"]


async def test_message_with_rollback_leaves_no_trace_of_the_stopped_tool_call(
    client: LangGraphClient, until: Until
) -> None:
    """O23."""
    thread, stopped = await start_tool(client, until)
    values = await client.runs.wait(
        thread, "tools", input=question("second") | {"seconds": 0}, multitask_strategy="rollback"
    )

    assert isinstance(values, dict)
    texts = [message["content"] for message in values["messages"]]
    assert texts == ["second", "", "lorry: a large vehicle", "Red lorry, yellow lorry."]
    assert "first" not in str(await client.threads.get_history(thread, limit=50))
    with pytest.raises(NotFoundError):
        await client.runs.get(thread, stopped)


async def test_message_with_interrupt_after_a_stopped_tool_call_gets_its_answer(
    client: LangGraphClient, until: Until
) -> None:
    """O23: the unanswered call is answered as cancelled, so the model is never sent an orphan.

    The model of this graph refuses one, as the real ones do.
    """
    thread, stopped = await start_tool(client, until)
    values: Any = await client.runs.wait(
        thread, "tools", input=question("second") | {"seconds": 0}, multitask_strategy="interrupt"
    )
    assert (await client.runs.get(thread, stopped))["status"] == "interrupted"
    kinds = [(message["type"], message["content"]) for message in values["messages"]]
    assert kinds[0] == ("human", "first")
    assert kinds[2][0] == "tool"
    assert "Cancelled" in kinds[2][1]
    assert kinds[3] == ("human", "second")
    assert kinds[-1] == ("ai", "Red lorry, yellow lorry.")


async def test_message_after_a_cancelled_tool_call_gets_its_answer(
    client: LangGraphClient, until: Until
) -> None:
    """O23: the stop button first, the next message later."""
    thread, stopped = await start_tool(client, until)
    await client.runs.cancel(thread, stopped, wait=True)
    values: Any = await client.runs.wait(thread, "tools", input=question("second") | {"seconds": 0})
    assert values["messages"][-1]["content"] == "Red lorry, yellow lorry."


@pytest.mark.parametrize("bulk", [False, True])
async def test_rollback_takes_the_run_and_its_checkpoints_back(
    client: LangGraphClient, http: httpx.AsyncClient, until: Until, bulk: bool
) -> None:
    """O24."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "slow", input={"steps": 1, "seconds": 0.01})
    before = await client.threads.get_history(thread, limit=50)
    copied: Any = await client.threads.copy(thread)
    copy = copied["thread_id"]

    run = await client.runs.create(thread, "slow", input={"steps": 100, "seconds": 0.2})
    await until(lambda: has_grown(client, thread, len(before) + 2))
    if bulk:
        body = {"thread_id": thread, "run_ids": [run["run_id"]]}
        answer = await http.post("/runs/cancel", params={"action": "rollback"}, json=body)
        assert answer.status_code == 204
        await until(lambda: is_settled(client, thread))
    else:
        await client.runs.cancel(thread, run["run_id"], wait=True, action="rollback")

    with pytest.raises(NotFoundError):
        await client.runs.get(thread, run["run_id"])
    assert await client.threads.get_history(thread, limit=50) == before
    assert (await client.threads.get(thread))["status"] == "idle"
    assert len(await client.runs.list(thread)) == 1
    assert len(await client.threads.get_history(copy, limit=50)) == len(before)


async def has_grown(client: LangGraphClient, thread: str, size: int) -> bool:
    return len(await client.threads.get_history(thread, limit=50)) >= size


@pytest.mark.parametrize(
    ("query", "status"), [("", 202), ("?wait=0", 202), ("?wait=1", 200), ("?wait=true", 200)]
)
async def test_cancel_takes_every_spelling_of_wait(
    client: LangGraphClient, http: httpx.AsyncClient, query: str, status: int, until: Until
) -> None:
    """O26."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "slow", input={"steps": 100, "seconds": 0.2})
    await until(lambda: is_running(client, thread, run["run_id"]))
    answer = await http.post(f"/threads/{thread}/runs/{run['run_id']}/cancel{query}")

    assert answer.status_code == status
    if status == 202:
        assert answer.content == b""
        await until(lambda: is_settled(client, thread), deadline_s=5)
    else:
        assert answer.json() == {}
    assert (await client.runs.get(thread, run["run_id"]))["status"] == "interrupted"
    record = await client.threads.get(thread)
    assert record["status"] == "interrupted"


async def test_cancel_refuses_a_wait_that_is_no_truth_value(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """O26."""
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "slow", input={"steps": 100, "seconds": 0.2})
    url = f"/threads/{thread}/runs/{run['run_id']}/cancel"

    refused = await http.post(f"{url}?wait=maybe")
    assert refused.status_code == 422
    assert "wait" in refused.json()["detail"]
    assert (await client.runs.get(thread, run["run_id"]))["status"] in {"pending", "running"}
    await client.runs.cancel(thread, run["run_id"], wait=True)
    assert (await http.post(url)).status_code == 404


async def test_stream_of_a_cancelled_run_ends_silently(
    client: LangGraphClient, http: httpx.AsyncClient, until: Until
) -> None:
    thread = (await client.threads.create())["thread_id"]
    body = {"assistant_id": "slow", "input": {"steps": 100, "seconds": 0.2}, "stream_mode": ["updates"]}
    async with http.stream("POST", f"/threads/{thread}/runs/stream", json=body) as response:
        follower = frames(response)
        run = (await anext(follower)).data["run_id"]
        await until(lambda: is_running(client, thread, run))
        await client.runs.cancel(thread, run)
        rest = [frame async for frame in follower if frame.event is not None]

    assert {frame.event for frame in rest} <= {"updates"}
    assert (await client.runs.get(thread, run))["status"] == "interrupted"


async def test_pending_run_can_be_cancelled_and_the_next_one_runs(client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    await client.runs.create(thread, "slow", input={"steps": 1, "seconds": 0.5})
    skipped = await client.runs.create(thread, "abc", input={})
    last = await client.runs.create(thread, "abc", input={})
    await client.runs.cancel(thread, skipped["run_id"])

    assert (await client.runs.get(thread, skipped["run_id"]))["status"] == "interrupted"
    values = await client.runs.join(thread, last["run_id"])
    assert values["trace"] == ["A", "B", "C"]


async def test_deleting_a_busy_thread_stops_its_run(client: LangGraphClient, until: Until) -> None:
    thread = (await client.threads.create())["thread_id"]
    run = await client.runs.create(thread, "slow", input={"steps": 100, "seconds": 0.2})
    await until(lambda: is_running(client, thread, run["run_id"]))
    await client.threads.delete(thread)

    with pytest.raises(NotFoundError):
        await client.threads.get(thread)
    with pytest.raises(NotFoundError):
        await client.runs.get(thread, run["run_id"])
