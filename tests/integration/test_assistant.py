"""The assistant on the offline model, its tools behind the real gateway."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from interlock.checkpoints.database import Database
from interlock.graphs.assistant import AssistantContext, graph
from interlock.graphs.assistant.nodes import offered
from interlock.graphs.context import GraphContext, current, entered
from interlock.tools.policy.budget import Budget, Meter
from interlock.tools.policy.permissions import Principal
from interlock.tools.registry import builtin_registry

from .governed import Governed, governed, tool_calls


async def refunded_cents(database: Database) -> int:
    row = await database.fetch_one(b"SELECT refunded_cents FROM interlock.orders WHERE order_id = 'A-1001'")
    assert row is not None
    return row["refunded_cents"]


async def answer_of(thread: Governed) -> str:
    state = await thread.graph.aget_state(thread.config)
    last = state.values["messages"][-1]
    return last.text if isinstance(last, AIMessage) else ""


async def test_a_refund_is_looked_up_reviewed_and_done_once(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("refund order A-1001, it arrived broken")
        [waiting] = thread.waiting
        assert waiting["value"]["action_requests"][0]["args"] == {
            "order_id": "A-1001",
            "amount_cents": 14900,
            "reason": "it arrived broken",
        }
        assert await refunded_cents(database) == 0
        await thread.resume({"decisions": [{"type": "approve"}]})
        assert await refunded_cents(database) == 14900
        assert "Refunded 149.00 EUR of order A-1001; 0.00 EUR is left." in await answer_of(thread)


@pytest.mark.parametrize(
    ("decision", "said", "cents"),
    [
        (
            {"type": "reject", "message": "out of warranty"},
            "A person rejected `order refund`: out of warranty. Nothing was done.",
            0,
        ),
        (
            {
                "type": "edit",
                "edited_action": {
                    "name": "order_refund",
                    "args": {"order_id": "A-1001", "amount_cents": 5000, "reason": "half of it works"},
                },
            },
            "A person changed `order refund` before it ran. Refunded 50.00 EUR of order A-1001; 99.00 EUR",
            5000,
        ),
        (
            {"type": "respond", "message": "We send a new one instead."},
            "A person answered for `order refund`: We send a new one instead.",
            0,
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else None,
)
async def test_what_the_reviewer_decided_is_told(
    database: Database, decision: dict[str, Any], said: str, cents: int
) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("refund order A-1001, it arrived broken")
        await thread.resume({"decisions": [decision]})
        assert said in await answer_of(thread)
        assert thread.waiting == []
        assert await refunded_cents(database) == cents


async def test_notes_are_kept_and_found_again(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("remember that my favourite colour is teal")
        assert (
            await answer_of(thread)
            == "Noted under \u201cfavourite colour\u201d: my favourite colour is teal."
        )
        await thread.ask("what is my favourite colour?")
        assert await answer_of(thread) == "You noted: my favourite colour is teal."


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("What is 12% of 340?", "12% of 340 is 40.8."),
        ("calculate 1/0", "`calculator` did not work: division by zero."),
        ("what time is it in Tokyo", "In Tokyo it is "),
        ("look up order A-1001", "Order A-1001: Mechanical keyboard for Ada Lovelace, delivered"),
        ("orders of Grace Hopper", "Order A-1002: Noise-cancelling headphones"),
        ("look up order A-9", "`order lookup` did not work: there is no order 'A-9'."),
        ("fetch https://example.com", "`http fetch` was refused: "),
    ],
)
async def test_the_first_questions_of_a_newcomer_are_answered(
    database: Database, question: str, part: str
) -> None:
    async with governed(database, graph) as thread:
        await thread.ask(question)
        assert part in await answer_of(thread)


async def test_what_a_principal_may_not_do_is_neither_offered_nor_done(database: Database) -> None:
    clerk = Principal(tenant="default", subject="bob", permissions=frozenset({"orders:read"}))
    context = GraphContext(
        principal=clerk,
        registry=builtin_registry(),
        meter=Meter(Budget()),
        store=None,
        model="offline:at-once",
    )
    async with governed(database, graph, principal=clerk) as thread:
        with entered(context):
            assert {t.name for t in offered(AssistantContext())} == {
                "calculator",
                "current_time",
                "order_lookup",
            }
            await thread.ask("refund order A-1001")
        assert "refund" not in [name for name, *_ in await thread.trail()]
        assert await refunded_cents(database) == 0
    assert current() is None


class Heard(BaseCallbackHandler):
    """Keeps what the model is asked."""

    def __init__(self) -> None:
        self.messages: list[BaseMessage] = []

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **_: Any
    ) -> None:
        self.messages = messages[0]


async def test_a_call_left_open_is_answered_for_the_model_when_its_state_is_written() -> None:
    """Only to an input does the server add such a result."""
    thread, heard = graph.copy(update={"checkpointer": InMemorySaver()}), Heard()
    config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [heard]}
    stopped = AIMessage("", tool_calls=tool_calls([{"name": "calculator", "args": {"expression": "1"}}]))
    await thread.aupdate_state(config, {"messages": [HumanMessage("1?"), stopped]}, as_node="think")
    await thread.aupdate_state(config, {"messages": [HumanMessage("hello")]}, as_node="__start__")
    await thread.ainvoke(None, config, context={"model": "offline:at-once"})
    answers = [m.tool_call_id for m in heard.messages if isinstance(m, ToolMessage)]
    assert answers == ["call-0"]


async def test_a_tool_that_the_assistant_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match="`tools` names shell; the assistant has calculator"):
        await graph.ainvoke({"messages": [HumanMessage("hello")]}, context={"tools": ["shell"]})


async def test_keys_that_a_client_adds_to_the_context_are_ignored() -> None:
    state = await graph.ainvoke(
        {"messages": [HumanMessage("hello")]}, context={"model": "offline:at-once", "user_theme": "dark"}
    )
    assert "offline model" in state["messages"][-1].text
