"""Budget arithmetic and the meter."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.tools.policy.budget import DIMENSIONS, Budget, BudgetInvalid, Limit, Meter, Usage

AMOUNTS = st.none() | st.integers(0, 1000)
BUDGETS = st.builds(
    Budget,
    steps=AMOUNTS,
    model_calls=AMOUNTS,
    tool_calls=AMOUNTS,
    tokens=AMOUNTS,
    seconds=AMOUNTS,
    on_limit=st.sampled_from(["ask", "stop"]),
)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@settings(deadline=None)
@given(BUDGETS, BUDGETS)
def test_tightening_never_loosens_any_limit(first: Budget, second: Budget) -> None:
    both = first.tightened(second)
    for dimension in DIMENSIONS:
        for part in (first, second):
            limit = part.limit(dimension)
            if limit is not None:
                tightened = both.limit(dimension)
                assert tightened is not None
                assert tightened <= limit
    assert both == second.tightened(first)
    assert both.on_limit == ("stop" if "stop" in (first.on_limit, second.on_limit) else "ask")


@settings(deadline=None)
@given(BUDGETS)
def test_a_budget_survives_its_row(budget: Budget) -> None:
    assert Budget.from_row(budget.to_row()) == budget


@settings(deadline=None)
@given(BUDGETS, st.integers(0, 2000), st.integers(1, 100))
def test_continuing_gives_what_was_left_and_the_grant(budget: Budget, spent: int, more: int) -> None:
    after = budget.after(Usage(steps=spent, tokens=spent), grant={"steps": more})
    if budget.steps is None:
        assert after.steps is None
    else:
        assert after.steps == max(budget.steps - spent, 0) + more
    if budget.tokens is not None:
        assert after.tokens == max(budget.tokens - spent, 0)


@pytest.mark.parametrize(
    "row",
    [
        {"step": 3},
        {"steps": -1},
        {"steps": 1.5},
        {"steps": True},
        {"steps": "3"},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"on_limit": "shout"},
    ],
)
def test_an_impossible_budget_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(BudgetInvalid):
        Budget.from_row(row)


def test_the_calls_of_a_parallel_batch_never_pass_the_limit() -> None:
    meter = Meter(Budget(tool_calls=100))
    granted: list[bool] = []
    together = threading.Barrier(8)

    def work() -> None:
        together.wait()
        for _ in range(60):
            if meter.take_tool_call() is None:
                granted.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 100
    assert meter.usage.tool_calls == 100


def test_a_run_that_needs_exactly_its_calls_is_not_stopped() -> None:
    meter = Meter(Budget(model_calls=2, tool_calls=1))
    assert meter.take_model_call() is None
    assert meter.take_model_call() is None
    assert meter.take_tool_call() is None
    assert meter.reached() is None
    refused = meter.take_model_call()
    assert refused is not None
    assert meter.reached() == refused
    assert meter.usage.model_calls == 2


def test_a_limit_is_told_once() -> None:
    told: list[Limit] = []
    meter = Meter(Budget(steps=2), on_reached=told.append)
    assert meter.take_step() is None
    assert told == []
    assert meter.take_step() is None
    assert meter.take_step() is not None
    assert meter.usage.steps == 2
    assert [limit.message for limit in told] == ["the run reached its limit of 2 supersteps"]


def test_seconds_go_on_where_an_earlier_attempt_stopped() -> None:
    clock = Clock()
    meter = Meter(Budget(seconds=10), usage=Usage(seconds=7), clock=clock)
    assert meter.seconds_left == 3
    clock.now += 2
    assert meter.usage.seconds == 9
    assert meter.reached() is None
    clock.now += 1
    limit = meter.reached()
    assert limit is not None
    assert limit.dimension == "seconds"


def test_tokens_are_counted_by_kind_and_estimates_are_flagged() -> None:
    meter = Meter(Budget(tokens=100))
    meter.record_tokens(input_tokens=40, output_tokens=9)
    meter.record_tokens(input_tokens=20, output_tokens=10, estimated=True)
    usage = meter.usage
    assert (usage.tokens, usage.input_tokens, usage.output_tokens, usage.estimated_tokens) == (79, 60, 19, 30)
    assert Usage.from_row({**usage.to_row(), "of_a_newer_release": 1}) == Usage.from_row(usage.to_row())
    limit = meter.record_tokens(input_tokens=21, output_tokens=0)
    assert limit is not None
    assert limit.dimension == "tokens"


def test_a_budget_of_nothing_is_reached_at_once() -> None:
    assert Meter(Budget(steps=0)).take_step() is not None
    assert Meter(Budget(tokens=0)).take_step() is not None
