"""Real servers for the tests of every tier: databases, and `interlock` processes on them."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from interlock.server.embedded import EmbeddedPostgres

from .forks import ForkedProcess

GRAPHS = Path(__file__).parent / "graphs"
PROJECT_APP = Path(__file__).parent / "project_app"
"""A project with routes, middleware and hooks of its own."""
GUARDED = Path(__file__).parent / "guarded"
"""A project with an `Auth` object, which keeps everybody to what is theirs."""
SEALED = Path(__file__).parent / "sealed"
"""A project that encrypts what is stored, with a key for each user."""
OUR_VARIABLES = (
    "INTERLOCK_",
    "LANGGRAPH_",
    "LANGSMITH_",
    "LANGCHAIN_",
    "BG_JOB_",
    "PG",
    "LOG_",
    "DATABASE_",
)
"""How the variables begin that a server reads; none of the developer's own reaches a test."""

_ARGUMENTS: Mapping[str, Sequence[str]] = {"dev": ("--no-reload", "--no-browser")}
_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 30.0
_numbers = itertools.count(1)


def fresh_database(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], *, template: str
) -> Iterator[str]:
    """A database copied from `template`; dropped afterwards, whoever is connected."""
    name = f"test_{next(_numbers)}"
    admin.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            sql.Identifier(name), sql.Identifier(template)
        )
    )
    yield postgres.url_of(name)
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class InterlockServer:
    """A real `interlock` process on its own port; it can be killed and started again."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, port: int
    ) -> None:
        self.command = list(command)
        self.cwd = cwd
        self.env = dict(env)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process: ForkedProcess | None = None
        self._log_path = log
        self._written_before = 0

    @property
    def log(self) -> str:
        """All that the process wrote so far, over restarts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    @property
    def serves_http(self) -> bool:
        return self.command[0] != "work"

    def start(self, *, wait: bool = True) -> None:
        """Start the process and wait until it serves, or, without HTTP, until it says it is ready."""
        assert self.process is None or self.process.poll() is not None, "still running"
        self._written_before = len(self.log)
        self.process = ForkedProcess(self.command, cwd=self.cwd, env=self.env, log=self._log_path)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Fail the test with the log when the process ends first, or takes too long."""
        assert self.process is not None, "never started"
        deadline = time.monotonic() + _START_DEADLINE_S
        while not self._ready():
            if self.process.poll() is not None:
                pytest.fail(f"interlock ended with {self.process.returncode} before it served:\n{self.log}")
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"interlock did not serve in {_START_DEADLINE_S:g} s:\n{self.log}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        if not self.serves_http:
            return "worker_ready" in self.log[self._written_before :]
        try:
            return httpx.get(f"{self.url}/ok", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, as a crash or an out-of-memory kill would; its children die as well."""
        self._signal(signal.SIGKILL)

    def terminate(self, *, deadline_s: float = _STOP_DEADLINE_S) -> int:
        """SIGTERM; waits for the end and returns the exit code."""
        return self._signal(signal.SIGTERM, deadline_s=deadline_s)

    def restart(self) -> None:
        """Start again on the same port, after a kill or in good order."""
        self.terminate()
        self.start()

    def _signal(self, number: signal.Signals, *, deadline_s: float = _STOP_DEADLINE_S) -> int:
        assert self.process is not None, "never started"
        if self.process.poll() is None:
            if number is signal.SIGKILL:
                self.process.kill_group()
            else:
                self.process.send_signal(number)
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.process.kill_group()
            self.process.wait()
            pytest.fail(
                f"interlock did not end within {deadline_s:g} s of {number.name}:\n{self.log[-5000:]}"
            )


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def prepare(
    database_url: str,
    folder: Path,
    *,
    command: str = "dev",
    project: Path = GRAPHS,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> InterlockServer:
    """A server that is not started yet. Servers of one folder share the file of noted steps."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    address = () if command in ("work", "migrate") else ("--host", "127.0.0.1", "--port", str(port))
    config = ("--config", str(project / "langgraph.json"))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return InterlockServer(
        [command, *config, *address, *_ARGUMENTS.get(command, ()), *args],
        cwd=cwd or project,
        env={
            **inherited,
            "DATABASE_URL": database_url,
            "INTERLOCK_HOME": str(folder / "home"),
            "PYTHONUNBUFFERED": "1",
            "STEP_NOTES": str(folder / "steps.txt"),
            **(env or {}),
        },
        log=folder / f"{command}-{port}.log",
        port=port,
    )


@contextmanager
def running(*servers: InterlockServer) -> Generator[None]:
    """Start them all, and end them whatever happens in between."""
    try:
        with ThreadPoolExecutor() as starters:
            list(starters.map(lambda server: server.start(), servers))
        yield
    finally:
        for server in servers:
            if server.runs:
                server.kill()


def steps(server: InterlockServer, thread_id: str) -> list[str]:
    """What the graphs noted for this thread, in order, over all servers of the folder."""
    notes = Path(server.env["STEP_NOTES"])
    if not notes.exists():
        return []
    pairs = (line.split(" ", 1) for line in notes.read_text().splitlines())
    return [text for thread, text in pairs if thread == thread_id]
