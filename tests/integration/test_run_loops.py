"""Run loops: graphs run on threads of their own, and a blocked one is named."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from interlock.server.records.event_log import Hub
from interlock.server.resources import Resources
from interlock.server.runs.catalog import Catalog
from interlock.server.settings import DatabaseSettings, Settings, ToolSettings
from interlock.server.worker.run_loops import RunLoop, TaskCancelled
from interlock.tools.toolbox import Toolbox

Until = Callable[..., Awaitable[Any]]


@pytest.fixture
def toolbox() -> Toolbox:
    return Toolbox.open(ToolSettings())


@pytest.fixture
async def run_loop(database_url: str, toolbox: Toolbox) -> AsyncIterator[RunLoop]:
    settings = Settings(database=DatabaseSettings(url=database_url))
    loop = RunLoop(
        "run-loop-1", settings, hub=Hub(), catalog=Catalog({}, {}, {}), toolbox=toolbox, pool_max=2
    )
    await loop.start()
    yield loop
    await loop.stop()


async def test_tools_are_governed_by_what_the_process_loaded_once(
    run_loop: RunLoop, toolbox: Toolbox
) -> None:
    async def work(resources: Resources) -> bool:
        return resources.toolbox is toolbox and resources.gateway.registry is toolbox.registry

    outcome, _ = run_loop.start_task(work, name="task")
    assert await outcome


async def test_a_task_runs_on_the_thread_of_the_loop_with_resources_of_its_own(run_loop: RunLoop) -> None:
    async def work(resources: Resources) -> tuple[str, int]:
        row = await resources.database.fetch_one(b"SELECT 41 + 1 AS answer")
        assert row is not None
        return threading.current_thread().name, row["answer"]

    outcome, _ = run_loop.start_task(work, name="work")
    assert await outcome == ("run-loop-1", 42)


async def test_an_exception_comes_back_as_it_is(run_loop: RunLoop) -> None:
    async def work(_: Resources) -> None:
        raise LookupError("mine")

    outcome, _ = run_loop.start_task(work, name="work")
    with pytest.raises(LookupError, match="mine"):
        await outcome


async def test_a_cancelled_task_is_told_apart_from_a_cancelled_waiter(run_loop: RunLoop) -> None:
    async def work(_: Resources) -> None:
        await asyncio.Event().wait()

    outcome, cancel = run_loop.start_task(work, name="work")
    cancel()
    with pytest.raises(TaskCancelled):
        await outcome


async def test_the_outcome_ends_with_the_task_and_not_with_the_wish_to_cancel_it(run_loop: RunLoop) -> None:
    begun, released = threading.Event(), threading.Event()

    async def work(_: Resources) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.to_thread(released.wait)
        return "tidied up"

    outcome, cancel = run_loop.start_task(work, name="work")
    await asyncio.to_thread(begun.wait)
    cancel()
    done, _ = await asyncio.wait({outcome}, timeout=0.1)
    assert not done
    released.set()
    assert await outcome == "tidied up"


async def test_a_blocked_loop_is_reported_once_with_the_run_and_the_line(
    run_loop: RunLoop, until: Until
) -> None:
    released = threading.Event()

    async def node(config: dict[str, Any]) -> None:
        released.wait(20)  # what an async node must not do

    async def work(_: Resources) -> None:
        await node({"configurable": {"run_id": "r-1", "graph_id": "block"}})

    with capture_logs() as logs:
        outcome, _ = run_loop.start_task(work, name="work")
        assert await until(lambda: run_loop.ping(patience_s=0.2), deadline_s=5)
        run_loop.ping(patience_s=0.2)
        released.set()
        await outcome
        await until(lambda: [entry for entry in logs if entry["event"] == "run_loop_free"])
    (blocked,) = [entry for entry in logs if entry["event"] == "run_loop_blocked"]
    assert (blocked["run_id"], blocked["graph_id"]) == ("r-1", "block")
    assert "test_run_loops.py" in blocked["at"]
    assert blocked["at"].endswith("in node")
    assert run_loop.ping(patience_s=0.2) is None
