"""The offline model as a chat model: what it calls, what it says, and how it streams."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from interlock.graphs.offline import OfflineModel, model
from interlock.graphs.offline.vectors import word_vectors
from interlock.graphs.triage.state import Ticket
from interlock.tools.builtin import BUILTIN
from interlock.tools.results import wrapped

QUIET = OfflineModel(pause_s=0)
ORDER = {
    "order_id": "A-1001",
    "customer": "Ada Lovelace",
    "item": "Mechanical keyboard",
    "status": "delivered",
    "paid": "149.00 EUR",
    "refunded": "0.00 EUR",
    "refundable_cents": 14900,
    "placed": "2026-10-02",
}
PAGE = {
    "url": "https://example.com",
    "status": 200,
    "text": "<title>Example</title><p>Hello &amp; welcome</p>",
}


@pytest.fixture(params=["with vectors", "without vectors"])
def vectors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every question is asked with the extra `embedded` and without it."""
    has = request.param == "with vectors"
    if not has:
        monkeypatch.setattr(model, "word_vectors", lambda: None)
    return has


def ask(*messages: BaseMessage | str, tools: Sequence[Any] = BUILTIN) -> AIMessage:
    spoken = [HumanMessage(m) if isinstance(m, str) else m for m in messages]
    return QUIET.bind_tools(list(tools)).invoke(spoken)


def called(message: AIMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(call["name"], call["args"]) for call in message.tool_calls]


def noted(**facts: Any) -> dict[str, Any]:
    """What the gateway notes beside a result."""
    return {"additional_kwargs": {"interlock": facts}}


def answered(question: str, **result: Any) -> list[BaseMessage]:
    """The messages of a turn after its first call was answered."""
    call = ask(question)
    [made] = call.tool_calls
    content = result.pop("content")
    text = content if isinstance(content, str) else json.dumps(content)
    return [
        HumanMessage(question),
        call,
        ToolMessage(text, tool_call_id=made["id"], name=made["name"], **result),
    ]


@pytest.mark.parametrize(
    ("question", "calls"),
    [
        ("What is 12% of 340?", [("calculator", {"expression": "12 / 100 * 340"})]),
        ("Hi, what is 3*4?", [("calculator", {"expression": "3*4"})]),
        ("what time is it in Tokyo", [("current_time", {"timezone": "Asia/Tokyo"})]),
        ("what day is it today?", [("current_time", {})]),
        (
            "remember that my favourite colour is teal",
            [("note_write", {"title": "favourite colour", "text": "my favourite colour is teal"})],
        ),
        ("jot down: buy milk", [("note_write", {"title": "buy milk", "text": "buy milk"})]),
        ("what did I note", [("note_read", {})]),
        ("what is my favourite colour?", [("note_read", {})]),
        ("show me all my notes please", [("note_read", {})]),
        ("look up order A-1001", [("order_lookup", {"order_id": "A-1001"})]),
        ("how much did a-1001 cost?", [("order_lookup", {"order_id": "A-1001"})]),
        ("orders of Ada Lovelace", [("order_lookup", {"customer": "Ada Lovelace"})]),
        ("fetch https://example.com", [("http_fetch", {"url": "https://example.com"})]),
        ("open example.com", [("http_fetch", {"url": "https://example.com"})]),
        (
            "look up orders A-1001 and A-1002",
            [("order_lookup", {"order_id": "A-1001"}), ("order_lookup", {"order_id": "A-1002"})],
        ),
        (
            "what is 3+4 and what time is it in Paris?",
            [("calculator", {"expression": "3+4"}), ("current_time", {"timezone": "Europe/Paris"})],
        ),
    ],
)
def test_a_plain_request_becomes_the_right_call(
    vectors: bool, question: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    assert called(ask(question)) == calls


@pytest.mark.parametrize(
    "question",
    [
        "who won the world cup in 1998",
        "write me a poem about rain",
        "delete all orders",
        "cancel order A-1001",
        "what's the weather in Berlin",
        "search the web for cats",
        "translate hello to french",
        "Why is the sky blue?",
        "asdf",
    ],
)
def test_what_no_tool_can_do_is_said_plainly(vectors: bool, question: str) -> None:
    answer = ask(question)
    assert answer.tool_calls == []
    assert "not a language model" in answer.text
    assert "order_lookup" in answer.text
    assert ("Without the extra `embedded`" in answer.text) is not vectors


@pytest.mark.parametrize(
    "question",
    [
        "is order A-1001 refunded?",
        "what was refunded on A-1001?",
        "status of my refund A-1001",
        "check the refund for A-1001",
    ],
)
def test_to_ask_about_a_refund_is_not_to_order_one(vectors: bool, question: str) -> None:
    assert called(ask(question)) == [("order_lookup", {"order_id": "A-1001"})]
    after = ask(*answered(question, content=[ORDER]))
    assert after.tool_calls == []
    assert "Mechanical keyboard" in after.text


@pytest.mark.parametrize(
    "question",
    [
        "refund order A-1001, it arrived broken",
        "can you refund order A-1001? It arrived broken",
        "I want my money back for A-1001",
        "give me a refund for A-1001",
        "look up order A-1001 and refund it",
    ],
)
def test_a_refund_looks_the_order_up_and_gives_back_what_is_left(vectors: bool, question: str) -> None:
    assert called(ask(question)) == [("order_lookup", {"order_id": "A-1001"})]
    turn = answered(question, content=[ORDER])
    refund = ask(*turn)
    [(name, arguments)] = called(refund)
    assert (name, arguments["order_id"], arguments["amount_cents"]) == ("order_refund", "A-1001", 14900)
    receipt = {"order_id": "A-1001", "refunded": "149.00 EUR", "left": "0.00 EUR"}
    done = ToolMessage(json.dumps(receipt), tool_call_id=refund.tool_calls[0]["id"], name=name)
    answer = ask(*turn, refund, done)
    assert answer.tool_calls == []
    assert "Refunded 149.00 EUR of order A-1001" in answer.text


def test_no_refund_follows_a_look_up_that_failed() -> None:
    question = "refund order A-9999"
    answer = ask(*answered(question, content="Error: there is no order 'A-9999'.", status="error"))
    assert answer.tool_calls == []
    assert answer.text == "`order lookup` did not work: there is no order 'A-9999'."


def test_a_missing_argument_is_asked_for_and_the_answer_is_understood() -> None:
    first = ask("where is my package?")
    assert first.text == "For `order lookup` I need the order number, such as A-1001. What is it?"
    assert called(ask("where is my package?", first, "A-1002")) == [("order_lookup", {"order_id": "A-1002"})]


def test_a_later_turn_can_refer_to_an_earlier_one() -> None:
    turn = answered("look up order A-1001", content=[ORDER])
    assert called(ask(*turn, ask(*turn), "refund it")) == [("order_lookup", {"order_id": "A-1001"})]


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        (
            {
                "content": "Refused: the host 'example.com' is not allowed.",
                "status": "error",
                **noted(outcome="refused", reason="the host 'example.com' is not allowed"),
            },
            "`http fetch` was refused: the host 'example.com' is not allowed.",
        ),
        (
            {
                "content": "User rejected the tool call for `http_fetch` with reason: not today. It was not "
                "executed. Do not try it again unless the user asks for it.",
                "status": "error",
                **noted(outcome="rejected", reason="not today"),
            },
            "A person rejected `http fetch`: not today. Nothing was done.",
        ),
        (
            {"content": "It is down.", **noted(outcome="responded")},
            "A person answered for `http fetch`: It is down.",
        ),
        (
            {"content": wrapped(json.dumps(PAGE), "http_fetch")},
            f"{PAGE['url']} answered 200, titled \u201cExample\u201d. It begins: Example Hello & welcome",
        ),
    ],
)
def test_whatever_became_of_a_call_is_told(result: dict[str, Any], answer: str) -> None:
    assert ask(*answered("fetch https://example.com", **result)).text == answer


def test_a_call_that_a_person_changed_is_told_as_it_ran() -> None:
    notice = (
        "Note: a person changed this call before it ran. It ran with these arguments: "
        '{"expression":"2 * 3"}. Do not repeat your original call.\n\n6'
    )
    facts = noted(arguments={"expression": "2 * 3"})
    answer = ask(*answered("what is 2 * 2?", content=notice, **facts))
    assert answer.text == "A person changed `calculator` before it ran. 2 * 3 = 6"
    assert answer.tool_calls == []


def test_a_call_without_a_result_is_not_repeated() -> None:
    call = ask("what is 2 * 2?")
    answer = ask("what is 2 * 2?", call)
    assert (answer.tool_calls, answer.text) == ([], "`calculator` was stopped before it answered.")


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("hello", "Hello! I am Interlock's offline model: rules and word vectors, not a language model."),
        ("what can you do", "`order_refund`: Refund an order"),
        ("who are you?", "I am Interlock's offline model"),
        ("thanks!", "You are welcome."),
        ("", "There was no question."),
    ],
)
def test_small_talk_is_answered_without_a_tool(vectors: bool, question: str, part: str) -> None:
    answer = ask(question)
    assert answer.tool_calls == []
    assert part in answer.text


def test_a_tool_of_somebody_else_is_chosen_by_its_own_words() -> None:
    @tool
    def get_weather(city: str) -> str:
        """Get the weather of a city."""
        return city

    @tool
    def send_invoice(email: str, amount: float) -> str:
        """Send an invoice to a customer."""
        return email + str(amount)

    tools = [get_weather, send_invoice]
    assert called(ask("what's the weather in Berlin?", tools=tools)) == [("get_weather", {"city": "Berlin"})]
    assert called(ask("send an invoice of 40 EUR to bob@example.com", tools=tools)) == [
        ("send_invoice", {"email": "bob@example.com", "amount": 40.0})
    ]


def test_the_same_messages_give_the_same_answer_and_ids() -> None:
    assert ask("what is 2+2?", "and hello") == ask("what is 2+2?", "and hello")
    first, again = ask("hello"), ask("hello", ask("hello"), "hello")
    assert first.text == again.text
    assert first.id != again.id


async def test_an_answer_streams_word_by_word_under_one_id() -> None:
    chunks = [chunk async for chunk in QUIET.astream("hello")]
    assert len(chunks) > 10
    assert {chunk.id for chunk in chunks} == {QUIET.invoke("hello").id}
    assert "".join(chunk.text for chunk in chunks) == QUIET.invoke("hello").text
    assert [chunk.usage_metadata is not None for chunk in chunks].count(True) == 1
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata == QUIET.invoke("hello").usage_metadata
    assert whole.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [QUIET.bind_tools(list(BUILTIN)).stream])
def test_a_streamed_call_adds_up_to_the_same_call(stream: Callable[..., Any]) -> None:
    question = "remember that the door code is 4711 and the alarm code is 0815"
    chunks = list(stream(question))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert len(chunks) > 3
    assert whole.tool_calls == ask(question).tool_calls
    assert whole.response_metadata["finish_reason"] == "tool_calls"


def test_tool_choice_is_obeyed() -> None:
    offered = list(BUILTIN)
    assert QUIET.bind_tools(offered, tool_choice="none").invoke("what is 2+2?").tool_calls == []
    forced = QUIET.bind_tools(offered, tool_choice="calculator").invoke("hello, 2+2")
    assert called(forced) == [("calculator", {"expression": "2+2"})]


def test_stop_marks_end_the_answer() -> None:
    assert QUIET.invoke("hello", stop=["offline"]).text == "Hello! I am Interlock's "


@pytest.mark.parametrize(
    ("text", "category", "order_id"),
    [
        ("I want a refund for order A-1001, it arrived broken", "refund", "A-1001"),
        ("I'd like to return the keyboard from A-1001", "refund", "A-1001"),
        ("Where is my order A-1003?", "order_status", "A-1003"),
        ("A-1002 still has not arrived", "order_status", "A-1002"),
        ("Your support was rude and I waited for two weeks. This is unacceptable!", "complaint", None),
        ("What are your opening hours?", "other", None),
        ("Thanks, all good!", "other", None),
    ],
)
def test_a_schema_that_must_be_filled_is_filled(
    vectors: bool, text: str, category: str, order_id: str | None
) -> None:
    ticket = QUIET.with_structured_output(Ticket).invoke([SystemMessage("Sort this."), HumanMessage(text)])
    assert isinstance(ticket, Ticket)
    assert (ticket.category, ticket.order_id) == (category, order_id)


def test_a_form_without_glosses_still_validates() -> None:
    class Form(BaseModel):
        mood: Literal["good", "bad"]
        confidence: float = Field(ge=0, le=1)
        summary: str
        tags: list[str]
        count: int

    form = QUIET.with_structured_output(Form).invoke("what a bad day")
    assert isinstance(form, Form)
    assert (form.mood, form.tags) == ("bad", [])


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000_000,
        "a.b-" * 1_250_000,
        "what my " * 600_000,
        "1+" * 2_500_000,
        "lone \ud800 surrogate, NUL \x00, \u2028",
        "\U000e0041" * 1000,
        "(" * 100_000,
    ],
    ids=["long word", "long host", "many questions", "long sum", "odd characters", "tags", "parentheses"],
)
def test_whatever_is_written_gets_an_answer(vectors: bool, text: str) -> None:
    answer = ask(text)
    assert answer.text or answer.tool_calls
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] > 0


def test_content_of_other_kinds_is_passed_over() -> None:
    parts: list[Any] = [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "text", "text": "What is 2+2?"},
        {"type": "text", "text": None},
    ]
    assert called(ask(HumanMessage(content=parts))) == [("calculator", {"expression": "2+2"})]


def test_a_text_of_any_length_takes_little_memory() -> None:
    vectors = word_vectors()
    assert vectors is not None
    vectors.embed("warm")
    tracemalloc.start()
    try:
        found = vectors.embed("a dog and a cat " * 60_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000
    assert float(found @ vectors.embed("a dog and a cat " * 100)) > 0.99
