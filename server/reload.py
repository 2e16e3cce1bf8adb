"""`interlock dev` as two processes: one that watches files, one that serves and is started anew.

The listening socket belongs to the watcher, so requests that come during a change wait instead of
failing. The server ends with the watcher: it reads a pipe that only closes with it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
import watchfiles

log = structlog.get_logger(__name__)

_STOP_DEADLINE_S = 15.0
_LOOK_EVERY_MS = 500


class _Filter(watchfiles.DefaultFilter):
    """Python files and configuration; not what tools and the server itself write."""

    ignore_dirs = (*watchfiles.DefaultFilter.ignore_dirs, ".interlock")

    def __call__(self, change: watchfiles.Change, path: str) -> bool:
        name = Path(path).name
        relevant = name.endswith((".py", ".toml", ".cedar", ".yaml")) or name.startswith(".env")
        return (relevant or name == "langgraph.json") and super().__call__(change, path)


def watch(folders: Sequence[Path], bound: socket.socket, arguments: Sequence[str]) -> int:
    """Serve in a child until interrupted; start it again when something below the folders changes."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lifeline, held_end = os.pipe()
    child = _Child(arguments, bound, lifeline)
    try:
        for changes in watchfiles.watch(
            *folders,
            watch_filter=_Filter(),
            stop_event=stop,
            raise_interrupt=False,
            yield_on_timeout=True,
            rust_timeout=_LOOK_EVERY_MS,
        ):
            if changes:
                names = sorted({os.path.relpath(path) for _, path in changes})
                log.info("reload", changed=names[:5])
                child.restart()
            else:
                child.notice_end()
    finally:
        child.stop()
        os.close(held_end)
    return 0


class _Child:
    def __init__(self, arguments: Sequence[str], bound: socket.socket, lifeline: int) -> None:
        self._command = [sys.executable, "-P", "-m", "interlock.server.cli", *arguments, "--no-reload"]
        self._handed = (bound.fileno(), lifeline)
        self._process = self._start([])
        self._noticed = False

    def _start(self, further: Sequence[str]) -> subprocess.Popen[bytes]:
        inherited = ["--inherited", ",".join(map(str, self._handed))]
        # Out of the terminal's reach: Ctrl-C is for the watcher, which then stops the server once.
        return subprocess.Popen(
            [*self._command, *inherited, *further], pass_fds=self._handed, start_new_session=True
        )

    def restart(self) -> None:
        self.stop()
        self._noticed = False
        self._process = self._start(["--no-browser"])

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def notice_end(self) -> None:
        if self._process.poll() is not None and not self._noticed:
            self._noticed = True
            log.warning("waiting_for_a_change", ended_with=self._process.returncode)


def end_with_watcher(lifeline: int) -> None:
    """In the child: take the signal to stop when the watcher is gone."""

    def wait() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
