"""What a list of conversations does to them: rename and delete, also while one is answering."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from ..servers import InterlockServer, steps

Until = Callable[..., Awaitable[Any]]


async def test_a_busy_thread_that_is_deleted_stops_its_runs_first(
    client: LangGraphClient, server: InterlockServer, until: Until
) -> None:
    """O64."""
    thread = (await client.threads.create())["thread_id"]
    endless: dict[str, Any] = {"steps": 10_000, "seconds": 0.05}
    running = (await client.runs.create(thread, "slow", input=endless))["run_id"]
    waiting = (await client.runs.create(thread, "slow", input=endless))["run_id"]
    await until(lambda: steps(server, thread))

    await client.threads.delete(thread)

    with pytest.raises(NotFoundError):
        await client.threads.get(thread)
    for run in (running, waiting):
        with pytest.raises(NotFoundError):
            await client.runs.get(thread, run)
    other = (await client.threads.create())["thread_id"]

    async def rests() -> bool:
        """Whether no step of the deleted thread comes while another one gets its turn."""
        done = len(steps(server, thread))
        await client.runs.wait(other, "slow", input={"steps": 3, "seconds": 0.2})
        return len(steps(server, thread)) == done

    await until(rests, deadline_s=60)
    assert await rests()
    assert not any(one["thread_id"] == thread for one in await client.threads.search(limit=1000))


async def test_a_renamed_thread_keeps_its_name_through_runs(client: LangGraphClient) -> None:
    """O64."""
    thread = (await client.threads.create(metadata={"title": "New chat"}))["thread_id"]
    run = await client.runs.create(thread, "slow", input={"steps": 3, "seconds": 0.2})
    renamed = await client.threads.update(thread, metadata={"title": "Letters"})
    assert renamed["metadata"]["title"] == "Letters"
    await client.runs.join(thread, run["run_id"])
    await client.runs.wait(thread, "slow", input={"steps": 1, "seconds": 0})
    found = await client.threads.search(metadata={"title": "Letters"})
    assert [one["thread_id"] for one in found] == [thread]
    assert found[0]["metadata"]["graph_id"] == "slow"
