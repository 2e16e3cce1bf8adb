"""Real `interlock` processes that a whole module shares, and what their graphs noted."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from ..conftest import GRAPHS, InterlockServer

_OURS = ("INTERLOCK_", "LANG", "BG_JOB_", "PG", "LOG_", "DATABASE_")
_ARGUMENTS: Mapping[str, Sequence[str]] = {"dev": ("--no-reload", "--no-browser")}


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
    address = () if command == "work" else ("--host", "127.0.0.1", "--port", str(port))
    config = ("--config", str(project / "langgraph.json"))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
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
            if server.process is not None and server.process.poll() is None:
                os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()


def steps(server: InterlockServer, thread_id: str) -> list[str]:
    """What the graphs noted for this thread, in order, over all servers of the folder."""
    notes = Path(server.env["STEP_NOTES"])
    if not notes.exists():
        return []
    pairs = (line.split(" ", 1) for line in notes.read_text().splitlines())
    return [text for thread, text in pairs if thread == thread_id]
