"""`priority.path`: a project's hook decides in which order runs are served."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from langgraph_sdk import get_client

from .conftest import KEYS, Serve

HOOK = {"path": "./priority.py:priority"}


def row(database_url: str, thread_id: str) -> Any:
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT t.priority, t.fairness_group, r.priority, r.fairness_group FROM interlock.threads t"
            " JOIN interlock.runs r USING (tenant_id, thread_id) WHERE thread_id = %s"
            " ORDER BY r.created_at DESC LIMIT 1",
            (thread_id,),
        ).fetchone()


async def test_a_hook_decides_at_the_first_run_of_a_thread(serve: Serve, database_url: str) -> None:
    served = serve(toml=KEYS, priority=HOOK)
    async with get_client(url=served.url, api_key="ann-key") as client:
        thread = (await client.threads.create(metadata={"plan": "premium"}))["thread_id"]
        await client.runs.wait(thread, "echo", input={}, metadata={"urgency": -3})
        assert row(database_url, thread) == (-3, "premium:ann:echo", -3, "premium:ann:echo")
        await client.runs.wait(thread, "echo", input={}, metadata={"urgency": 4})
        assert row(database_url, thread) == (-3, "premium:ann:echo", -3, "premium:ann:echo")
        plain = (await client.threads.create())["thread_id"]
        await client.runs.wait(plain, "echo", input={})
        assert row(database_url, plain) == (0, "default", 0, "default")


@pytest.mark.parametrize("urgency", [9, "raise", "three", 1.5])
async def test_a_hook_that_fails_is_logged_and_asked_again(
    serve: Serve, database_url: str, urgency: Any
) -> None:
    served = serve(priority=HOOK)
    async with get_client(url=served.url, api_key=None) as client:
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "echo", input={}, metadata={"urgency": urgency})
        assert row(database_url, thread) == (None, None, 0, "default")
        assert "priority_hook_failed" in served.log
        await client.runs.wait(thread, "echo", input={}, metadata={"urgency": 2})
        assert row(database_url, thread)[0] == 2


async def test_urgent_runs_are_served_first(serve: Serve) -> None:
    api = serve("serve", priority=HOOK)
    async with get_client(url=api.url, api_key=None) as client:
        order = [3, 0, -5, 5, -1]
        runs = [
            await client.runs.create(None, "echo", input={}, metadata={"urgency": u}, on_completion="keep")
            for u in order
        ]
        serve("work", priority=HOOK, env={"N_JOBS_PER_WORKER": "1"})
        await asyncio.gather(*(client.runs.join(run["thread_id"], run["run_id"]) for run in runs))
        ended = [await client.runs.get(run["thread_id"], run["run_id"]) for run in runs]
        by_end = sorted(zip(ended, order, strict=True), key=lambda pair: pair[0]["updated_at"])
        assert [urgency for _, urgency in by_end] == sorted(order)


async def test_a_hook_that_is_none_refuses_the_start(serve: Serve) -> None:
    served = serve(priority={"path": "./priority.py:assign"}, wait=False)
    assert served.process is not None
    assert served.process.wait(60) == 1
    assert "`priority.path`" in served.log
