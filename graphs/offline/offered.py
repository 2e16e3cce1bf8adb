"""A tool as it is offered to the model: name, description, and parameters read from its JSON schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .words import concepts_of, stem, words

Shape = Literal[
    "expression",
    "url",
    "zone",
    "email",
    "pattern",
    "identifier",
    "date",
    "choice",
    "person",
    "title",
    "reason",
    "money",
    "number",
    "flag",
    "text",
    "many",
    "unknown",
]
"""What an argument looks like in a sentence, guessed from its schema and its name."""

SPECIFIC: frozenset[Shape] = frozenset(
    {"expression", "url", "zone", "email", "pattern", "identifier", "date", "choice", "person"}
)
"""Shapes that are recognised by themselves: to find one in a question speaks for a tool that takes it."""

_NAMED: Sequence[tuple[Shape, str]] = (
    ("expression", r"expressions?|formula|equation|calculation"),
    ("url", r"ur[il]s?|link|website|webpage"),
    ("zone", r"timezone|tz|zone|city|location|place"),
    ("email", r"e?mail|recipient"),
    ("identifier", r"id|number|no|key|reference|sku"),
    ("date", r"date|day"),
    ("person", r"customer|person|client|author|username"),
    ("title", r"title|subject|headline|name"),
    ("reason", r"reason|why|cause|justification|comment"),
)


_RECALLING = frozenset({"read", "list", "search", "get", "load"})
"""Words in a tool's name that make it one which tells what was kept."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a tool."""

    name: str
    schema: Mapping[str, Any]
    required: bool
    shape: Shape

    @property
    def label(self) -> str:
        """The name as a person would say it."""
        return re.sub(r"_id$", " number", self.name).replace("_", " ").replace(" cents", "")

    @property
    def choices(self) -> list[Any]:
        """The allowed values, when they are listed."""
        if "const" in self.schema:
            return [self.schema["const"]]
        return list(self.schema.get("enum", ()))

    @property
    def description(self) -> str:
        """What the schema says about it."""
        return str(self.schema.get("description", ""))


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """One tool that the model may call."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, tool: Mapping[str, Any]) -> OfferedTool:
        """Read the form in which LangChain binds tools, that of OpenAI."""
        function = tool["function"]
        schema: Mapping[str, Any] = function.get("parameters") or {}
        required = set(schema.get("required", ()))
        definitions = schema.get("$defs", {})
        parameters = [
            _parameter(name, part, required=name in required, definitions=definitions)
            for name, part in schema.get("properties", {}).items()
        ]
        return cls(function["name"], function.get("description") or "", tuple(parameters))

    @property
    def name_concepts(self) -> set[str]:
        """What the name speaks of."""
        parts = {stem(part) for part in re.split(r"[_\W]+", self.name) if part}
        return concepts_of(parts) | ({"recall"} if parts & _RECALLING else set())

    @property
    def description_concepts(self) -> set[str]:
        """What the first sentence of the description speaks of."""
        return concepts_of(words(self.first_sentence))

    @property
    def first_sentence(self) -> str:
        """The description up to its first full stop."""
        return re.split(r"(?<=[.!?])\s|\n", self.description.strip(), maxsplit=1)[0]

    @property
    def meaning(self) -> str:
        """The text that is compared with a question."""
        return f"{self.name.replace('_', ' ')}: {self.first_sentence}"


def _parameter(
    name: str, schema: Mapping[str, Any], *, required: bool, definitions: Mapping[str, Any]
) -> Parameter:
    resolved = _resolved(schema, definitions)
    return Parameter(name, resolved, required, _shape(name, resolved))


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without references, and without the `null` of an optional argument."""
    if isinstance(reference := schema.get("$ref"), str):
        target = definitions.get(reference.rpartition("/")[2], {})
        return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    for key in ("anyOf", "oneOf", "allOf"):
        options = [o for o in schema.get(key, ()) if o.get("type") != "null"]
        if options:
            return {**_resolved(options[0], definitions), **{k: v for k, v in schema.items() if k != key}}
    return schema


def _shape(name: str, schema: Mapping[str, Any]) -> Shape:
    kind = schema.get("type", "string")
    if "enum" in schema or "const" in schema:
        return "choice"
    match kind:
        case "boolean":
            return "flag"
        case "integer" | "number":
            money = re.search(r"cents|amount|price|sum|total|cost", name)
            return "money" if money else "number"
        case "array":
            return "many"
        case "string":
            return _text_shape(name, schema)
        case _:
            return "unknown"


def _text_shape(name: str, schema: Mapping[str, Any]) -> Shape:
    by_format: Mapping[str, Shape] = {"uri": "url", "email": "email", "date": "date"}
    if (shape := by_format.get(str(schema.get("format")))) is not None:
        return shape
    if "pattern" in schema:
        return "pattern"
    last = name.lower().rpartition("_")[2]
    for shape, names in _NAMED:
        if re.fullmatch(names, last):
            return shape
    return "text"
