"""Every Python value has a JSON form, and encoding never fails."""

from __future__ import annotations

import enum
import json
import math
import re
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, SecretStr

from interlock.server.encoding import encode, storable


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Mood(enum.StrEnum):
    GOOD = "good\ud800"


@dataclass
class Part:
    name: str
    price: Decimal
    tags: set[str] = field(default_factory=set)


class Order(BaseModel):
    parts: list[Part]
    key: SecretStr


class Point(NamedTuple):
    x: int
    y: int


class Odd:
    def __repr__(self) -> str:
        return "<odd \ud83d>"


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class BrokenModel(BaseModel):
    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        raise RuntimeError("no")


FORMS = [
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    ({Colour.RED: 1, 2: "b", None: "c", (1, 2): "d"}, {"red": 1, "2": "b", "null": "c", "[1,2]": "d"}),
    (Part("bolt", Decimal("1.10"), {"b", "a"}), {"name": "bolt", "price": "1.10", "tags": ["a", "b"]}),
    (
        Order(parts=[Part("nut", Decimal(2))], key=SecretStr("hush")),
        {"parts": [{"name": "nut", "price": "2", "tags": []}], "key": "**********"},
    ),
    (Point(1, 2), {"x": 1, "y": 2}),
    (frozenset({3, 1, 2}), [1, 2, 3]),
    ({1, "a"}, ["a", 1]),
    (deque([1, 2]), [1, 2]),
    (range(3), [0, 1, 2]),
    ((1, (2,)), [1, [2]]),
    (OrderedDict(a=1), {"a": 1}),
    (MappingProxyType({"a": {1}}), {"a": [1]}),
    (b"\x00\xff", "AP8="),
    (bytearray(b"a"), "YQ=="),
    (Decimal("0.1"), "0.1"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (date(2026, 1, 2), "2026-01-02"),
    (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
    (time(1, 2, tzinfo=timezone(timedelta(hours=2))), "01:02:00+02:00"),
    (timedelta(minutes=1, milliseconds=500), 60.5),
    (ZoneInfo("Europe/Berlin"), "Europe/Berlin"),
    (PurePosixPath("/a/b"), "/a/b"),
    (ip_address("::1"), "::1"),
    (re.compile("a+"), "a+"),
    (ValueError("boom"), "ValueError('boom')"),
    (math.nan, None),
    (-math.inf, None),
    (2**70, 2**70),
    (-(2**64), -(2**64)),
    ("a\x00b", "a\x00b"),
    ("half \ud83d of", "half \ufffd of"),
    ("\ud83d\ude00", "😀"),
    ({"\udc00": 1}, {"\ufffd": 1}),
    ("\u2028\u2029\x85", "\u2028\u2029\x85"),
    (Mood.GOOD, "good\ufffd"),
    (Odd(), "<odd \ufffd>"),
    ({"deep": [Part("\ud800", Decimal(1))]}, {"deep": [{"name": "\ufffd", "price": "1", "tags": []}]}),
    (Part, f"{__name__}.Part"),
    (len, "builtins.len"),
    (Send("n", {"a": {1}}), {"node": "n", "arg": {"a": [1]}}),
    (Command(goto="x"), {"graph": None, "update": None, "resume": None, "goto": "x"}),
    (Interrupt("ok?", id="1"), {"value": "ok?", "id": "1", "response_schema": None}),
    (
        Document(page_content="text", metadata={"a": 1}),
        {"id": None, "metadata": {"a": 1}, "page_content": "text", "type": "Document"},
    ),
]


@pytest.mark.parametrize(("value", "form"), FORMS, ids=lambda v: type(v).__name__)
def test_a_value_has_its_documented_form(value: object, form: object) -> None:
    text = encode({"value": value})
    decoded = _exact(text)["value"]
    assert decoded == form
    assert type(decoded) is type(form)


def _exact(text: bytes) -> Any:
    return json.loads(text)


def test_messages_are_flat_and_name_their_type() -> None:
    human, ai, chunk, tool = orjson.loads(
        encode(
            [
                HumanMessage(content="hi", id="1"),
                AIMessage("yo", id="2"),
                AIMessageChunk("y", id="2"),
                ToolMessage("42", tool_call_id="c", artifact={1, 2}),
            ]
        )
    )
    assert (human["type"], human["content"], human["id"]) == ("human", "hi", "1")
    assert (ai["tool_calls"], ai["type"]) == ([], "ai")
    assert (chunk["type"], chunk["chunk_position"]) == ("AIMessageChunk", None)
    assert (tool["tool_call_id"], tool["artifact"], tool["status"]) == ("c", [1, 2], "success")


def test_a_circle_ends() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert orjson.loads(encode(circle)) == [1, "[1, [...]]"]


def test_a_deep_nest_ends() -> None:
    nest: Any = "x"
    for _ in range(5_000):
        nest = [nest]
    assert encode(nest).startswith(b"[[[")


def test_code_of_the_user_that_fails_hides_only_itself() -> None:
    decoded = orjson.loads(encode({"a": Hostile(), "b": BrokenModel(), "c": 1}))
    assert decoded["a"] == f"<{__name__}.Hostile>"
    assert decoded["c"] == 1


def test_the_text_has_no_character_that_a_reader_may_take_for_the_end_of_a_line() -> None:
    text = encode("a\u2028b\u2029c\x85d\r\ne").decode()
    assert text.splitlines() == [text]


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.timedeltas()
    | st.uuids()
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters(codec=None)) | st.integers(), inner)
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_anything_becomes_one_line_of_valid_json(value: object) -> None:
    text = encode(value)
    _exact(text)
    assert text.decode().splitlines() == [text.decode()]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_values_come_back_equal(value: object) -> None:
    assert _exact(encode(value)) == value


def test_what_jsonb_cannot_hold_is_kept_beside_it() -> None:
    assert storable(encode({"a": "b"})) == ({"a": "b"}, None)
    exact = encode({"k\0": ["a\0b", {"c": "\0"}]})
    assert storable(exact) == ({"k\ufffd": ["a\ufffdb", {"c": "\ufffd"}]}, exact)
