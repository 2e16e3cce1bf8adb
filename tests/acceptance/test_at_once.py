"""Many at the same moment: creates of one id, first requests after a start, retries of one request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from ..servers import prepare, running

Until = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize("if_exists", ["raise", "do_nothing"])
async def test_ten_equal_creates_make_one_thread(
    client: LangGraphClient, http: httpx.AsyncClient, shared_database_url: str, if_exists: str
) -> None:
    """O52."""
    thread = str(uuid4())
    body = {"thread_id": thread, "metadata": {"mark": thread}, "if_exists": if_exists}
    answers = await asyncio.gather(*(http.post("/threads", json=body) for _ in range(10)))

    expected = {200: 10} if if_exists == "do_nothing" else {200: 1, 409: 9}
    assert Counter(answer.status_code for answer in answers) == expected
    assert {answer.json()["thread_id"] for answer in answers if answer.is_success} == {thread}
    with psycopg.connect(shared_database_url) as connection:
        query = "SELECT count(*) FROM interlock.threads WHERE thread_id = %s"
        assert connection.execute(query, (thread,)).fetchone() == (1,)


@pytest.mark.parametrize("if_exists", ["raise", "do_nothing"])
async def test_ten_equal_creates_make_one_assistant(
    http: httpx.AsyncClient, shared_database_url: str, if_exists: str
) -> None:
    """O52."""
    assistant = str(uuid4())
    body = {"assistant_id": assistant, "graph_id": "abc", "if_exists": if_exists}
    answers = await asyncio.gather(*(http.post("/assistants", json=body) for _ in range(10)))

    expected = {200: 10} if if_exists == "do_nothing" else {200: 1, 409: 9}
    assert Counter(answer.status_code for answer in answers) == expected
    with psycopg.connect(shared_database_url) as connection:
        query = "SELECT count(*) FROM interlock.assistants WHERE assistant_id = %s"
        assert connection.execute(query, (assistant,)).fetchone() == (1,)


async def test_ten_equal_run_creates_on_a_missing_thread_make_one_thread(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """O52: the thread is made by the first run that comes."""
    thread = str(uuid4())
    body = {"assistant_id": "abc", "input": {}, "if_not_exists": "create"}
    answers = await asyncio.gather(*(http.post(f"/threads/{thread}/runs", json=body) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}

    for run in await client.runs.list(thread, limit=20):
        await client.runs.join(thread, run["run_id"])
    values: Any = (await client.threads.get_state(thread))["values"]
    assert values["trace"] == ["A", "B", "C"] * 10


async def test_of_ten_runs_that_reject_a_busy_thread_one_runs_and_nine_leave_no_trace(
    client: LangGraphClient, http: httpx.AsyncClient, shared_database_url: str
) -> None:
    thread = (await client.threads.create())["thread_id"]
    body = {"assistant_id": "slow", "input": {"steps": 2, "seconds": 0.5}, "multitask_strategy": "reject"}
    answers = await asyncio.gather(*(http.post(f"/threads/{thread}/runs", json=body) for _ in range(10)))

    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 9}
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["detail"].startswith("Thread is already running a task.")
    with psycopg.connect(shared_database_url) as connection:
        query = "SELECT count(*) FROM interlock.runs WHERE thread_id = %s"
        assert connection.execute(query, (thread,)).fetchone() == (1,)


async def test_two_hundred_first_requests_all_find_their_graph(database_url: str, tmp_path: Path) -> None:
    """O38: right after the start, in parallel, over several graphs."""
    server = prepare(database_url, tmp_path)
    with running(server):
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as http:

            async def one(number: int) -> None:
                graph = ("abc", "loop", "chat", "fact")[number % 4]
                given: dict[str, Any] = {"messages": [], "n": 2} if graph in {"chat", "loop"} else {}
                answer = await http.post("/runs/wait", json={"assistant_id": graph, "input": given})
                assert answer.status_code == 200, answer.text
                assert "__error__" not in answer.json(), answer.text

            await asyncio.gather(*(one(number) for number in range(200)))
        async with get_client(url=server.url, api_key=None) as client:
            assert await client.threads.count() == 0


async def test_retried_create_returns_the_same_run(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    """O62: also when the two arrive together."""
    thread = (await client.threads.create())["thread_id"]
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"assistant_id": "abc", "input": {}}
    url = f"/threads/{thread}/runs"
    answers = await asyncio.gather(*(http.post(url, json=body, headers=headers) for _ in range(5)))
    late = await http.post(url, json=body, headers=headers)

    assert {answer.status_code for answer in (*answers, late)} == {200}
    assert len({answer.json()["run_id"] for answer in (*answers, late)}) == 1
    assert len(await client.runs.list(thread)) == 1

    other = await http.post(url, json=body | {"input": {"trace": ["x"]}}, headers=headers)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json()["detail"]
    assert len(await client.runs.list(thread)) == 1


async def test_retried_stateless_wait_gives_the_same_answer(http: httpx.AsyncClient) -> None:
    """O62: the second request joins the run of the first."""
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"assistant_id": "slow", "input": {"steps": 2, "seconds": 0.3}}
    first, second = await asyncio.gather(
        *(http.post("/runs/wait", json=body, headers=headers) for _ in range(2))
    )
    assert first.json() == second.json()
    assert first.json()["done"] == [1, 2]
    assert first.headers["content-location"] == second.headers["content-location"]
