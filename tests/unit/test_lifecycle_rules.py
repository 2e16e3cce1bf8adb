"""What the end of a run makes of its thread."""

from __future__ import annotations

from typing import get_args

import pytest

from interlock.server.domain import INFLIGHT, RunStatus
from interlock.server.runs.lifecycle import FinalStatus
from interlock.server.runs.settling import settled_status

FINAL: tuple[FinalStatus, ...] = get_args(FinalStatus)


def test_every_status_is_either_in_flight_or_an_end() -> None:
    assert sorted([*INFLIGHT, *FINAL]) == sorted(get_args(RunStatus))


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("waits", [False, True])
def test_every_end_settles_the_thread_and_a_failure_wins_over_a_wait(
    status: FinalStatus, waits: bool
) -> None:
    settled = settled_status(status, waits=waits)
    expected = {"error": "error", "timeout": "error", "interrupted": "interrupted"}
    assert settled == expected.get(status, "interrupted" if waits else "idle")


@pytest.mark.parametrize("status", sorted(INFLIGHT))
def test_a_run_in_flight_settles_nothing(status: RunStatus) -> None:
    with pytest.raises(ValueError, match=status):
        settled_status(status, waits=False)
