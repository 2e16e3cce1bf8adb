"""How the offline model reads a sentence: arithmetic, places, arguments."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.utils.function_calling import convert_to_openai_tool

from interlock.graphs.offline.arithmetic import expression_in
from interlock.graphs.offline.extract import Source, fill
from interlock.graphs.offline.offered import OfferedTool
from interlock.graphs.offline.places import place_in
from interlock.tools.builtin import note_write, order_lookup, order_refund
from interlock.tools.builtin.calculator import evaluate


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("What is 12% of 340?", "40.8"),
        ("What is 12% of 340, plus 25?", "65.8"),
        ("5% of 10% of 200", "1"),
        ("max(3, -4) + 1", "4"),
        ("20% off 80", "64"),
        ("what is 80 plus 19%", "95.2"),
        ("what's 3 plus 4 times 2", "11"),
        ("what is 1,200 / 4?", "300"),
        ("the square root of 144", "12"),
        ("(3+4)*5 please", "35"),
        ("12 x 9", "108"),
        ("divide 10 by 4", "2.5"),
        ("subtract 3 from 10", "7"),
        ("2 to the power of 10", "1024"),
        ("half of 10", "5"),
        ("-5 + 3", "-2"),
    ],
)
def test_arithmetic_in_words_becomes_an_expression_that_the_calculator_takes(
    sentence: str, value: str
) -> None:
    expression = expression_in(sentence)
    assert expression is not None
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "sentence",
    [
        "look up order A-1001",
        "who won the world cup in 1998",
        "call +49 170 1234567",
        "on 2026-10-02 at 10:30",
        "I have 3 cats, 4 dogs",
        "a - b",
        "fetch https://example.com/a/1/2",
        "is 10.0.0.1 up",
        "",
    ],
)
def test_numbers_that_are_no_arithmetic_are_left_alone(sentence: str) -> None:
    assert expression_in(sentence) is None


@pytest.mark.parametrize(
    ("sentence", "zone"),
    [
        ("what time is it in Tokyo", "Asia/Tokyo"),
        ("time in new york?", "America/New_York"),
        ("São Paulo time", "America/Sao_Paulo"),
        ("and in Rio de Janeiro?", "America/Sao_Paulo"),
        ("now in Europe/Berlin", "Europe/Berlin"),
        ("time in India", "Asia/Kolkata"),
    ],
)
def test_a_place_is_found_with_its_time_zone(sentence: str, zone: str) -> None:
    place = place_in(sentence)
    assert place is not None
    assert place.zone == zone


def test_an_ordinary_word_is_no_place() -> None:
    assert place_in("what a nice day it is, what time is it") is None


def offered(tool: Any) -> OfferedTool:
    return OfferedTool.of(convert_to_openai_tool(tool))


def test_an_order_number_is_found_in_any_spelling() -> None:
    assert fill(offered(order_lookup), Source("where is a-1001?")).arguments == {"order_id": "A-1001"}


def test_money_becomes_cents_and_the_clause_after_the_comma_the_reason() -> None:
    filled = fill(offered(order_refund), Source("refund 12.50 EUR of order A-1001, it arrived broken"))
    assert filled.arguments == {"order_id": "A-1001", "amount_cents": 1250, "reason": "it arrived broken"}
    assert filled.missing == ()


def test_an_amount_is_taken_from_the_record_of_the_same_order_only() -> None:
    records = [{"order_id": "A-1002", "refundable_cents": 1}, {"order_id": "A-1001", "refundable_cents": 900}]
    filled = fill(offered(order_refund), Source("refund A-1001", results=[records]))
    assert filled.arguments["amount_cents"] == 900
    other = fill(offered(order_refund), Source("refund A-1003", results=[records]))
    assert [p.name for p in other.missing] == ["amount_cents"]


def test_no_reason_is_invented() -> None:
    filled = fill(offered(order_refund), Source("refund A-1001", whole="look up A-1001 and refund A-1001"))
    assert filled.arguments["reason"] == "Asked for: look up A-1001 and refund A-1001"


def test_a_pronoun_means_what_was_named_last() -> None:
    earlier = ("look up A-1002", "look up A-1001")
    assert fill(offered(order_lookup), Source("show it again", earlier)).arguments == {"order_id": "A-1002"}


def test_a_note_gets_a_short_title() -> None:
    filled = fill(offered(note_write), Source("please remember that my favourite colour is teal"))
    assert filled.arguments == {"title": "favourite colour", "text": "my favourite colour is teal"}


def test_quoted_text_is_taken_as_it_stands() -> None:
    filled = fill(offered(note_write), Source('note "Call Bob. Twice!"'))
    assert filled.arguments["text"] == "Call Bob. Twice!"


def test_arguments_of_every_kind_of_schema_are_filled() -> None:
    schema = {
        "name": "search_flights",
        "description": "Search flights",
        "parameters": {
            "type": "object",
            "properties": {
                "date": {"type": "string", "format": "date"},
                "email": {"type": "string"},
                "cabin": {"enum": ["economy", "business"]},
                "limit": {"type": "integer"},
                "direct": {"type": "boolean"},
                "codes": {"type": "array", "items": {"type": "string", "pattern": "^[A-Z]{3}$"}},
                "nested": {"type": "object"},
            },
            "required": ["date", "cabin", "limit", "direct", "codes", "nested"],
        },
    }
    text = "Search 3 direct flights FRA JFK on 2026-12-01 in business class, limit 5, tell bob@example.com"
    filled = fill(offered(schema), Source(text))
    assert filled.arguments == {
        "date": "2026-12-01",
        "email": "bob@example.com",
        "cabin": "business",
        "limit": 5,
        "direct": True,
        "codes": ["FRA", "JFK"],
    }
    assert [p.name for p in filled.missing] == ["nested"]
