"""Threads for the synchronous nodes of a run loop."""

from __future__ import annotations

import concurrent.futures
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_THREADS = 64
"""Synchronous nodes of one loop that run at once."""


class LooseThreads(concurrent.futures.ThreadPoolExecutor):
    """Threads for synchronous nodes that nobody ever has to wait for.

    A tool that never returns keeps its thread and no more: it takes no place from others, and the
    process can end. The standard executor joins its threads when the interpreter exits.
    """

    def __init__(self, name: str, *, limit: int = _THREADS) -> None:
        super().__init__(max_workers=1)
        self._limit = limit
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._numbers = itertools.count(1)
        self._threads_alive = 0
        self._closed = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[_T]:
        """Run `fn` on a thread that is free, or on a new one."""
        if self._closed:
            raise RuntimeError("the executor is shut down")
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._threads_alive < self._limit:
            self._threads_alive += 1
            threading.Thread(
                target=self._serve, name=f"{self._name}-{next(self._numbers)}", daemon=True
            ).start()
        return future

    def forget(self) -> None:
        """Count no thread that is busy now: what was abandoned shall not use up the places."""
        self._threads_alive = 0

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - overrides
        """Let idle threads end; busy ones end with what they do."""
        self._closed = True
        for _ in range(next(self._numbers)):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work
            self._idle.release()
