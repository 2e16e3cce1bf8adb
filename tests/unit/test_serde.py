"""What goes into a checkpoint comes out as the same type, or not at all."""

from __future__ import annotations

import math
import sys
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_SINGLE_ARG, JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, Send
from pydantic import BaseModel, SecretStr

from interlock.checkpoints.serde import StrictSerializer, UnknownType, serializer_of
from interlock.checkpoints.thread_writer import json_safe


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    label: str


@dataclass
class Lorry:
    wheels: int
    colour: Colour
    notes: list[Any] = field(default_factory=list)
    total: int = field(init=False, default=0)


class Driver(BaseModel):
    name: str
    since: date
    lorry: Lorry
    anything: Any = None


class Loose(BaseModel, extra="allow"):
    pass


class Narrow(BaseModel):
    size: int


class Opaque:
    pass


VALUES = [
    None,
    b"\x00\xff",
    bytearray(b"a"),
    "a\x00b",
    "left \ud83d right",
    ["\ud800", {"k": ["\udfff", 2**70]}],
    -(2**90),
    2**64 - 1,
    {1: "a", (1, 2): "b"},
    math.inf,
    Decimal("1.10"),
    {1, 2},
    frozenset({"a"}),
    deque([1]),
    UUID(int=5),
    datetime(2026, 1, 2, 3, tzinfo=UTC),
    date(2026, 1, 2),
    time(1, 2, 3),
    timedelta(minutes=90),
    Path("/a/b"),
    Colour.RED,
    Point(1, "a"),
    Lorry(6, Colour.RED, ["\ud800", 2**80]),
    Driver(
        name="a\ud83d",
        since=date(2026, 1, 2),
        lorry=Lorry(1, Colour.RED),
        anything={"l": Lorry(2, Colour.RED)},
    ),
    Loose.model_validate({"more": {"x": {1}}}),
    SecretStr("hush"),
    HumanMessage(content="hi", id="1"),
    AIMessage(content=[{"type": "text", "text": "a"}], tool_calls=[{"name": "t", "args": {}, "id": "c"}]),
    AIMessageChunk(content="a", id="2"),
    ToolMessage(content="42", tool_call_id="c", artifact={"a": {1}}),
    Document(page_content="text"),
    Send("node", {"a": Lorry(1, Colour.RED)}),
    Command(resume={"a": 1}, goto="x"),
    Interrupt("ok?", id="1"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:40])
def test_a_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    serializer = StrictSerializer()
    form, body = serializer.dumps_typed(value)
    back = serializer.loads_typed((form, body))
    assert type(back) is type(value)
    assert back == value


def test_a_nan_stays_a_nan() -> None:
    serializer = StrictSerializer()
    assert math.isnan(serializer.loads_typed(serializer.dumps_typed(math.nan)))


def test_a_field_that_is_set_after_construction_is_kept() -> None:
    serializer = StrictSerializer()
    lorry = Lorry(4, Colour.RED)
    lorry.total = 7
    assert serializer.loads_typed(serializer.dumps_typed(lorry)).total == 7


def test_an_exception_is_kept_as_text() -> None:
    serializer = StrictSerializer()
    assert serializer.loads_typed(serializer.dumps_typed(ValueError("boom"))) == "ValueError('boom')"


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(st.characters(codec=None)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_plain_values_come_back_equal(value: object) -> None:
    serializer = StrictSerializer()
    assert serializer.loads_typed(serializer.dumps_typed(value)) == value


def test_ordinary_values_are_written_as_the_stock_serializer_writes_them() -> None:
    ours, stock = StrictSerializer(), JsonPlusSerializer(allowed_msgpack_modules=True)
    for value in [
        {"a": [1, 2.5, "x", None]},
        UUID(int=5),
        {1},
        HumanMessage(content="hi", id="1"),
        Colour.RED,
    ]:
        assert stock.loads_typed(ours.dumps_typed(value)) == value
        assert ours.loads_typed(stock.dumps_typed(value)) == value


@pytest.mark.parametrize(
    ("module", "name", "argument"),
    [
        ("os", "system", "touch owned"),
        ("builtins", "eval", "1"),
        ("builtins", "str", "1"),
        ("subprocess", "Popen", "true"),
        ("pathlib", "PurePath", "a"),
        ("interlock.checkpoints.serde", "StrictSerializer", "a"),
        (__name__, "Opaque", "a"),
        ("never_imported_module", "Thing", "a"),
    ],
)
def test_nothing_is_called_but_what_is_on_the_list(module: str, name: str, argument: str) -> None:
    body = ormsgpack.packb(
        ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, ormsgpack.packb((module, name, argument)))
    )
    with pytest.raises(UnknownType, match=name):
        StrictSerializer().loads_typed(("msgpack", body))


@pytest.mark.parametrize("form", ["json", "pickle", "other"])
def test_other_forms_are_refused(form: str) -> None:
    with pytest.raises(UnknownType, match=form):
        StrictSerializer().loads_typed((form, b"{}"))


def test_garbage_is_a_typed_error() -> None:
    with pytest.raises(UnknownType):
        StrictSerializer().loads_typed(("msgpack", b"\xc1"))


def test_what_could_not_be_read_is_not_written() -> None:
    @dataclass
    class Local:
        x: int

    circle: list[Any] = []
    circle.append(circle)
    for value in (Opaque(), Local(1), {"deep": [Local(1)]}, ["\ud800", Opaque()], circle):
        with pytest.raises(UnknownType):
            StrictSerializer().dumps_typed(value)


def test_a_stricter_model_of_today_still_reads_what_was_valid_yesterday() -> None:
    serializer = StrictSerializer()
    stored = serializer.dumps_typed(Narrow.model_construct(size="wide"))
    assert serializer.loads_typed(stored).size == "wide"


def test_types_in_the_schemas_of_a_graph_extend_the_list() -> None:
    class Named(TypedDict):
        driver: Driver

    builder = StateGraph(Named)
    builder.add_node("n", lambda state: {})
    builder.add_edge(START, "n")
    serializer = serializer_of(builder.compile())
    assert (__name__, "Lorry") in serializer._types
    assert __name__.partition(".")[0] in serializer._packages


def test_an_installed_data_type_that_nobody_named_is_refused() -> None:
    point = sys.modules["_pytest.config"].ExitCode.OK
    with pytest.raises(UnknownType, match="ExitCode"):
        StrictSerializer().dumps_typed(point)
    widened = StrictSerializer().with_msgpack_allowlist([type(point)])
    assert widened.loads_typed(widened.dumps_typed(point)) is point
    with pytest.raises(UnknownType, match="EntryPoint"):
        widened.dumps_typed(EntryPoint("a", "b", "c"))


def test_metadata_is_made_safe_for_jsonb() -> None:
    assert json_safe({"a\0": ["\ud800", math.nan, 2**70, True, None, Colour.RED, (1,)]}) == {
        "a\ufffd": ["\ufffd", None, str(2**70), True, None, "Colour.RED", [1]]
    }
