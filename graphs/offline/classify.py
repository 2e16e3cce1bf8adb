"""Fills a schema that has to be filled: what `with_structured_output` asks of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .choose import Similarity
from .extract import Source, fill, found_in
from .offered import OfferedTool, Parameter
from .words import ACTING, concepts, ordered

_MEANING_WEIGHT = 2.5
_DEMANDED = 2
_SHARE = re.compile(r"confidence|certainty|probability|score")


def classify(tool: OfferedTool, source: Source, similarity: Similarity) -> dict[str, Any]:
    """Arguments for a call that must be made: every required one gets a value.

    A choice is made by the words that a text shares with each value and its gloss. Glosses are lines
    `value: what it means` in the description of the parameter.
    """
    arguments = fill(tool, source).arguments
    margin = 1.0
    for parameter in tool.parameters:
        if parameter.shape == "choice":
            chosen, margin = _chosen(parameter, source.text, similarity)
            arguments[parameter.name] = chosen
    for parameter in tool.parameters:
        if parameter.shape == "number" and _SHARE.search(parameter.name):
            arguments[parameter.name] = round(min(0.5 + margin / 4, 0.99), 2)
        elif parameter.shape == "flag":
            about = concepts(parameter.description) | concepts(parameter.name.replace("_", " "))
            arguments[parameter.name] = bool(about & concepts(source.text))
        elif parameter.required and parameter.name not in arguments:
            arguments[parameter.name] = _stated(parameter, source.text)
    return arguments


def _chosen(parameter: Parameter, text: str, similarity: Similarity) -> tuple[Any, float]:
    """The value that fits best, and how far it is ahead of the next."""
    glosses = _glosses(parameter)
    said = concepts(text)
    asked = ordered(text) & ACTING

    def fit(value: Any) -> float:
        meaning = f"{str(value).replace('_', ' ')}: {glosses.get(str(value), '')}"
        shared = len(concepts(meaning) & said)
        # `refund` asked for weighs more than the mention of an order.
        demanded = _DEMANDED * len(asked & concepts(str(value).replace("_", " ")))
        return demanded + min(shared, 4) + _MEANING_WEIGHT * max(0.0, similarity(text, meaning))

    # Of equal values the one listed last wins: the place of `other`.
    places = list(enumerate(parameter.choices))
    ranked = [value for _, value in sorted(places, key=lambda p: (fit(p[1]), p[0]), reverse=True)]
    if len(ranked) == 1:
        return ranked[0], 1.0
    return ranked[0], fit(ranked[0]) - fit(ranked[1])


def _glosses(parameter: Parameter) -> Mapping[str, str]:
    lines = re.split(r"[\n;]", parameter.description)
    parts = [line.partition(":") for line in lines]
    return {name.strip(" -`"): gloss.strip() for name, colon, gloss in parts if colon}


def _stated(parameter: Parameter, text: str) -> Any:
    value = found_in(text, parameter)
    if value is not None:
        return value
    match parameter.schema.get("type"):
        case "integer" | "number":
            return parameter.schema.get("minimum", 0)
        case "array":
            return []
        case "object":
            return {}
        case _:
            return (
                text[: parameter.schema.get("maxLength", 200)] if parameter.shape in ("text", "title") else ""
            )
