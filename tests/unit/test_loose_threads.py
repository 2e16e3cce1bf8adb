"""Threads for synchronous nodes: reused, never waited for."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

from interlock.server.loose_threads import LooseThreads


def test_results_and_exceptions_come_back() -> None:
    threads = LooseThreads("node")
    assert threads.submit(lambda a, b: a + b, 1, b=2).result(5) == 3

    def fail() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        threads.submit(fail).result(5)
    threads.shutdown()


def test_an_idle_thread_is_used_again() -> None:
    threads = LooseThreads("node")
    names = set()
    for _ in range(50):
        names.add(threads.submit(lambda: threading.current_thread().name).result(5))
    # A thread counts as idle a moment after its result is there, so it need not be a single one.
    assert len(names) < 10
    threads.shutdown()


def test_many_run_at_once() -> None:
    threads = LooseThreads("node")
    together = threading.Barrier(16)
    futures = [threads.submit(together.wait, 5) for _ in range(16)]
    assert sorted(future.result(5) for future in futures) == list(range(16))
    threads.shutdown()


def test_a_full_house_of_abandoned_calls_does_not_stop_new_work() -> None:
    threads = LooseThreads("node", limit=2)
    end = threading.Event()
    started = threading.Barrier(3)

    def hang() -> None:
        started.wait(5)
        end.wait()

    hanging = [threads.submit(hang) for _ in range(2)]
    started.wait(5)
    waiting = threads.submit(lambda: "ran")
    with pytest.raises(TimeoutError):
        waiting.result(0.05)
    assert not any(call.cancel() for call in hanging)
    assert waiting.result(5) == "ran"
    assert threads.submit(lambda: "ran").result(5) == "ran"
    end.set()
    threads.shutdown()


def test_places_given_away_never_make_more_than_the_limit() -> None:
    threads = LooseThreads("node", limit=2)
    for _ in range(20):
        call = threads.submit(threading.Event().wait, 0.001)
        call.cancel()
        call.cancel()
    ends = threading.Event()
    running: list[int] = []

    def work() -> None:
        running.append(1)
        ends.wait(5)

    calls = [threads.submit(work) for _ in range(6)]
    with pytest.raises(TimeoutError):
        calls[-1].result(0.2)
    assert len(running) == 2
    ends.set()
    for call in calls:
        call.result(5)
    threads.shutdown()


def test_nothing_is_accepted_after_shutdown() -> None:
    threads = LooseThreads("node")
    threads.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(print)


def test_a_call_that_never_returns_does_not_keep_the_interpreter_alive() -> None:
    program = (
        "import threading\n"
        "from interlock.server.loose_threads import LooseThreads\n"
        "LooseThreads('node').submit(threading.Event().wait)\n"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", program], timeout=20, check=False)
    assert ended.returncode == 0


def test_work_sees_the_context_of_whoever_submits_it() -> None:
    whose: ContextVar[str] = ContextVar("whose")
    threads = LooseThreads("node", limit=1)
    answers: list[str] = []
    for name in ("ann", "bob"):
        whose.set(name)
        answers.append(threads.submit(whose.get).result(5))
    assert answers == ["ann", "bob"]
    threads.shutdown()
