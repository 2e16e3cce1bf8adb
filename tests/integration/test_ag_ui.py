"""Assistants for user interfaces: what AG-UI's own types read out of a stream, and what they send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from ag_ui.core import Event, EventType, RunAgentInput, UserMessage
from pydantic import TypeAdapter

from .conftest import ServeApi, api_key
from .test_hostile_requests import BODIES

ANSWER = "Red lorry, yellow lorry."
KEYS = [api_key("one", "acme"), api_key("two", "globex"), api_key("look", "acme", "viewer")]
EVENT: TypeAdapter[Any] = TypeAdapter(Event)
REFUND = {"name": "order_refund", "args": {"order_id": "A-1001", "amount_cents": 1900, "reason": "late"}}


def wanted(*texts: str, **more: Any) -> dict[str, Any]:
    """An input as the official types write it."""
    messages = [UserMessage(id=uuid4().hex, content=text) for text in texts]
    base = {"thread_id": str(uuid4()), "run_id": str(uuid4()), "messages": messages}
    return RunAgentInput(**{**base, **more}).model_dump(by_alias=True, mode="json")


async def post(
    http: httpx.AsyncClient, body: dict[str, Any], agent: str = "chat", **headers: str
) -> httpx.Response:
    return await http.post(f"/ag-ui/{agent}", json=body, headers=headers)


async def run(http: httpx.AsyncClient, body: dict[str, Any], agent: str = "chat") -> list[Any]:
    """The events of a run, as the official types read them; each must be known to them, and all in order."""
    answer = await post(http, body, agent)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "\r" not in answer.text
    events = list(read(answer.text))
    require_order(events)
    return events


def read(text: str) -> Iterator[Any]:
    for frame in text.split("\n\n"):
        if frame and not frame.startswith(":"):
            event = EVENT.validate_python(json.loads(frame.removeprefix("data: ")))
            assert not event.model_extra, event
            yield event


def require_order(events: list[Any]) -> None:
    """Refuse what the protocol calls fatal: a wrong beginning or end, or what is not opened or not closed."""
    assert events[0].type == EventType.RUN_STARTED
    assert [e.type for e in events if e.type in (EventType.RUN_FINISHED, EventType.RUN_ERROR)] == [
        events[-1].type
    ]
    opened: set[str] = set()
    for event in events:
        name = getattr(event, "message_id", None) or getattr(event, "tool_call_id", None)
        if event.type in (EventType.TEXT_MESSAGE_START, EventType.TOOL_CALL_START):
            assert name not in opened
            opened.add(name)
        elif event.type in (EventType.TEXT_MESSAGE_END, EventType.TOOL_CALL_END):
            opened.remove(name)
        elif event.type in (EventType.TEXT_MESSAGE_CONTENT, EventType.TOOL_CALL_ARGS):
            assert name in opened
    assert not opened


def of(events: list[Any], kind: EventType) -> list[Any]:
    return [event for event in events if event.type == kind]


async def test_a_run_begins_says_its_words_and_ends_with_the_conversation(
    working_http: httpx.AsyncClient,
) -> None:
    body = wanted("Which lorry?")
    events = await run(working_http, body)
    assert (events[0].thread_id, events[0].run_id) == (body["threadId"], body["runId"])
    assert events[0].protocol_version == "1.0"
    words = [event.delta for event in of(events, EventType.TEXT_MESSAGE_CONTENT)]
    assert words == ["Red ", "lorry, ", "yellow ", "lorry."]
    [snapshot] = of(events, EventType.MESSAGES_SNAPSHOT)
    assert [(m.role, m.content) for m in snapshot.messages] == [
        ("user", "Which lorry?"),
        ("assistant", ANSWER),
    ]
    ended = events[-1]
    assert (ended.thread_id, ended.run_id) == (body["threadId"], body["runId"])
    assert ended.outcome.type == "success"
    assert (ended.usage[0].input_tokens, ended.usage[0].output_tokens) == (7, 3)
    found = await working_http.get(f"/threads/{body['threadId']}/runs/{body['runId']}")
    assert found.json()["status"] == "success"


async def test_every_id_that_was_streamed_is_in_the_conversation_and_stays(
    working_http: httpx.AsyncClient,
) -> None:
    """O58: an interface finds each message of a stream again, and its own under the ids that it gave them."""
    body = wanted("Which lorry?")
    events = await run(working_http, body, "tools")
    streamed = {
        getattr(event, "message_id", None) or getattr(event, "parent_message_id", None) for event in events
    } - {None}
    [snapshot] = of(events, EventType.MESSAGES_SNAPSHOT)
    assert streamed == {m.id for m in snapshot.messages if m.role != "user"}
    assert snapshot.messages[0].id == body["messages"][0]["id"]


async def test_a_conversation_is_sent_whole_and_only_what_is_new_of_it_is_added(
    working_http: httpx.AsyncClient,
) -> None:
    body = wanted("Which lorry?")
    [snapshot] = of(await run(working_http, body), EventType.MESSAGES_SNAPSHOT)
    more = [*snapshot.messages, UserMessage(id="second", content="And?")]
    body = wanted(thread_id=body["threadId"], messages=more)
    [snapshot] = of(await run(working_http, body), EventType.MESSAGES_SNAPSHOT)
    assert [m.content for m in snapshot.messages] == ["Which lorry?", ANSWER, "And?", ANSWER]
    only_new = wanted("More!", thread_id=body["threadId"])
    [snapshot] = of(await run(working_http, only_new), EventType.MESSAGES_SNAPSHOT)
    assert [m.content for m in snapshot.messages][-2:] == ["More!", ANSWER]
    assert len(snapshot.messages) == 6


async def test_a_call_of_a_tool_comes_with_its_arguments_and_its_result(
    working_http: httpx.AsyncClient,
) -> None:
    events = await run(working_http, wanted("Which lorry?"), "tools")
    [start] = of(events, EventType.TOOL_CALL_START)
    arguments = "".join(event.delta for event in of(events, EventType.TOOL_CALL_ARGS))
    [result] = of(events, EventType.TOOL_CALL_RESULT)
    assert (start.tool_call_name, json.loads(arguments)["key"]) == ("lookup", "lorry")
    assert (result.tool_call_id, result.content) == (start.tool_call_id, "lorry: a large vehicle")
    assert events[-1].outcome.pending_tool_call_ids is None
    [snapshot] = of(events, EventType.MESSAGES_SNAPSHOT)
    assert snapshot.messages[1].tool_calls[0].id == start.tool_call_id


async def test_a_state_is_shared_both_ways_and_what_is_unchanged_is_not_written_again(
    working_http: httpx.AsyncClient,
) -> None:
    body = wanted(state={"before": 3, "of the interface alone": 1})
    events = await run(working_http, body, "hitl")
    shown = of(events, EventType.STATE_SNAPSHOT)[-1].snapshot
    assert shown == {"before": 4}
    [asked] = events[-1].outcome.interrupts
    answer = {"interruptId": asked.id, "status": "resolved", "payload": "yes"}
    again = wanted(thread_id=body["threadId"], state=shown, resume=[answer])
    ended = of(await run(working_http, again, "hitl"), EventType.STATE_SNAPSHOT)[-1]
    assert ended.snapshot == {"before": 4, "answer": "yes", "after": 1}


async def test_a_run_that_asks_ends_with_an_interrupt_that_has_to_be_answered(
    working_http: httpx.AsyncClient,
) -> None:
    body = wanted(state={"before": 0})
    events = await run(working_http, body, "hitl")
    [asked] = events[-1].outcome.interrupts
    assert (asked.reason, asked.message) == ("input_required", "go on?")
    assert asked.metadata["langgraph"]["value"] == {"question": "go on?", "before": 1}
    silent = await post(working_http, wanted(thread_id=body["threadId"]), "hitl")
    assert (silent.status_code, asked.id in silent.text) == (409, True)
    given_up = [{"interruptId": asked.id, "status": "cancelled"}]
    events = await run(working_http, wanted(thread_id=body["threadId"], resume=given_up), "hitl")
    assert of(events, EventType.STATE_SNAPSHOT)[-1].snapshot["answer"] is None
    late = await post(working_http, wanted(thread_id=body["threadId"], resume=given_up), "hitl")
    assert (late.status_code, late.json()["code"]) == (409, "no_such_interrupt")


async def test_every_interrupt_needs_an_answer_and_each_node_gets_its_own(
    working_http: httpx.AsyncClient,
) -> None:
    """O18: of two interrupts one cannot be left out, and the answers do not change places."""
    body = wanted(state={"joined": ""})
    asked = (await run(working_http, body, "par"))[-1].outcome.interrupts
    sides = {one.metadata["langgraph"]["value"]["side"]: one.id for one in asked}
    answers = [{"interruptId": i, "status": "resolved", "payload": side} for side, i in sides.items()]
    half = await post(working_http, wanted(thread_id=body["threadId"], resume=answers[:1]), "par")
    assert half.status_code == 409
    events = await run(working_http, wanted(thread_id=body["threadId"], resume=answers), "par")
    assert of(events, EventType.STATE_SNAPSHOT)[-1].snapshot["joined"] == "left/right"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"status": "resolved", "payload": {"approved": False, "message": "not this customer"}},
            "not this customer",
        ),
        ({"status": "cancelled"}, "reject"),
        ({"status": "resolved", "payload": {"decisions": [{"type": "reject", "message": "no"}]}}, "no"),
        ({"status": "resolved", "payload": "reject: too dear"}, "too dear"),
    ],
    ids=["in the form of the protocol", "given up", "in the form of LangChain", "in words"],
)
async def test_a_call_that_is_reviewed_waits_for_a_decision_in_any_form(
    working_http: httpx.AsyncClient, answer: dict[str, Any], said: str
) -> None:
    body = wanted("Refund it!", state={"calls": [REFUND]})
    events = await run(working_http, body, "desk")
    [asked] = events[-1].outcome.interrupts
    assert (asked.reason, asked.tool_call_id) == ("tool_call", "call-0")
    assert set(asked.response_schema["properties"]) >= {"approved", "editedArgs"}
    nonsense = [{"interruptId": asked.id, "status": "resolved", "payload": {"approved": "yes"}}]
    refused = await post(working_http, wanted(thread_id=body["threadId"], resume=nonsense), "desk")
    assert (refused.status_code, "is no decision" in refused.text) == (422, True)
    resume = [{"interruptId": asked.id, **answer}]
    events = await run(working_http, wanted(thread_id=body["threadId"], resume=resume), "desk")
    [result] = of(events, EventType.TOOL_CALL_RESULT)
    assert said in result.content
    assert of(events, EventType.TOOL_CALL_START) == []


async def test_an_approval_may_change_the_arguments(working_http: httpx.AsyncClient) -> None:
    body = wanted("Which lorry?")
    config = {"graph_id": "tools", "config": {"budget": {"steps": 1}}}
    agent = (await working_http.post("/assistants", json=config)).json()["assistant_id"]
    [asked] = (await run(working_http, body, agent))[-1].outcome.interrupts
    payload = {"approved": True, "editedArgs": {"steps": 9}}
    resume = [{"interruptId": asked.id, "status": "resolved", "payload": payload}]
    events = await run(working_http, wanted(thread_id=body["threadId"], resume=resume), agent)
    assert events[-1].outcome.type == "success"


async def test_a_breakpoint_asks_whether_to_go_on_and_can_only_be_passed(
    working_http: httpx.AsyncClient,
) -> None:
    thread = str(uuid4())
    stops = {
        "assistant_id": "tools",
        "input": {"messages": [{"role": "user", "content": "Which lorry?"}]},
        "interrupt_before": ["tools"],
        "if_not_exists": "create",
    }
    await working_http.post(f"/threads/{thread}/runs/wait", json=stops)
    answers = [([], 409), ([{"interruptId": "breakpoint", "status": "cancelled"}], 422)]
    for resume, status in answers:
        refused = await post(working_http, wanted(thread_id=thread, resume=resume), "tools")
        assert (refused.status_code, "breakpoint" in refused.text) == (status, True)
    passed = [{"interruptId": "breakpoint", "status": "resolved"}]
    events = await run(working_http, wanted(thread_id=thread, resume=passed), "tools")
    assert of(events, EventType.MESSAGES_SNAPSHOT)[0].messages[-1].content == ANSWER


async def test_a_run_that_fails_ends_with_an_error_that_names_the_exception(
    working_http: httpx.AsyncClient,
) -> None:
    events = await run(working_http, wanted(state={"own": True}), "err")
    assert (events[-1].message, events[-1].code) == ("LorryError: no petrol left", "LorryError")


async def test_a_run_that_is_stopped_elsewhere_ends_cancelled(
    working_http: httpx.AsyncClient, until: Any
) -> None:
    body = wanted("hello")
    running = asyncio.create_task(run(working_http, body, "never"))
    path = f"/threads/{body['threadId']}/runs/{body['runId']}"

    async def begun() -> bool:
        found = await working_http.get(path)
        return found.status_code == 200 and found.json()["status"] == "running"

    await until(begun)
    await working_http.post(f"{path}/cancel")
    assert (await running)[-1].outcome.type == "cancelled"


async def test_a_graph_without_messages_runs_on_a_state_and_takes_no_words(
    working_http: httpx.AsyncClient,
) -> None:
    refused = await post(working_http, wanted("hello"), "slow")
    assert (refused.status_code, "has no `messages`" in refused.json()["detail"]) == (422, True)
    events = await run(working_http, wanted(state={"steps": 2, "seconds": 0.01}), "slow")
    assert of(events, EventType.STATE_SNAPSHOT)[-1].snapshot["done"] == [1, 2]
    assert of(events, EventType.MESSAGES_SNAPSHOT) == []


async def test_pictures_come_back_as_they_were_sent(working_http: httpx.AsyncClient) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
        {"type": "document", "source": {"type": "url", "value": "https://example.org/b.pdf"}},
    ]
    body = wanted(messages=[{"id": "m", "role": "user", "content": parts}])
    [snapshot] = of(await run(working_http, body), EventType.MESSAGES_SNAPSHOT)
    assert snapshot.messages[0].model_dump(by_alias=True, exclude_none=True)["content"] == parts


async def test_what_the_application_offers_is_there_for_the_graph(working_http: httpx.AsyncClient) -> None:
    tool = {"name": "paint", "description": "Paint it", "parameters": {"type": "object"}}
    body = wanted("hi", tools=[tool], context=[{"description": "d", "value": "v"}], forwarded_props={"a": 1})
    await run(working_http, body)
    found = (await working_http.get(f"/threads/{body['threadId']}/runs/{body['runId']}")).json()
    offered = found["kwargs"]["config"]["configurable"]["ag_ui"]
    assert offered == {
        "tools": [tool],
        "context": [{"description": "d", "value": "v"}],
        "forwardedProps": {"a": 1},
    }


async def test_names_of_threads_and_runs_are_free_and_ones_own(serve_api: ServeApi) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        for key in ("one", "two"):
            http.headers["x-api-key"] = key
            events = await run(http, wanted("hello", thread_id="my thread", run_id="my run"))
            assert (events[0].thread_id, events[-1].run_id) == ("my thread", "my run")
            ours = events[0].metadata["interlock"]
            assert (await http.get(f"/threads/{ours['threadId']}/runs/{ours['runId']}")).status_code == 200
            assert len(of(events, EventType.MESSAGES_SNAPSHOT)[0].messages) == 2


async def test_another_tenants_assistant_and_a_missing_right_are_refused_before_a_run_begins(
    serve_api: ServeApi,
) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        made = await http.post("/assistants", json={"graph_id": "chat"}, headers={"x-api-key": "one"})
        ours = made.json()["assistant_id"]
        for key, status in (("one", 200), ("two", 404), ("look", 403), ("wrong", 401)):
            answer = await post(http, wanted("hello"), ours, **{"x-api-key": key})
            assert answer.status_code == status, key


async def test_a_second_run_on_a_busy_thread_and_a_run_id_that_is_taken_are_refused(
    http: httpx.AsyncClient,
) -> None:
    thread = str(uuid4())
    begun = {"assistant_id": "chat", "input": {}, "if_not_exists": "create"}
    made = (await http.post(f"/threads/{thread}/runs", json=begun)).json()
    assert (await post(http, wanted("hello", thread_id=thread))).status_code == 409
    assert (await post(http, wanted("hello", run_id=made["run_id"]))).status_code == 409


async def test_no_hostile_body_is_a_fault_of_ours(working_http: httpx.AsyncClient) -> None:
    whole = b'{"threadId":"%b","runId":"%b","messages":[%b],"state":%b}'
    user = b'{"id":"m","role":"user","content":"%b"}'
    odd = [
        whole % (b"\\u0000", b"\\ud800", user % b"\\u0000", b"{}"),
        whole % (b"\\ud800", b"r", user % b"\\ud800", b'{"delay":"\\ud800"}'),
        whole % (b"", b"r", b"", b"{}"),
        whole % (b"t" * 600, b"r", b"", b"{}"),
        whole % (b"t", b"r", b'{"id":"m","role":"clown","content":"x"}', b"{}"),
        whole % (b"t", b"r", b'{"id":"m","role":"user","content":[{"type":"image"}]}', b"{}"),
        whole % (b"t1", b"r", b'{"id":"m","role":"tool","content":"x","toolCallId":""}', b"[1]"),
        whole
        % (
            b"t2",
            b"r",
            b'{"id":"m","role":"assistant","toolCalls":[{"id":"c","type":"function","function":'
            b'{"name":"f","arguments":"{"}}]}',
            b"{}",
        ),
        b'{"threadId":"t","runId":"r","messages":[],"resume":[{"interruptId":"x"}]}',
        b'{"threadId":"t","runId":"r","messages":[],"resume":[{"interruptId":"x","status":"resolved"}]}',
    ]
    for content in [*BODIES, *odd]:
        answer = await working_http.post("/ag-ui/chat", content=content)
        assert answer.status_code < 500, (content[:80], answer.text)
        if answer.status_code == 200:
            require_order(list(read(answer.text)))
        else:
            assert answer.json().keys() == {"detail", "code"}


async def test_it_can_be_turned_off(serve_api: ServeApi) -> None:
    async with serve_api(http={"disable_ag_ui": True}) as http:
        assert (await post(http, wanted("hello"))).status_code == 404
