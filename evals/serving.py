"""A server for one evaluation: its own process, its own fresh database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_START_DEADLINE_S = 120.0
_STOP_DEADLINE_S = 30.0
_DATABASE_VARIABLES = ("DATABASE_", "POSTGRES_", "INTERLOCK_DATABASE_", "INTERLOCK_HOME")


class ServerFailed(Exception):
    """The server did not start; the message has the end of its log."""


@contextmanager
def served(config: Path) -> Iterator[str]:
    """Serve the graphs of a langgraph.json for the time of an evaluation; yields the address.

    The database is a new, embedded one: cases must not meet what somebody has in theirs.

    Raises:
        ServerFailed: it ended or did not answer in time.
    """
    with tempfile.TemporaryDirectory(prefix="interlock-eval-") as home:
        log = Path(home) / "server.log"
        port = _free_port()
        environ = {k: v for k, v in os.environ.items() if not k.startswith(_DATABASE_VARIABLES)}
        command = [sys.executable, "-P", "-m", "interlock.server.cli", "dev", "--config", str(config)]
        command += ["--host", "127.0.0.1", "--port", str(port), "--no-reload", "--no-browser"]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command; no argument comes from a request
                command,
                env={**environ, "INTERLOCK_HOME": home},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_served(process, url, log)
            yield url
        finally:
            _stop(process)


def _wait_until_served(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while not _answers(url):
        if process.poll() is not None:
            raise ServerFailed(f"the server ended with {process.returncode}:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"the server did not answer in {_START_DEADLINE_S:g} s:\n{_end_of(log)}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ok", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
