"""`interlock` processes forked from one that has imported already: a server starts in a quarter of the time.

What they run is the command line itself, in a process of its own with its own environment and session. Code
that looks at the environment while it is imported sees the one of the tests.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

PRELOADED = (
    "interlock.server.cli",
    "interlock.server.lifetime",
    "interlock.server.runs.catalog",
    "interlock.server.runs.embedding",
    "interlock.server.startup",
    "langchain.agents",
    "uvicorn.protocols.http.httptools_impl",
)
_ENTRY = Path(__file__).with_name("forked.py")


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


@functools.cache
def _import_path() -> Sequence[str]:
    """Where a server looks for modules, which is not where the tests do."""
    printed = subprocess.run(
        [sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"],
        capture_output=True,
        check=True,
    )
    return json.loads(printed.stdout)


class ForkedProcess:
    """A process of `interlock`, used like a `subprocess.Popen`."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        start = {
            "command": list(command),
            "cwd": str(cwd),
            "env": dict(env),
            "log": str(log),
            "import_path": _import_path(),
        }
        # A path and not a function, since the tests cannot be imported by their names elsewhere.
        arguments = {"init_globals": {"START": json.dumps(start)}, "run_name": "__main__"}
        started: ForkServerProcess = _context().Process(
            target=runpy.run_path, args=(str(_ENTRY),), kwargs=arguments
        )
        started.start()
        self._process = started
        assert started.pid is not None
        self.pid = started.pid

    @property
    def returncode(self) -> int | None:
        """How it ended: its code, or less than 0 for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            subprocess.TimeoutExpired: it did not come in time.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("interlock", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Signal the process alone."""
        os.kill(self.pid, number)

    def kill_group(self) -> None:
        """SIGKILL for it and its children."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has no session of its own yet, and so no children.
            self._process.kill()
