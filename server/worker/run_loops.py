"""Threads with an event loop each, on which graphs run.

A graph that blocks its loop cannot stop heartbeats, leases or streams: those live on the control
loop. Nothing here waits for a thread that does not answer.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from ...checkpoints.errors import DatabaseUnavailable
from ..loose_threads import LooseThreads
from ..resources import Resources, open_resources

if TYPE_CHECKING:
    from ...checkpoints.sealer import Sealer
    from ...tools.toolbox import Toolbox
    from ..records.event_log import Hub
    from ..runs.catalog import Catalog
    from ..settings import Settings

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_STOP_DEADLINE_S = 5.0


class RunLoopEnded(Exception):
    """The thread of a run loop came to its end with the task still under way."""


class TaskCancelled(Exception):
    """A task of a run loop was cancelled. Not `CancelledError`, which would mean whoever waits for it."""


class RunLoop:
    """One thread, its event loop and the resources of that loop."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        hub: Hub,
        catalog: Catalog,
        toolbox: Toolbox,
        pool_max: int,
        sealer: Sealer | None = None,
    ) -> None:
        self.name = name
        self.runs = 0
        self.given_up = False
        """It was blocked when a run had to be abandoned; nothing new is started here."""
        self._settings = settings
        self._hub = hub
        self._catalog = catalog
        self._toolbox = toolbox
        self._pool_max = pool_max
        self._sealer = sealer
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._closed: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._outcomes: set[concurrent.futures.Future[Any]] = set()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._pinged: float | None = None
        self._reported = False

    async def start(self) -> None:
        """Start the thread and wait until its resources are open.

        Raises:
            DatabaseUnavailable: no connection.
        """
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    async def stop(self) -> None:
        """Close the resources, unless the thread does not answer in time."""
        self._post(lambda: self._ends.set())
        _, waiting = await asyncio.wait({asyncio.wrap_future(self._closed)}, timeout=_STOP_DEADLINE_S)
        if waiting:
            log.error("run_loop_left_behind", loop=self.name, blocked_at=self._where())

    def start_task(
        self, work: Callable[[Resources], Coroutine[Any, Any, _T]], *, name: str
    ) -> tuple[asyncio.Future[_T], Callable[[], None]]:
        """Run a coroutine as a task of this loop.

        Returns the future of its outcome, on the calling loop, and a function that cancels the task.
        The future ends with the task itself, not with the wish to cancel it.
        """
        outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()
        outcome.set_running_or_notify_cancel()
        tasks: list[asyncio.Task[_T]] = []

        def begin() -> None:
            task = self._loop.create_task(work(self._resources), name=name)
            tasks.append(task)
            task.add_done_callback(lambda done: _copy_outcome(done, outcome))

        def cancel() -> None:
            self._post(lambda: [task.cancel() for task in tasks])

        self._outcomes.add(outcome)
        outcome.add_done_callback(self._outcomes.discard)
        self._post(begin)
        if self._closed.done():
            self._fail_outcomes()
        return asyncio.wrap_future(outcome), cancel

    def ping(self, *, patience_s: float) -> float | None:
        """Ask the loop for a sign of life; returns since how many seconds it owes one, if too long.

        A block is logged once, with the run, if it can be told, and the line that blocks.
        """
        now = time.monotonic()
        if self._pinged is None:
            self._pinged = now
            self._post(self._answer)
            return None
        blocked_s = now - self._pinged
        if blocked_s < patience_s:
            return None
        if not self._reported:
            self._reported = True
            frames = list(self._frames())
            log.error(
                "run_loop_blocked",
                loop=self.name,
                blocked_s=round(blocked_s, 1),
                at=self._where(),
                **_run_of(frames),
                hint="an async node must not block: make it a plain function, or use asyncio.to_thread",
            )
        return blocked_s

    def _answer(self) -> None:
        if self._reported and self._pinged is not None:
            log.warning("run_loop_free", loop=self.name, blocked_s=round(time.monotonic() - self._pinged, 1))
        self._pinged = None
        self._reported = False

    def _frames(self) -> Iterator[FrameType]:
        frame = sys._current_frames().get(self._thread.ident or 0)
        while frame is not None:
            yield frame
            frame = frame.f_back

    def _where(self) -> str:
        """The innermost line of the thread that is not the standard library's."""
        frames = list(self._frames())
        own = [frame for frame in frames if not frame.f_code.co_filename.startswith(_STANDARD)]
        for frame in own or frames:
            summary = traceback.extract_stack(frame, limit=1)[0]
            return f"{summary.filename}:{summary.lineno} in {summary.name}"
        return "a thread that has ended"

    def _post(self, callback: Callable[[], object]) -> None:
        """Call on the loop, unless it has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, context=contextvars.Context())

    def _fail_outcomes(self) -> None:
        for outcome in list(self._outcomes):
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                outcome.set_exception(RunLoopEnded(f"{self.name} has ended"))

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                self._serve_through_exits(runner.get_loop())
        except BaseException as error:
            if not self._opened.done():
                self._opened.set_exception(error)
                return
            log.exception("run_loop_failed", loop=self.name)
        finally:
            self.given_up = True
            self._closed.set_result(None)
            self._fail_outcomes()

    def _serve_through_exits(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve to the end. A task that raises `SystemExit` gets it as its outcome, and also stops the
        loop: an event loop takes it for the wish of the process, which it is not on this thread.
        """
        serving = loop.create_task(self._serve(), name=self.name)
        while not serving.done():
            try:
                loop.run_until_complete(serving)
            except (SystemExit, KeyboardInterrupt) as error:
                log.warning("exit_not_heeded", loop=self.name, error=repr(error))
        serving.result()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends = asyncio.Event()
        self._threads = LooseThreads(f"{self.name}-node")
        self._loop.set_default_executor(self._threads)
        async with open_resources(
            self._settings,
            hub=self._hub,
            catalog=self._catalog,
            toolbox=self._toolbox,
            pool_max=self._pool_max,
            name=f"interlock-{self.name}",
            sealer=self._sealer,
        ) as self._resources:
            self._opened.set_result(None)
            await self._ends.wait()


class RunLoops:
    """The run loops of one worker: one that had to be given up is replaced."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._isolated = resources.settings.worker.isolated_loops
        self._loops: list[RunLoop] = []
        self._stopping: set[asyncio.Future[None]] = set()
        self._made = 0

    def __len__(self) -> int:
        return len(self._loops)

    @property
    def usable(self) -> list[RunLoop]:
        """Those on which something new may be started."""
        return [loop for loop in self._loops if not loop.given_up]

    async def start(self) -> None:
        """Start as many as the settings say.

        Raises:
            DatabaseUnavailable: no connection.
        """
        settings = self._resources.settings.worker
        for _ in range(settings.slots if self._isolated else settings.run_loops):
            await self._add()

    async def stop(self) -> None:
        """Close the resources of all that answer."""
        await asyncio.gather(*self._stopping, *(loop.stop() for loop in self._loops))

    async def look_after(self, *, patience_s: float) -> bool:
        """Ask each for a sign of life, and replace what was given up; True if one was replaced."""
        replaced = False
        for loop in list(self._loops):
            loop.ping(patience_s=patience_s)
            if not loop.given_up:
                continue
            try:
                await self._add()
            except DatabaseUnavailable:
                log.exception("run_loop_not_started")
                continue
            self._loops.remove(loop)
            stopping = asyncio.ensure_future(loop.stop())
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)
            replaced = True
        return replaced

    async def _add(self) -> None:
        self._made += 1
        share = 4 if self._isolated else 1
        loop = RunLoop(
            f"run-loop-{self._made}",
            self._resources.settings,
            hub=self._resources.hub,
            catalog=self._resources.catalog,
            toolbox=self._resources.toolbox,
            pool_max=max(2, self._resources.settings.database.pool_max // share),
            sealer=self._resources.database.sealer,
        )
        await loop.start()
        self._loops.append(loop)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest loop that this platform has and psycopg can use."""
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop()
    import uvloop

    return uvloop.new_event_loop()


def _copy_outcome(task: asyncio.Task[_T], outcome: concurrent.futures.Future[_T]) -> None:
    if task.cancelled():
        outcome.set_exception(TaskCancelled(task.get_name()))
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


_STANDARD = (threading.__file__.rsplit("/", 1)[0] + "/", "<frozen ")


def _run_of(frames: list[FrameType]) -> dict[str, str]:
    """The run that a stack belongs to: LangGraph carries it in the `config` of the task it executes."""
    for frame in frames:
        config = frame.f_locals.get("config")
        if isinstance(config, dict) and isinstance(configurable := config.get("configurable"), dict):
            found = {key: str(configurable[key]) for key in ("run_id", "graph_id") if key in configurable}
            if found:
                return found
    return {}
