"""Going on from an older checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from ..servers import InterlockServer, steps


@pytest.mark.parametrize("body", [{}, {"input": None}])
async def test_run_from_a_checkpoint_without_input_goes_on_from_there(
    client: LangGraphClient, http: httpx.AsyncClient, server: InterlockServer, body: dict[str, Any]
) -> None:
    """O09."""
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "abc", input={})
    history = await client.threads.get_history(thread)
    middle = next(state for state in history if state["next"] == ["B"])

    request = body | {
        "assistant_id": "abc",
        "checkpoint": {"checkpoint_id": middle["checkpoint"]["checkpoint_id"]},
    }
    values = (await http.post(f"/threads/{thread}/runs/wait", json=request)).json()

    assert values["trace"] == ["A", "B", "C"]
    assert steps(server, thread) == ["A", "B", "C", "B", "C"]
    parents = {
        s["checkpoint"]["checkpoint_id"]: s for s in await client.threads.get_history(thread, limit=50)
    }
    state = await client.threads.get_state(thread)
    assert state["checkpoint"]["checkpoint_id"] not in {s["checkpoint"]["checkpoint_id"] for s in history}
    path: list[str] = []
    while state["parent_checkpoint"] is not None:
        path.append(state["parent_checkpoint"]["checkpoint_id"])
        state = parents[path[-1]]
    assert middle["checkpoint"]["checkpoint_id"] in path


async def test_old_branch_stays_readable_after_a_fork(client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "hitl", input={})
    asking = (await client.threads.get_state(thread))["checkpoint"]
    await client.runs.wait(thread, "hitl", command={"resume": "yes"})
    old_head = (await client.threads.get_state(thread))["checkpoint"]["checkpoint_id"]

    forked = await client.threads.update_state(
        thread, {"before": 7}, as_node="count_before", checkpoint=asking
    )
    assert (await client.threads.get_state(thread))["values"] == {"before": 7}
    await client.runs.wait(thread, "hitl", input=None, checkpoint=forked["checkpoint"])
    values = await client.runs.wait(thread, "hitl", command={"resume": "no"})

    assert values == {"before": 7, "answer": "no", "after": 1}
    old = await client.threads.get_state(thread, checkpoint_id=old_head)
    assert old["values"] == {"before": 1, "answer": "yes", "after": 1}


async def test_a_replay_from_before_a_question_asks_it_again_and_leaves_the_old_answer_alone(
    client: LangGraphClient,
) -> None:
    """O11."""
    thread = (await client.threads.create())["thread_id"]
    asked = await client.runs.wait(thread, "hitl", input={})
    await client.runs.wait(thread, "hitl", command={"resume": "yes"})
    old_head = (await client.threads.get_state(thread))["checkpoint"]["checkpoint_id"]
    history = await client.threads.get_history(thread)
    before = next(state for state in history if state["next"] == ["count_before"])

    again = await client.runs.wait(thread, "hitl", input=None, checkpoint=before["checkpoint"])

    assert [one["value"] for one in again["__interrupt__"]] == [
        one["value"] for one in asked["__interrupt__"]
    ]
    state = await client.threads.get_state(thread)
    assert state["next"] == ["ask"]
    assert [one["value"] for one in state["tasks"][0]["interrupts"]] == [{"question": "go on?", "before": 1}]
    assert (await client.threads.get(thread))["status"] == "interrupted"

    values = await client.runs.wait(thread, "hitl", command={"resume": "no"})

    assert values == {"before": 1, "answer": "no", "after": 1}
    old = await client.threads.get_state(thread, checkpoint_id=old_head)
    assert old["values"] == {"before": 1, "answer": "yes", "after": 1}


async def test_a_run_from_the_middle_works_after_a_restart_as_before(
    interlock_server: Callable[..., InterlockServer],
) -> None:
    """O14."""
    server = interlock_server()
    async with get_client(url=server.url, api_key=None) as client:
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "abc", input={})
        history = await client.threads.get_history(thread)
        middle = next(state for state in history if state["next"] == ["B"])["checkpoint"]

        server.restart()
        values = await client.runs.wait(thread, "abc", input=None, checkpoint=middle)

        assert values["trace"] == ["A", "B", "C"]
        assert steps(server, thread) == ["A", "B", "C", "B", "C"]
        kept = await client.threads.get_history(thread, limit=50)
        assert [one["checkpoint"] for one in kept[-len(history) :]] == [one["checkpoint"] for one in history]
