"""Which status may follow which, as a machine that tries everything."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from interlock.server.domain import ALLOWED, INFLIGHT, TERMINAL, RunStatus
from interlock.server.runs.lifecycle import settled_status


class RunMachine(RuleBasedStateMachine):
    """A run that does all it is allowed to do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.status: RunStatus = "pending"
        self.ends = 0

    def to(self, status: RunStatus) -> None:
        assert status in ALLOWED[self.status]
        self.status = status
        self.ends += status in TERMINAL

    @precondition(lambda self: self.status == "pending")
    @rule()
    def claimed(self) -> None:
        self.to("running")

    @precondition(lambda self: self.status == "running")
    @rule()
    def handed_back(self) -> None:
        self.to("pending")

    @precondition(lambda self: self.status in INFLIGHT)
    @rule()
    def cancelled(self) -> None:
        self.to("interrupted")

    @precondition(lambda self: self.status == "running")
    @rule()
    def finished(self) -> None:
        self.to("success")

    @precondition(lambda self: self.status == "running")
    @rule()
    def failed(self) -> None:
        self.to("error")

    @precondition(lambda self: self.status == "running")
    @rule()
    def overtime(self) -> None:
        self.to("timeout")

    @precondition(lambda self: self.status in TERMINAL)
    @rule()
    def nothing_follows_an_end(self) -> None:
        assert ALLOWED[self.status] == frozenset()

    @invariant()
    def it_ends_once(self) -> None:
        assert self.ends == (self.status in TERMINAL)


TestRunMachine = RunMachine.TestCase
TestRunMachine.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)


def test_every_status_is_either_in_flight_or_an_end() -> None:
    assert set(ALLOWED) == INFLIGHT | TERMINAL
    assert not INFLIGHT & TERMINAL


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("waits", [False, True])
def test_every_end_settles_the_thread_and_a_failure_wins_over_a_wait(status: RunStatus, waits: bool) -> None:
    settled = settled_status(status, waits=waits)
    expected = {"error": "error", "timeout": "error", "interrupted": "interrupted"}
    assert settled == expected.get(status, "interrupted" if waits else "idle")


@pytest.mark.parametrize("status", sorted(INFLIGHT))
def test_a_run_in_flight_settles_nothing(status: RunStatus) -> None:
    with pytest.raises(ValueError, match=status):
        settled_status(status, waits=False)
