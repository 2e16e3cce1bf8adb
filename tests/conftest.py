"""Fixtures that every tier shares: Postgres, a fresh database, real server processes, the official client."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from psycopg import sql

from interlock.checkpoints.database import Database
from interlock.checkpoints.migrate import migrate
from interlock.server.embedded import EmbeddedPostgres

GRAPHS = Path(__file__).parent / "graphs"
_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 30.0
# Dozens of servers start here; each would compile all it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_OUR_VARIABLES = (
    "INTERLOCK_",
    "LANGGRAPH_",
    "LANGSMITH_",
    "LANGCHAIN_",
    "BG_JOB_",
    "PG",
    "LOG_",
    "DATABASE_",
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """One throw-away server for the session. Its own short path, since a socket's is limited."""
    directory = tempfile.mkdtemp(prefix="interlock-test-")
    settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    with EmbeddedPostgres(directory, max_connections=600, settings=settings) as server:
        yield server
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def admin(postgres: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """A connection that creates and drops databases."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template_database(postgres: EmbeddedPostgres, admin: psycopg.Connection[Any]) -> str:
    """Name of a migrated database to copy from."""
    name = "interlock_template"
    admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(postgres.url_of(name))
    return name


_numbers = itertools.count(1)


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres, admin: psycopg.Connection[Any]) -> Iterator[str]:
    """A database of this test without any schema."""
    yield from _database(postgres, admin, template="template0")


@pytest.fixture
def database_url(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """A migrated database of this test alone."""
    yield from _database(postgres, admin, template=template_database)


def _database(postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], *, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    admin.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            sql.Identifier(name), sql.Identifier(template)
        )
    )
    yield postgres.url_of(name)
    admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open pool on the database of this test."""
    async with Database(database_url, application_name="interlock-test") as opened:
        yield opened


Condition = Callable[[], Any]


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    """Wait for a condition: `row = await until(lambda: find_row(), deadline_s=5)`.

    The condition is called until what it returns, awaited if need be, is true; that is the result.
    """

    async def wait(condition: Condition, *, deadline_s: float = 10.0, every_s: float = 0.02) -> Any:
        end = time.monotonic() + deadline_s
        while True:
            result = condition()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return result
            if time.monotonic() > end:
                pytest.fail(f"not within {deadline_s:g} s: {inspect.getsource(condition).strip()}")
            await asyncio.sleep(every_s)

    return wait


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
        self.process: subprocess.Popen[bytes] | None = None
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
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "interlock.server.cli", *self.command],
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
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
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(
                f"interlock did not end within {deadline_s:g} s of {number.name}:\n{self.log[-5000:]}"
            )


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A port that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture
def interlock_server(
    request: pytest.FixtureRequest, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Callable[..., InterlockServer]]:
    """Start a server: `server = interlock_server("dev", project=folder, env={…}, args=[…])`.

    Without `database_url` it uses the database of the test. Every server is ended with the test.
    """
    started: list[InterlockServer] = []

    def start(
        command: str = "dev",
        *,
        project: Path = GRAPHS,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        database_url: str | None = None,
        wait: bool = True,
    ) -> InterlockServer:
        port = free_port()
        words = [command, "--config", str(project / "langgraph.json")]
        if command != "work":
            words += ["--host", "127.0.0.1", "--port", str(port)]
        if command == "dev":
            words += ["--no-reload", "--no-browser"]
        words += args
        clean = {k: v for k, v in os.environ.items() if not k.startswith(_OUR_VARIABLES)}
        server = InterlockServer(
            words,
            cwd=project,
            env={
                **clean,
                "DATABASE_URL": database_url or request.getfixturevalue("database_url"),
                "INTERLOCK_HOME": str(tmp_path / "home"),
                "PYTHONUNBUFFERED": "1",
                **(env or {}),
            },
            log=tmp_path / f"server-{len(started)}.log",
            port=port,
        )
        started.append(server)
        server.start(wait=wait)
        return server

    # Set up first, so that the database outlives the servers that use it.
    if "database_url" in request.fixturenames or "empty_database_url" not in request.fixturenames:
        request.getfixturevalue("database_url")
    yield start
    for server in reversed(started):
        if server.process is not None and server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()


@pytest.fixture
def server(interlock_server: Callable[..., InterlockServer]) -> InterlockServer:
    """One `interlock dev` process with the test graphs."""
    return interlock_server()


@pytest.fixture
async def client(server: InterlockServer) -> AsyncIterator[LangGraphClient]:
    """The official async client of `server`."""
    opened = get_client(url=server.url, api_key=None)
    yield opened
    await opened.aclose()
