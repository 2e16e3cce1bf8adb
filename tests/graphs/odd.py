"""Returns what states hold in the wild and JSON does not."""

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, TypedDict
from uuid import UUID

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel


class Colour(Enum):
    RED = "red"


@dataclass
class Lorry:
    wheels: int
    colour: Colour


class Driver(BaseModel):
    name: str
    since: dt.date


class State(TypedDict, total=False):
    nul: str
    nul_key: dict[str, int]
    not_a_number: float
    infinite: float
    surrogate: str
    separator: str
    enum: Colour
    dataclass: Lorry
    model: Driver
    decimal: Decimal
    raw: bytes
    group: set[int]
    pair: tuple[int, int]
    moment: dt.datetime
    day: dt.date
    span: dt.timedelta
    uuid: UUID
    failure: BaseException
    seen: bool


def values() -> dict[str, Any]:
    return {
        "nul": "before\x00after",
        "nul_key": {"a\x00b": 1},
        "not_a_number": float("nan"),
        "infinite": float("inf"),
        "surrogate": "left \ud83d right",
        "separator": "line\u2028paragraph\u2029end",
        "enum": Colour.RED,
        "dataclass": Lorry(wheels=6, colour=Colour.RED),
        "model": Driver(name="Ada", since=dt.date(2026, 1, 2)),
        "decimal": Decimal("12.30"),
        "raw": b"\x00\xff\x10",
        "group": {3},
        "pair": (1, 2),
        "moment": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "day": dt.date(2026, 1, 2),
        "span": dt.timedelta(minutes=90),
        "uuid": UUID("00000000-0000-4000-8000-000000000001"),
        "failure": ValueError("kept as a value"),
    }


async def produce(state: State) -> dict[str, Any]:
    write = get_stream_writer()
    for name, value in values().items():
        write({name: value})
    write({"large": 2**70, "type": Lorry})
    return values()


async def look(state: State) -> dict[str, Any]:
    """Read back what was stored: a second step gets the same objects."""
    same = [name for name, value in values().items() if name != "not_a_number" and state.get(name) == value]
    return {"seen": {"nul", "surrogate", "separator", "decimal", "raw", "group", "moment"} <= set(same)}


builder = StateGraph(State)
builder.add_node("produce", produce)
builder.add_node("look", look)
builder.add_edge(START, "produce")
builder.add_edge("produce", "look")
builder.add_edge("look", END)
graph = builder.compile()
