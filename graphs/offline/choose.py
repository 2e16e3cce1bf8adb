"""Decides what to do next: which tool to call with which arguments, or that it is time to answer."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .conversation import MadeCall, Turn
from .extract import Filled, Source, all_in, fill
from .offered import OfferedTool, Parameter
from .words import ACTING, READING, WEAK, concepts, is_question, ordered

Similarity = Callable[[str, str], float]
"""How near a text is to a fixed one, from word vectors; always 0 without them."""

CALL_LIMIT = 8
"""Calls in one turn. A plan is finite; this holds when a graph answers calls in a way we do not foresee."""

_THRESHOLD = 1.0
_NOISE = 0.08
_MEANING_WEIGHT = 2.5
_MEANS_IT = 0.35
_STARTERS = (
    r"what|which|who|where|when|how|is|are|does|do|did|tell|show|give|look|find|check|get|fetch|download|open|read|"
    r"refund|reimburse|calculate|compute|add|multiply|divide|subtract|remember|note|save|write|jot|list|search|send|"
    r"delete|cancel|create|update|change|track|please|can|could|then|also"
)
_CLAUSE = re.compile(
    rf"(?:\s*[,;.?!]\s+|\s+)(?:(?:and|then|also)\s+)+(?=(?:{_STARTERS})\b)|(?<=[.?!;])\s+", re.IGNORECASE
)


class Intent(NamedTuple):
    """One thing that the question asks a tool for."""

    tool: OfferedTool
    clause: str
    filled: Filled


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call to make now."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """An argument that the person has to give."""

    tool: OfferedTool
    parameter: Parameter


@dataclass(frozen=True, slots=True)
class Plan:
    """What comes next in a turn: calls, or, when there are none, the answer."""

    calls: tuple[Call, ...] = ()
    questions: tuple[Question, ...] = ()
    intents: tuple[Intent, ...] = ()


def plan(turn: Turn, tools: Sequence[OfferedTool], similarity: Similarity) -> Plan:
    """Decide the next step of a turn; the same turn always gives the same step."""
    intents = wanted(turn, tools, similarity)
    if len(turn.calls) >= CALL_LIMIT:
        return Plan(intents=intents)
    made: dict[str, list[MadeCall]] = defaultdict(list)
    for call in turn.calls:
        made[call.tool].append(call)
    calls: list[Call] = []
    questions: list[Question] = []
    for intent in intents:
        step = _next(intent, made, tools, turn)
        match step:
            case Call() if step not in calls:
                calls.append(step)
            case Question():
                questions.append(step)
            case _:
                pass
    return Plan(tuple(calls), tuple(questions), intents)


def wanted(turn: Turn, tools: Sequence[OfferedTool], similarity: Similarity) -> tuple[Intent, ...]:
    """What the question asks tools for, in its order."""
    question = turn.question
    intents = _intents(question, turn, tools, similarity)
    if not intents and turn.asked_back:
        # We asked for something, and this is the answer: read it together with the first question.
        asked = next((text for text in turn.earlier[1:] if text), "")
        intents = _intents(f"{asked.rstrip(' .?!')} {question}", turn, tools, similarity)
    return tuple(intents)


def _intents(question: str, turn: Turn, tools: Sequence[OfferedTool], similarity: Similarity) -> list[Intent]:
    found: list[Intent] = []
    parts = [part.strip() for part in _CLAUSE.split(question) if part.strip()]
    for number, clause in enumerate(parts):
        # `it` means what this question or an earlier one named last.
        earlier = (*reversed(parts[:number]), *turn.earlier)
        source = Source(clause, earlier, turn.results, whole=question)
        tool = choose(source, tools, similarity)
        if tool is not None:
            found += [Intent(tool, each.text, fill(tool, each)) for each in _one_by_one(tool, source)]
    return found


def choose(source: Source, tools: Sequence[OfferedTool], similarity: Similarity) -> OfferedTool | None:
    """The tool that a clause asks for, or None."""
    scored = [(score(tool, source, similarity), -len(fill(tool, source).missing), tool) for tool in tools]
    best = max(scored, key=lambda entry: entry[:2], default=None)
    return best[2] if best is not None and best[0] >= _THRESHOLD else None


def score(tool: OfferedTool, source: Source, similarity: Similarity) -> float:
    """How much speaks for a tool: the words it shares, the arguments it would take, and its meaning."""
    said = concepts(source.text)
    filled = fill(tool, source)
    near = similarity(source.text, tool.meaning)
    if any(p.shape in ("expression", "url") for p in filled.missing):
        return 0.0
    if not _may_be_meant(tool, source.text, said, near):
        return 0.0
    strong = tool.name_concepts - WEAK
    if "recall" in tool.name_concepts and "recall" not in said:
        strong -= {"remember", "note"}
    shared = strong & said
    if shared == {"lookup"} and not filled.evidence and near < _MEANS_IT:
        return 0.0  # something is to be looked up, but nothing says that it is of this kind
    named = len(shared) + 0.4 * len(tool.name_concepts & WEAK & said)
    named += "recall" in shared
    described = min(0.25 * len((tool.description_concepts - tool.name_concepts) & said), 0.5)
    return named + described + filled.evidence + _MEANING_WEIGHT * max(0.0, near - _NOISE)


def _may_be_meant(tool: OfferedTool, text: str, said: set[str], near: float) -> bool:
    """Nothing is done that was not asked for, and reading is no answer to an order to do something."""
    asked = ordered(text) & ACTING
    if tool.name_concepts & READING:
        return is_question(text) or not asked - tool.name_concepts
    if is_question(text) or asked - tool.name_concepts:
        return False
    if said & ACTING & tool.name_concepts:
        return bool(asked)
    return bool(_actions(tool) & said) or near >= _MEANS_IT


def _actions(tool: OfferedTool) -> set[str]:
    """What a tool does, as against what it does it to: `refund` of `order_refund`."""
    objects = {part for p in tool.parameters for part in p.name.split("_")}
    return {c for c in tool.name_concepts if c not in objects}


def _one_by_one(tool: OfferedTool, source: Source) -> list[Source]:
    """One source for each thing that a clause names: two orders are two calls."""
    for parameter in tool.parameters:
        if parameter.shape in ("pattern", "identifier", "url"):
            values = list(dict.fromkeys(all_in(source.text, parameter)))
            if len(values) > 1:
                return [replace(source, text=_only(source.text, v, values)) for v in values]
    return [source]


def _only(text: str, value: str, values: Sequence[str]) -> str:
    for other in values:
        if other != value:
            text = re.sub(rf"(?:\s*,?\s*\band\b\s*)?{re.escape(other)}", " ", text, flags=re.IGNORECASE)
    return text


def _next(
    intent: Intent, made: Mapping[str, list[MadeCall]], tools: Sequence[OfferedTool], turn: Turn
) -> Call | Question | None:
    """The next step towards one intent; None when it is done or cannot be done."""
    if intent.filled.missing and made[intent.tool.name] == []:
        return _find_out(intent, tools, turn)
    if made[intent.tool.name]:
        made[intent.tool.name].pop(0)
        return None
    return Call(intent.tool.name, intent.filled.arguments)


def _find_out(intent: Intent, tools: Sequence[OfferedTool], turn: Turn) -> Call | Question | None:
    """Get what an intent lacks: from a tool that reads about the same thing, or from the person."""
    first = intent.filled.missing[0]
    if first.shape in ("money", "number", "text", "unknown"):
        for tool in tools:
            shared = {p.name: v for p in tool.parameters if (v := intent.filled.arguments.get(p.name))}
            if not shared or tool.name == intent.tool.name or not tool.name_concepts & READING:
                continue
            for call in turn.calls:
                if call.tool == tool.name and shared.items() <= call.arguments.items():
                    # It was asked and did not tell; after a failure there is nothing to go on with.
                    return None if call.failed else Question(intent.tool, first)
            return Call(tool.name, shared)
    return Question(intent.tool, first)
