"""Threads for the synchronous nodes of a run loop."""

from __future__ import annotations

import concurrent.futures
import contextvars
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

    A call that nobody awaits any more, because its run was cancelled, gives its place to others; its
    thread ends with it. So a tool that never returns takes nothing away, and the process can end: the
    standard executor joins its threads when the interpreter exits.
    """

    def __init__(self, name: str, *, limit: int = _THREADS) -> None:
        super().__init__(max_workers=1)
        self._limit = limit
        self._name = name
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._numbers = itertools.count(1)
        self._places_taken = 0
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[_T]:
        """Run `fn` on a thread that is free, or on a new one."""
        if self._closed:
            raise RuntimeError("the executor is shut down")
        # The thread works for the run of whoever submits, also where a graph calls `run_in_executor` itself.
        context = contextvars.copy_context()
        call = _Call(lambda: context.run(fn, *args, **kwargs), self._abandoned)
        self._calls.put(call)
        if not self._idle.acquire(blocking=False):
            self._add_thread()
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - overrides
        """Let idle threads end; busy ones end with what they do."""
        self._closed = True
        for _ in range(next(self._numbers)):
            self._calls.put(None)

    def _add_thread(self) -> None:
        with self._lock:
            if self._places_taken >= self._limit:
                return
            self._places_taken += 1
        threading.Thread(target=self._serve, name=f"{self._name}-{next(self._numbers)}", daemon=True).start()

    def _abandoned(self) -> None:
        with self._lock:
            self._places_taken -= 1
        if not self._calls.empty():
            self._add_thread()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.run():
                return
            del call
            self._idle.release()


class _Call(concurrent.futures.Future[Any]):
    """One call, and whether somebody still waits for it."""

    def __init__(self, work: Callable[[], Any], on_abandoned: Callable[[], None]) -> None:
        super().__init__()
        self._work = work
        self._on_abandoned = on_abandoned
        self._lock = threading.Lock()
        self._returned = False
        self._abandoned = False

    def cancel(self) -> bool:
        """Give up waiting: a call that has not begun is dropped, one that has gives its place away."""
        if super().cancel():
            return True
        with self._lock:
            if self._returned or self._abandoned:
                return False
            self._abandoned = True
        self._on_abandoned()
        return False

    def run(self) -> bool:
        """Make the call; False when its place was given away meanwhile."""
        if not self.set_running_or_notify_cancel():
            return True
        result, error = None, None
        try:
            result = self._work()
        except BaseException as raised:  # noqa: BLE001 - whoever awaits the future gets it
            error = raised
        with self._lock:
            self._returned = True
            keeps_place = not self._abandoned
        if error is None:
            self.set_result(result)
        else:
            self.set_exception(error)
        return keeps_place
