"""How much a run may spend, what it has spent, and when that is enough. Pure."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, get_args

Dimension = Literal["steps", "model_calls", "tool_calls", "tokens", "seconds"]
"""steps: supersteps of the graph. tokens: input and output. seconds: active ones; the time a run
waits for a person is not counted."""

OnLimit = Literal["ask", "stop"]
"""ask: the run pauses and a review asks for more. stop: the run ends with a typed error."""

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
_NOUNS: Mapping[Dimension, str] = {
    "steps": "supersteps",
    "model_calls": "model calls",
    "tool_calls": "tool calls",
    "tokens": "tokens",
    "seconds": "active seconds",
}


class BudgetInvalid(ValueError):
    """A budget names an unknown limit or an impossible amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of one run; None means unlimited."""

    steps: int | None = None
    model_calls: int | None = None
    tool_calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    on_limit: OnLimit = "ask"

    @classmethod
    def from_row(cls, row: Mapping[str, Any] | None) -> Self:
        """Read a budget from configuration or from a stored row.

        Raises:
            BudgetInvalid: an unknown key, or an amount that is not a number from 0 up.
        """
        if row is None:
            return cls()
        for key, value in row.items():
            if key == "on_limit":
                if value not in get_args(OnLimit):
                    raise BudgetInvalid(f"`budget.on_limit` is {value!r}; it must be 'ask' or 'stop'")
            elif key not in DIMENSIONS:
                raise BudgetInvalid(f"`budget.{key}` is not a limit; known are {', '.join(DIMENSIONS)}")
            elif value is not None:
                _require_amount(key, value)
        return cls(**row)

    def to_row(self) -> dict[str, Any]:
        """The JSON object that `from_row` reads; unlimited dimensions are left out."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def limit(self, dimension: Dimension) -> float | None:
        """The limit of one dimension, or None."""
        return getattr(self, dimension)

    def tightened(self, *others: Budget) -> Budget:
        """The smaller limit of each dimension; one `stop` makes it stop."""
        limits: dict[str, Any] = {}
        for dimension in DIMENSIONS:
            known = [v for b in (self, *others) if (v := b.limit(dimension)) is not None]
            limits[dimension] = min(known) if known else None
        strict = any(b.on_limit == "stop" for b in (self, *others))
        return Budget(**limits, on_limit="stop" if strict else "ask")

    def after(self, usage: Usage, *, grant: Mapping[Dimension, float]) -> Budget:
        """The budget of the run that continues: what `usage` left, and `grant` on top."""
        limits: dict[str, Any] = {}
        for dimension in DIMENSIONS:
            limit = self.limit(dimension)
            if limit is not None:
                limits[dimension] = max(limit - usage.spent(dimension), 0) + grant.get(dimension, 0)
        return Budget(**limits, on_limit=self.on_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run has spent."""

    steps: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_tokens: int = 0
    """How many of `tokens` are our estimate, since the provider reported none."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any] | None) -> Self:
        """Read what `to_row` wrote; keys of a newer release are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in (row or {}).items() if k in known})

    def to_row(self) -> dict[str, Any]:
        """The JSON object stored with a run."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def spent(self, dimension: Dimension) -> float:
        """The amount of one dimension."""
        return getattr(self, dimension)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit that was reached."""

    dimension: Dimension
    limit: float
    spent: float

    @property
    def message(self) -> str:
        """What happened, for the person who decides and for the error."""
        return f"the run reached its limit of {self.limit:g} {_NOUNS[self.dimension]}"

    def to_row(self) -> dict[str, Any]:
        """The JSON object stored with a review."""
        return {"dimension": self.dimension, "limit": self.limit, "spent": self.spent}


class Meter:
    """Counts what a run spends against its budget. Safe from any thread.

    Steps, model calls and tool calls are taken before they happen, so a parallel batch cannot pass
    the limit. Tokens and seconds are known only afterwards: the run goes on to the edge of its
    superstep, then it drains.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        usage: Usage | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_reached: Callable[[Limit], None] | None = None,
    ) -> None:
        self.budget = budget
        self._before = usage or Usage()
        self._counted = self._before
        self._clock = clock
        self._started = clock()
        self._on_reached = on_reached
        self._refused: Limit | None = None
        self._told = False
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage:
        """What was spent up to now, earlier attempts of the run included."""
        with self._lock:
            return self._usage()

    @property
    def seconds_left(self) -> float | None:
        """Active seconds until the limit, or None when there is none."""
        if self.budget.seconds is None:
            return None
        return max(self.budget.seconds - self.usage.seconds, 0.0)

    def reached(self) -> Limit | None:
        """The limit that stops the run at the next superstep, if any."""
        with self._lock:
            return self._reached()

    def check(self) -> Limit | None:
        """Like `reached`, and tell `on_reached` when it is the first time."""
        with self._lock:
            limit = self._reached()
            first = limit is not None and not self._told
            self._told = self._told or first
        if first and limit is not None and self._on_reached is not None:
            self._on_reached(limit)
        return limit

    def take_step(self) -> Limit | None:
        """Count a superstep that is about to begin; a limit means that it must not.

        The last one that is allowed drains the run, so the graph stops at its end.
        """
        with self._lock:
            refused = self._reached()
            if refused is None:
                self._counted = replace(self._counted, steps=self._counted.steps + 1)
        self.check()
        return refused

    def record_tokens(
        self, *, input_tokens: int, output_tokens: int, estimated: bool = False
    ) -> Limit | None:
        """Count the tokens of a model call that has ended."""
        total = input_tokens + output_tokens
        with self._lock:
            counted = self._counted
            self._counted = replace(
                counted,
                tokens=counted.tokens + total,
                input_tokens=counted.input_tokens + input_tokens,
                output_tokens=counted.output_tokens + output_tokens,
                estimated_tokens=counted.estimated_tokens + (total if estimated else 0),
            )
        return self.check()

    def take_model_call(self) -> Limit | None:
        """Count a model call that is about to begin; a limit means that it must not."""
        return self._take("model_calls")

    def take_tool_call(self) -> Limit | None:
        """Count a tool call that is about to begin; a limit means that it must not."""
        return self._take("tool_calls")

    def _take(self, dimension: Literal["model_calls", "tool_calls"]) -> Limit | None:
        with self._lock:
            limit, spent = self.budget.limit(dimension), self._counted.spent(dimension)
            if limit is None or spent < limit:
                self._counted = replace(self._counted, **{dimension: int(spent) + 1})
                return None
            refused = self._refused = Limit(dimension=dimension, limit=limit, spent=spent)
        self.check()
        return refused

    def _usage(self) -> Usage:
        return replace(self._counted, seconds=self._before.seconds + self._clock() - self._started)

    def _reached(self) -> Limit | None:
        if self._refused is not None:
            return self._refused
        usage = self._usage()
        for dimension in ("steps", "tokens", "seconds"):
            limit, spent = self.budget.limit(dimension), usage.spent(dimension)
            if limit is not None and spent >= limit:
                return Limit(dimension=dimension, limit=limit, spent=spent)
        return None


def _require_amount(key: str, value: object) -> None:
    whole = key != "seconds"
    right_type = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right_type or not math.isfinite(value) or value < 0:  # pyright: ignore[reportArgumentType, reportOperatorIssue] - checked on the left
        kind = "a whole number" if whole else "a number"
        raise BudgetInvalid(f"`budget.{key}` is {value!r}; it must be {kind} from 0 up")
