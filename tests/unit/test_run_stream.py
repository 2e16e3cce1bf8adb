"""The classic stream as a projection of logged events."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.server.domain import Event, EventKind
from interlock.server.wire.frames import Cursor, Frame
from interlock.server.wire.run_stream import Projection, View

RUN = UUID("01939f6e-0000-7000-8000-000000000001")


def event(seq: int, kind: EventKind, data: Any, *namespace: str) -> Event:
    return Event(seq, RUN, kind, namespace, orjson.dumps(data), 0)


def view(*modes: str, subgraphs: bool = False, metadata: bool = True) -> View:
    return View(modes=frozenset(modes), subgraphs=subgraphs, ids=True, metadata=metadata)


def shown(view: View, events: Iterable[Event]) -> list[tuple[str, str, Any]]:
    projection = Projection(view)
    return [
        (str(frame.cursor), frame.name, orjson.loads(frame.data))
        for logged in events
        for frame in projection.frames(logged)
    ]


def chunk(seq: int, text: str, *, identity: str = "m1", namespace: tuple[str, ...] = ()) -> Event:
    message = {"type": "AIMessageChunk", "content": text, "id": identity}
    return event(seq, "messages", [message, {"langgraph_node": "model"}], *namespace)


@given(seq=st.integers(0, 10**17), part=st.integers(0, 10**5))
def test_a_cursor_survives_the_wire(seq: int, part: int) -> None:
    assert Cursor.parse(str(Cursor(seq, part))) == Cursor(seq, part)


@pytest.mark.parametrize("text", ["", "-", "-1", "x", "1.", ".1", "1.2.3", "1e3", "٣", " 1", "9" * 30])
def test_what_is_no_cursor_of_ours_is_none(text: str) -> None:
    assert Cursor.parse(text) is None


@given(name=st.text(max_size=30), data=st.dictionaries(st.text(), st.text()))
def test_a_frame_is_one_event_whatever_is_in_it(name: str, data: dict[str, str]) -> None:
    frame = Frame(Cursor(7), name, orjson.dumps(data)).to_bytes(with_id=True)
    lines = re.split(rb"\r\n|\r|\n", frame)
    assert [line.split(b":")[0] for line in lines] == [b"event", b"data", b"id", b"", b""]


def test_only_the_modes_that_were_asked_for_are_shown() -> None:
    events = [
        event(1, "run.created", {}),
        event(2, "run.started", {"run_id": str(RUN), "attempt": 1}),
        event(3, "values", {"x": 1}),
        event(4, "updates", {"node": {"x": 2}}),
        event(5, "run.ended", {"run_id": str(RUN), "status": "success"}),
    ]
    assert [name for _, name, _ in shown(view("updates"), events)] == ["metadata", "updates"]
    assert [name for _, name, _ in shown(view("updates", metadata=False), events)] == ["updates"]


def test_sub_graphs_show_only_when_asked_for_and_then_under_their_namespace() -> None:
    events = [event(1, "values", {"x": 1}), event(2, "values", {"y": 1}, "child:9", "leaf:8")]
    assert [name for _, name, _ in shown(view("values"), events)] == ["values"]
    assert [n for _, n, _ in shown(view("values", subgraphs=True), events)] == [
        "values",
        "values|child:9|leaf:8",
    ]


def test_chunks_grow_into_messages_and_each_message_is_announced_once() -> None:
    frames = shown(view("messages"), [chunk(1, "hel"), chunk(2, "lo"), chunk(3, "x", identity="m2")])
    assert [(cursor, name) for cursor, name, _ in frames] == [
        ("1", "messages/metadata"),
        ("1.1", "messages/partial"),
        ("2", "messages/partial"),
        ("3", "messages/metadata"),
        ("3.1", "messages/partial"),
    ]
    assert frames[2][2][0]["content"] == "hello"
    assert frames[2][2][0]["type"] == "ai"


def test_a_whole_message_is_complete_at_once() -> None:
    message = {"type": "tool", "content": "42", "id": "t1", "tool_call_id": "c1"}
    frames = shown(view("messages"), [event(1, "messages", [message, {}])])
    assert [(name, data) for _, name, data in frames][1] == ("messages/complete", [message])


def test_messages_tuple_shows_chunks_as_they_were() -> None:
    ((cursor, name, data),) = shown(view("messages-tuple"), [chunk(4, "hi")])
    assert (cursor, name) == ("4", "messages")
    assert data[0]["content"] == "hi"
    assert data[1] == {"langgraph_node": "model"}


def test_tool_call_chunks_grow_into_tool_calls() -> None:
    parts = [
        {"name": "add", "args": '{"a": ', "id": "c1", "index": 0},
        {"name": None, "args": "1}", "id": None, "index": 0},
    ]
    events = [
        event(
            n,
            "messages",
            [{"type": "AIMessageChunk", "content": "", "id": "m", "tool_call_chunks": [part]}, {}],
        )
        for n, part in enumerate(parts, 1)
    ]
    last = shown(view("messages"), events)[-1][2][0]
    assert [(call["name"], call["args"]) for call in last["tool_calls"]] == [("add", {"a": 1})]


def test_a_failed_run_ends_in_an_error_and_a_cancelled_one_in_silence() -> None:
    error = {"error": "ValueError", "message": "boom"}
    failed = event(3, "run.ended", {"run_id": str(RUN), "status": "error", "error": error})
    cancelled = event(3, "run.ended", {"run_id": str(RUN), "status": "interrupted"})
    assert shown(view("values"), [failed]) == [("3", "error", error)]
    assert shown(view("values"), [cancelled]) == []


def test_a_run_that_was_rolled_back_is_not_found() -> None:
    ended = event(3, "run.ended", {"run_id": str(RUN), "status": "interrupted", "rolled_back": True})
    ((_, name, data),) = shown(view("values"), [ended])
    assert (name, data["message"]) == ("error", "404: Run not found")
