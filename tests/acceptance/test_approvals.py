"""What an agent may do only when a person agrees: a refund of the assistant, from the official client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from ..servers import InterlockServer, prepare, running

ROOT = Path(__file__).parents[2]
Query = Callable[..., list[Any]]
APPROVE = {"decisions": [{"type": "approve"}]}
REJECT = {"decisions": [{"type": "reject", "message": "out of warranty"}]}


@pytest.fixture(scope="module")
def server(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InterlockServer]:
    """A server with the graphs of this repository."""
    shared = prepare(module_database_url, tmp_path_factory.mktemp("server"), project=ROOT)
    with running(shared):
        yield shared


@pytest.fixture
def query(module_database_url: str) -> Query:
    """Read the server's database: what a client is told is one thing, what happened another."""

    def read(statement: LiteralString, *parameters: Any) -> list[Any]:
        with psycopg.connect(module_database_url) as connection:
            return connection.execute(statement, parameters).fetchall()

    return read


def refunds(query: Query, order: str) -> list[tuple[int]]:
    return query("SELECT amount_cents FROM interlock.order_refunds WHERE order_id = %s", order)


def audit(query: Query, thread: str) -> list[tuple[str, ...]]:
    """The attempts at tool calls of a thread, and how each ended."""
    return query(
        "SELECT tool, stage, outcome FROM interlock.tool_calls WHERE thread_id = %s ORDER BY at", thread
    )


async def ask(client: LangGraphClient, text: str) -> tuple[str, Any]:
    """A new thread and what its first run answered."""
    thread = (await client.threads.create())["thread_id"]
    question = {"messages": [{"role": "user", "content": text}]}
    return thread, await client.runs.wait(thread, "assistant", input=question)


async def test_a_refund_waits_for_a_person_and_a_rejected_one_does_not_happen(
    client: LangGraphClient, query: Query
) -> None:
    thread, answer = await ask(client, "Refund 12.50 EUR for order A-1001 because it arrived broken")
    [waiting] = answer["__interrupt__"]
    assert waiting["value"]["action_requests"][0]["name"] == "order_refund"
    assert (await client.threads.get(thread))["status"] == "interrupted"
    assert refunds(query, "A-1001") == []

    answer = await client.runs.wait(thread, "assistant", command={"resume": REJECT})
    assert "out of warranty" in answer["messages"][-1]["content"]
    assert (await client.threads.get(thread))["status"] == "idle"
    assert refunds(query, "A-1001") == []
    assert audit(query, thread) == [
        ("order_refund", "review", "waiting"),
        ("order_refund", "review", "rejected"),
    ]


async def test_an_approved_refund_happens_once_though_the_approval_is_sent_twice(
    client: LangGraphClient, query: Query
) -> None:
    thread, _ = await ask(client, "Refund 20 EUR for order A-1002 because it arrived broken")

    async def approve() -> Any:
        return await client.runs.wait(thread, "assistant", command={"resume": APPROVE})

    both: Any = await asyncio.gather(approve(), approve(), return_exceptions=True)
    [refused] = [answer for answer in both if isinstance(answer, httpx.HTTPStatusError)]
    [done] = [answer for answer in both if answer is not refused]
    assert refused.response.status_code == 409
    assert "Refunded 20.00 EUR of order A-1002" in done["messages"][-1]["content"]
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        await approve()
    assert refunds(query, "A-1002") == [(2000,)]
    assert len(await client.runs.list(thread)) == 2


async def test_a_refused_call_leaves_a_row_in_the_audit_and_nobody_is_asked(
    client: LangGraphClient, query: Query
) -> None:
    thread, answer = await ask(client, "Refund 500 EUR for order A-1003 because it arrived broken")
    assert "__interrupt__" not in answer
    assert (await client.threads.get(thread))["status"] == "idle"
    assert audit(query, thread) == [("order_refund", "dry_run", "refused")]
    assert refunds(query, "A-1003") == []


async def test_agent_inbox_shows_a_refund_and_sends_the_amount_as_it_was_typed(
    client: LangGraphClient, query: Query
) -> None:
    """Its requests: it reads `arguments`, and what a person types in a field is a text."""
    thread, answer = await ask(client, "Refund 7 EUR for order A-1004 because it arrived broken")
    [request] = answer["__interrupt__"][0]["value"]["action_requests"]
    assert request["arguments"] == request["args"]
    assert request["arguments"]["amount_cents"] == 700

    async def send(amount: str) -> list[Any]:
        edited = {"action": request["name"], "args": {**request["arguments"], "amount_cents": amount}}
        command: Any = {"resume": [{"type": "edit", "args": edited}]}
        resumed = client.runs.stream(thread, "assistant", command=command, stream_mode="events")
        return [part.event async for part in resumed]

    with pytest.raises(httpx.HTTPStatusError, match="amount_cents"):
        await send("six")
    assert "error" not in await send("600")
    assert refunds(query, "A-1004") == [(600,)]


async def test_a_refund_that_is_marked_as_resolved_does_not_happen(
    client: LangGraphClient, query: Query
) -> None:
    """As agent-chat-ui asks for it; the review cannot be answered any more, and the thread goes on."""
    thread, _ = await ask(client, "Refund 7 EUR for order A-1005 because it arrived broken")
    await client.runs.wait(thread, "assistant", input={}, command={"goto": "__end__"})
    assert (await client.threads.get(thread))["status"] == "idle"
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        await client.runs.wait(thread, "assistant", command={"resume": APPROVE})
    assert refunds(query, "A-1005") == []

    question = {"messages": [{"role": "user", "content": "What is 12% of 340, plus 25?"}]}
    answer: Any = await client.runs.wait(thread, "assistant", input=question)
    assert "65.8" in answer["messages"][-1]["content"]
