"""Arguments: one canonical form, closed schemas, nothing that is not JSON."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.tools import InjectedToolArg, StructuredTool, tool
from pydantic import BaseModel, Field

from interlock.tools.builtin import BUILTIN
from interlock.tools.canonical import NotJson, canonical
from interlock.tools.errors import ToolInvalid
from interlock.tools.registry import Registry
from interlock.tools.schemas import Schema, closed
from interlock.tools.spec import derived_spec
from interlock.tools.tool import tool as declared

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


class Colour(enum.Enum):
    """Declared here, where the annotations of a tool are looked up."""

    RED = "red"


ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=5)


@settings(deadline=None)
@given(ARGUMENTS)
def test_the_order_of_keys_does_not_change_the_hash(arguments: dict[str, Any]) -> None:
    backwards = dict(reversed(arguments.items()))
    assert canonical(arguments) == canonical(backwards)


@settings(deadline=None)
@given(ARGUMENTS, ARGUMENTS)
def test_different_arguments_have_different_hashes(first: dict[str, Any], second: dict[str, Any]) -> None:
    same = canonical(first).text == canonical(second).text
    assert (canonical(first).hash == canonical(second).hash) == same
    if first == second:
        assert same


def test_large_whole_numbers_are_not_rounded_together() -> None:
    assert canonical({"id": 2**53 + 1}).hash != canonical({"id": 2**53 + 2}).hash


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "\ud800",
        "a\0b",
        {"\0": 1},
        object(),
        {1, 2},
        b"x",
        datetime(2026, 1, 1, tzinfo=UTC),
    ],
)
def test_what_is_not_json_has_no_canonical_form(value: Any) -> None:
    with pytest.raises(NotJson):
        canonical({"value": value})


def test_deep_nesting_has_no_canonical_form() -> None:
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    with pytest.raises(NotJson, match="levels deep"):
        canonical({"value": nested})


def test_every_object_of_a_schema_is_closed() -> None:
    class Address(BaseModel):
        street: str

    class Person(BaseModel):
        name: str
        address: Address
        others: list[Address] = []
        maybe: Address | None = None
        free: dict[str, int] = {}

    schema = Schema(closed(Person.model_json_schema()))
    good = {"name": "Ann", "address": {"street": "A"}, "free": {"anything": 1}}
    assert schema.problem(good) is None
    for bad in (
        {**good, "role": "admin"},
        {**good, "address": {"street": "A", "x": 1}},
        {**good, "others": [{"street": "A", "x": 1}]},
        {**good, "maybe": {"street": "A", "x": 1}},
        {**good, "free": {"anything": "1"}},
        {**good, "name": 7},
    ):
        assert schema.problem(bad) is not None


def test_a_schema_composed_of_parts_still_takes_what_all_parts_declare() -> None:
    composed = {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}},
            {"type": "object", "properties": {"b": {"type": "integer"}}},
        ]
    }
    assert Schema(closed(composed)).problem({"a": 1, "b": 2}) is None


def test_a_problem_names_the_place_and_never_the_value() -> None:
    schema = Schema({"type": "object", "properties": {"pin": {"type": "string", "maxLength": 4}}})
    problem = schema.problem({"pin": "secret-12345"})
    assert problem is not None
    assert "pin" in problem
    assert "secret" not in problem


def test_of_a_large_value_one_problem_is_told_and_of_a_huge_one_only_that_it_is() -> None:
    items = {"type": "array", "items": {"type": "object", "required": ["x"]}}
    schema = Schema({"type": "object", "properties": {"a": items}})
    few, many, most = (schema.problem({"a": [{}] * count}) for count in (3, 2000, 100_000))
    assert few == "; ".join(f'`a.{place}`: "x" is a required property' for place in range(3))
    assert many == '`a.0`: "x" is a required property'
    assert most == "it holds more than 100000 values"
    assert schema.problem({"a": [{"x": 1}] * 2000}) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema.json"},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "nothing"},
    ],
)
def test_a_schema_that_fetches_or_looks_around_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ToolInvalid):
        Schema(schema)


def test_a_plain_tool_gets_a_cautious_declaration_without_what_is_injected() -> None:
    @tool
    def paint(colour: Colour, at: datetime, secret: Annotated[str, InjectedToolArg]) -> str:
        """Paint."""
        return f"{colour}{at}{secret}"

    spec = derived_spec(paint)
    assert (spec.effect, spec.risk, spec.source) == ("external", "unknown", "langchain")
    assert spec.schema is not None
    assert spec.schema.problem({"colour": "red", "at": "2026-01-01T00:00:00Z"}) is None
    assert spec.schema.problem({"colour": "blue", "at": "2026-01-01T00:00:00Z"}) is not None
    assert spec.schema.problem({"colour": "red", "at": "2026-01-01T00:00:00Z", "secret": "x"}) is not None


def test_a_plain_tool_whose_arguments_have_no_schema_is_checked_by_itself_alone() -> None:
    class Odd:
        pass

    class Arguments(BaseModel, arbitrary_types_allowed=True):
        odd: Odd

    odd = StructuredTool.from_function(
        lambda odd: str(odd), name="odd", description="Odd.", args_schema=Arguments
    )
    assert derived_spec(odd).schema is None


def test_a_tool_described_by_a_json_schema_is_closed_too() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    remote = StructuredTool(name="remote", description="Remote.", args_schema=schema, func=lambda q: q)
    spec = derived_spec(remote)
    assert spec.schema is not None
    assert spec.schema.problem({"q": "x"}) is None
    assert spec.schema.problem({"q": "x", "tenant": "y"}) is not None


def test_the_definition_hash_changes_with_the_definition() -> None:
    def make(description: str) -> str:
        schema = {"type": "object", "properties": {"q": {"type": "number", "maximum": 1e300}}}
        plain = StructuredTool(name="remote", description=description, args_schema=schema, func=lambda q: q)
        return derived_spec(plain).definition_hash

    assert make("Reads.") == make("Reads.") != make("Reads. Also deletes.")


def test_the_registry_refuses_two_tools_of_one_name_and_knows_its_own() -> None:
    registry = Registry(BUILTIN)
    assert "calculator" in {tool.name for tool in registry}
    with pytest.raises(ToolInvalid, match="calculator"):
        registry.add(BUILTIN[0])


def test_the_registry_derives_a_plain_tool_once_and_forgets_it_with_the_tool() -> None:
    registry = Registry()

    def derive() -> None:
        plain = StructuredTool.from_function(lambda x: x, name="plain", description="Plain.")
        assert registry.spec_of(plain) is registry.spec_of(plain)

    derive()
    assert registry._derived == {}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: None, "async"),
        ("undocumented", "docstring"),
        ("untyped", "no type"),
    ],
)
def test_a_tool_that_cannot_work_is_refused_where_it_is_declared(function: Any, said: str) -> None:
    async def undocumented() -> str:
        return ""

    async def untyped(x) -> str:  # pyright: ignore[reportMissingParameterType] - the fault under test
        """Do."""
        return x

    chosen = {"undocumented": undocumented, "untyped": untyped}.get(str(function), function)
    with pytest.raises(ToolInvalid, match=said):
        declared(effect="read", risk="low")(chosen)


def test_a_declared_parameter_keeps_its_bounds() -> None:
    @declared(effect="read", risk="low")
    async def act(count: Annotated[int, Field(ge=1, le=3)], note: str | None = None) -> str:
        """Act."""
        return f"{count}{note}"

    schema = act.spec.schema
    assert schema is not None
    assert schema.problem({"count": 3}) is None
    assert schema.problem({"count": 4}) is not None
    assert schema.problem({"count": 1.5}) is not None
    assert schema.problem({"count": True}) is not None
