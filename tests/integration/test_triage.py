"""Triage on the offline model, its tools behind the real gateway."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.types import Command

from interlock.checkpoints.database import Database
from interlock.graphs.triage import graph
from interlock.graphs.triage.review import Verdict, read
from interlock.tools.builtin.notes import TEXT_LIMIT
from interlock.tools.policy.decisions import NotADecision

from .governed import APPROVE, Governed, governed

COMPLAINT = "Your support was rude about order A-1003 and I waited for two weeks. This is unacceptable!"
APOLOGY = (
    "I am sorry that we disappointed you with order A-1003. I have passed your words on to the person in "
    "charge, who will get back to you today."
)


async def values(thread: Governed) -> dict[str, Any]:
    return (await thread.graph.aget_state(thread.config)).values


async def reply(thread: Governed) -> str:
    last = (await values(thread))["messages"][-1]
    return last.text if isinstance(last, AIMessage) else ""


async def test_a_question_about_an_order_is_answered_from_the_order(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("Where is my order a-1003?")
        assert await reply(thread) == "Order A-1003 (Chess computer) of 2026-11-03 is shipped."
        assert (await values(thread))["category"] == "order_status"
        assert thread.waiting == []


async def test_a_number_that_is_missing_is_asked_for_and_the_request_goes_on(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("I want my money back")
        assert (await reply(thread)).startswith("I can look into that. What is the number")
        await thread.ask("It is A-1002.")
        assert (await values(thread))["category"] == "refund"
        [waiting] = thread.waiting
        assert waiting["value"]["action_requests"][0]["args"]["amount_cents"] == 27900


async def test_a_refund_in_the_sub_graph_waits_for_a_person(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("Please refund order A-1001, it arrived broken")
        [waiting] = thread.waiting
        assert waiting["value"]["action_requests"][0]["args"] == {
            "order_id": "A-1001",
            "amount_cents": 14900,
            "reason": "The customer wrote: Please refund order A-1001, it arrived broken",
        }
        await thread.resume(APPROVE)
        assert await reply(thread) == "149.00 EUR of order A-1001 are on their way back to you."
        await thread.ask("Please refund order A-1001 once more")
        assert "already refunded in full" in await reply(thread)
        assert thread.waiting == []


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (
            {"type": "reject", "message": "too late"},
            "A colleague looked at this and decided against it. too late",
        ),
        ({"type": "respond", "message": "We send a new one."}, "We send a new one."),
        (
            {
                "type": "edit",
                "edited_action": {
                    "name": "order_refund",
                    "args": {"order_id": "A-1001", "amount_cents": 100, "reason": "goodwill"},
                },
            },
            "1.00 EUR of order A-1001 are on their way back to you.",
        ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else None,
)
async def test_the_customer_hears_what_the_reviewer_decided(
    database: Database, decision: dict[str, Any], said: str
) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("Please refund order A-1001")
        await thread.resume({"decisions": [decision]})
        assert await reply(thread) == said


async def test_an_unknown_order_is_reported(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("Please refund order A-77")
        assert await reply(thread) == "I could not do that: there is no order 'A-77'."


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"type": "approve"}, APOLOGY),
        ([{"type": "accept", "args": None}], APOLOGY),
        (
            {
                "decisions": [
                    {"type": "edit", "edited_action": {"name": "send_reply", "args": {"text": "Sorry!"}}}
                ]
            },
            "Sorry!",
        ),
        ({"decisions": [{"type": "respond", "message": "I will call you."}]}, "I will call you."),
        ({"decisions": [{"type": "reject"}]}, "A colleague has taken this over and will write to you."),
    ],
)
async def test_a_person_reads_the_reply_to_a_complaint(database: Database, decision: Any, said: str) -> None:
    async with governed(database, graph) as thread:
        await thread.ask(COMPLAINT)
        [waiting] = thread.waiting
        [request] = waiting["value"]["action_requests"]
        assert (request["name"], request["args"]) == ("send_reply", {"text": APOLOGY})
        assert COMPLAINT in request["description"]
        await thread.run(Command(resume=decision))
        assert await reply(thread) == said
        assert await thread.trail() == [("note_write", "settle", "succeeded")]


async def test_an_answer_that_is_no_decision_is_asked_for_again(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask(COMPLAINT)
        await thread.run(Command(resume={"type": "perhaps"}))
        [waiting] = thread.waiting
        assert "'perhaps' is no decision" in waiting["value"]["action_requests"][0]["description"]
        await thread.run(Command(resume={"type": "approve"}))
        assert await reply(thread) == APOLOGY


async def test_anything_else_is_answered_without_a_tool(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask("What are your opening hours?")
        assert "a colleague will read this" in await reply(thread)
        assert await thread.trail() == []


async def test_the_form_of_the_classifier_is_not_streamed(database: Database) -> None:
    async with governed(database, graph) as thread:
        given = {"messages": [("user", "What are your opening hours?")]}
        streamed = [
            message.text
            async for message, _ in thread.graph.astream(given, thread.config, stream_mode="messages")
            if isinstance(message, AIMessage)
        ]
        assert streamed == [await reply(thread)]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "approve",
        [],
        {"decisions": []},
        [{"type": "approve"}, {"type": "approve"}],
        {"type": "edit"},
        {"type": "edit", "args": {"action": "send_reply", "args": {"text": " "}}},
        {"type": "respond"},
        {"type": None},
    ],
)
def test_a_malformed_decision_says_what_is_wrong(answer: Any) -> None:
    with pytest.raises(NotADecision):
        read(answer, draft="draft")


def test_the_agent_inbox_edits_in_its_own_form() -> None:
    answer = [{"type": "edit", "args": {"action": "send_reply", "args": {"text": "Hello"}}}]
    assert read(answer, draft="draft") == Verdict(send=True, text="Hello")


async def notes(thread: Governed) -> list[str]:
    assert thread.graph.store is not None
    found = await thread.graph.store.asearch(("notes", "ann"), limit=10)
    return [item.value["text"] for item in found]


async def test_a_second_complaint_does_not_replace_the_note_of_the_first(database: Database) -> None:
    async with governed(database, graph) as thread:
        for complaint in (COMPLAINT, f"Nobody ever answered, which is worse. {COMPLAINT}"):
            await thread.ask(complaint)
            await thread.resume(APPROVE)
        assert len(await notes(thread)) == 2


async def test_a_complaint_of_any_length_is_written_down(database: Database) -> None:
    async with governed(database, graph) as thread:
        await thread.ask(f"{COMPLAINT} {'I am angry. ' * 1000}\0")
        await thread.resume(APPROVE)
        [note] = await notes(thread)
        assert note.startswith(COMPLAINT)
        assert note.endswith(APOLOGY)
        assert len(note) <= TEXT_LIMIT
        assert await thread.trail() == [("note_write", "settle", "succeeded")]
