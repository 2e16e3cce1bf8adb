"""Scorers: pure functions from what was expected and what happened to a score with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, Self

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes no other before 3.12

from .outcome import Call, Outcome


class ExpectationInvalid(ValueError):
    """An expectation has an argument that its scorer cannot use."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well one expectation was met."""

    scorer: str
    value: float
    """From 0 to 1."""
    reason: str
    """What was found; shown when the value is below 1."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One expectation: a scorer and its argument."""

    scorer: str
    argument: Any

    @classmethod
    def of(cls, scorer: str, argument: Any) -> Self:
        """Check the argument.

        Raises:
            ExpectationInvalid: the scorer cannot use it.
        """
        try:
            checked = TypeAdapter(SCORERS[scorer].takes).validate_python(argument)
        except ValidationError as error:
            raise ExpectationInvalid(f"`{scorer}`: {error.errors()[0]['msg']}") from error
        if scorer == "matches":
            _require_pattern(checked)
        return cls(scorer, checked)

    def score(self, outcome: Outcome) -> Score:
        """Judge an outcome."""
        value, reason = SCORERS[self.scorer].judge(self.argument, outcome)
        return Score(self.scorer, value, reason)


@dataclass(frozen=True, slots=True)
class Scorer:
    """A way to judge, and the type of the argument that it takes."""

    takes: Any
    judge: Callable[[Any, Outcome], tuple[float, str]]


class CallPattern(TypedDict):
    """A call that has to be among those made."""

    tool: str
    arguments: NotRequired[dict[str, Any]]
    """Those that are named have to be equal; others may be there."""
    status: NotRequired[str]


class Limits(TypedDict):
    """What a case may cost at most."""

    calls: NotRequired[int]
    tokens: NotRequired[int]
    seconds: NotRequired[float]


def _says(texts: str | list[str], outcome: Outcome) -> tuple[float, str]:
    """Parts that have to stand in the last answer, in any case of letters."""
    wanted = [texts] if isinstance(texts, str) else texts
    missing = [t for t in wanted if t.lower() not in outcome.answer.lower()]
    reason = f"the answer {outcome.answer!r} lacks {', '.join(map(repr, missing))}"
    return 1 - len(missing) / len(wanted), reason


def _says_not(texts: str | list[str], outcome: Outcome) -> tuple[float, str]:
    """Parts that no answer may have."""
    wanted = [texts] if isinstance(texts, str) else texts
    said = [t for t in wanted if any(t.lower() in answer.lower() for answer in outcome.answers)]
    return float(not said), f"an answer says {', '.join(map(repr, said))}"


def _matches(pattern: str, outcome: Outcome) -> tuple[float, str]:
    """A regular expression that has to be found in the last answer."""
    found = re.search(pattern, outcome.answer, re.IGNORECASE) is not None
    return float(found), f"the answer {outcome.answer!r} does not match {pattern!r}"


def _calls(tools: list[str], outcome: Outcome) -> tuple[float, str]:
    """The tools that are called, all of them, in this order."""
    made = [call.tool for call in outcome.calls]
    return float(made == tools), f"called {made}, expected {tools}"


def _calls_with(pattern: CallPattern, outcome: Outcome) -> tuple[float, str]:
    """A call with these arguments."""
    made = [call for call in outcome.calls if call.tool == pattern["tool"]]
    fits = any(_fits(pattern, call) for call in made)
    shown = [f"{dict(call.arguments)} → {call.status}" for call in made] or ["none"]
    return float(fits), f"calls of `{pattern['tool']}`: {'; '.join(shown)}"


def _reviews(actions: list[str], outcome: Outcome) -> tuple[float, str]:
    """The actions that a person is asked about, all of them, in this order."""
    asked = list(outcome.reviews)
    return float(asked == actions), f"a person was asked about {asked}, expected {actions}"


def _waits(actions: list[str], outcome: Outcome) -> tuple[float, str]:
    """The actions that still wait for a person at the end."""
    waiting = sorted(outcome.waiting)
    return float(waiting == sorted(actions)), f"{waiting} wait at the end, expected {sorted(actions)}"


def _state(parts: dict[str, Any], outcome: Outcome) -> tuple[float, str]:
    """Values of the final state, by key."""
    values = outcome.values or {}
    wrong = {key: values.get(key) for key, value in parts.items() if values.get(key) != value}
    return 1 - len(wrong) / len(parts), f"the state has {wrong}, expected {parts}"


def _fails(part: str, outcome: Outcome) -> tuple[float, str]:
    """The run ends with an error that says this."""
    return float(part in (outcome.error or "")), f"the error is {outcome.error!r}, expected {part!r}"


def _at_most(limits: Limits, outcome: Outcome) -> tuple[float, str]:
    """What the case may cost."""
    spent = {"calls": len(outcome.calls), "tokens": outcome.tokens, "seconds": outcome.seconds}
    over = [
        f"{spent[k]:g} {k} of {v:g}" for k, v in limits.items() if isinstance(v, int | float) and spent[k] > v
    ]
    return float(not over), f"it took {', '.join(over)}"


SCORERS: Mapping[str, Scorer] = {
    "says": Scorer(str | list[str], _says),
    "says_not": Scorer(str | list[str], _says_not),
    "matches": Scorer(str, _matches),
    "calls": Scorer(list[str], _calls),
    "calls_with": Scorer(CallPattern, _calls_with),
    "reviews": Scorer(list[str], _reviews),
    "waits": Scorer(list[str], _waits),
    "state": Scorer(dict[str, Any], _state),
    "fails": Scorer(str, _fails),
    "at_most": Scorer(Limits, _at_most),
}
"""Every scorer by the name it has in a dataset."""


def score_all(expected: tuple[Expected, ...], outcome: Outcome) -> tuple[Score, ...]:
    """Judge a case. A run that failed although no failure was expected is a score of its own."""
    scores = tuple(e.score(outcome) for e in expected)
    if outcome.error is not None and not any(e.scorer == "fails" for e in expected):
        scores += (Score("error", 0.0, f"the run failed: {outcome.error}"),)
    return scores


def _fits(pattern: CallPattern, call: Call) -> bool:
    wanted = pattern.get("arguments", {})
    same = all(call.arguments.get(name) == value for name, value in wanted.items())
    return same and pattern.get("status", call.status) == call.status


def _require_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ExpectationInvalid(f"`matches`: {pattern!r} is no regular expression: {error}") from error
