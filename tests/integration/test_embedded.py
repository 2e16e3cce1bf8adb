from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from interlock.server.embedded import EmbeddedPostgres
from interlock.server.supervisor import Cluster, EmbeddedPostgresError, binaries

from ..servers import free_port

Until = Callable[..., Awaitable[Any]]


@pytest.fixture
def new_directory() -> Iterator[Path]:
    """Nothing yet. A short path, since a socket's is limited."""
    path = Path(tempfile.mkdtemp(prefix="interlock-pg-"))
    yield path / "data"
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """The files of a stopped server, to copy from."""
    path = Path(tempfile.mkdtemp(prefix="interlock-pg-"))
    with EmbeddedPostgres(path / "data"):
        pass
    wait_for_end(path / "data")
    yield path / "data"
    shutil.rmtree(path)


@pytest.fixture
def directory(cluster: Path, new_directory: Path) -> Path:
    """A directory whose server ran before."""
    shutil.copytree(cluster, new_directory, ignore=shutil.ignore_patterns("run"))
    return new_directory


def wait_for_end(directory: Path) -> None:
    """Waits as a new user does while the supervisor stops the server."""
    with (directory / "supervisor.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def answer(url: str, query: str = "SELECT 1") -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def holder(directory: Path) -> subprocess.Popen[str]:
    """Another process that uses the server; it is up once its line is read."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "interlock.server.embedded", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql://")
    return process


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


def supervisor_of(directory: Path) -> int:
    postmaster = Cluster(directory).running_pid()
    return int(Path(f"/proc/{postmaster}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_it_starts_with_pgvector_and_keeps_its_rows(directory: Path) -> None:
    with EmbeddedPostgres(directory) as postgres:
        assert postgres.has_vector
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("CREATE TABLE kept AS SELECT '[1,2]'::vector AS v")
    with EmbeddedPostgres(directory) as postgres:
        assert answer(postgres.url, "SELECT v::text FROM kept") == "[1,2]"


def test_settings_reach_the_server(directory: Path) -> None:
    with EmbeddedPostgres(directory, max_connections=321, settings={"work_mem": "7MB"}) as postgres:
        assert answer(postgres.url, "SHOW max_connections") == "321"
        assert answer(postgres.url, "SHOW work_mem") == "7MB"


def test_its_files_are_closed_to_others(directory: Path) -> None:
    with EmbeddedPostgres(directory):
        for path in (directory, directory / "run", directory / "pg"):
            assert path.stat().st_mode & 0o077 == 0


async def test_it_ends_when_nobody_is_left(directory: Path, until: Until) -> None:
    first, second = EmbeddedPostgres(directory), holder(directory)
    first.start()
    first.release()
    assert answer(first.url) == 1
    end(second)
    await until(lambda: first.postmaster_pid is None)


def test_four_starters_at_once_share_one_server(new_directory: Path) -> None:
    command = [sys.executable, "-P", "-m", "interlock.server.embedded", str(new_directory)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    urls = {process.stdout.readline().strip() for process in starters if process.stdout}
    assert len(urls) == 1
    assert answer(urls.pop()) == 1
    for process in starters:
        end(process)


async def test_a_killed_postmaster_comes_back_under_its_users(directory: Path, until: Until) -> None:
    with EmbeddedPostgres(directory) as postgres:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        killed = postgres.postmaster_pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)

        def back() -> Any:
            try:
                return answer(postgres.url, "SELECT n FROM kept")
            except psycopg.OperationalError:
                return None

        assert await until(back) == 7
        assert postgres.postmaster_pid != killed


def test_a_start_after_the_supervisor_was_killed_does_not_take_the_dying_server(
    directory: Path,
) -> None:
    with EmbeddedPostgres(directory) as first:
        os.kill(supervisor_of(directory), signal.SIGKILL)
        with EmbeddedPostgres(directory) as second:
            assert answer(second.url) == 1
            assert supervisor_of(directory) != 1
    assert first.url == second.url


async def test_a_killed_user_and_supervisor_leave_nothing_behind(directory: Path, until: Until) -> None:
    user = holder(directory)
    supervisor = supervisor_of(directory)
    end(user)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: Cluster(directory).running_pid() is None)


def test_a_pid_file_that_names_a_stranger_is_stale(directory: Path) -> None:
    """What a power cut leaves behind, when the number is meanwhile another process's: ours."""
    stale = [str(os.getpid()), str(directory / "pg"), "1", "5432", str(directory / "run"), "", "1 1", "ready"]
    (directory / "pg" / "postmaster.pid").write_text("\n".join(stale) + "\n")
    with EmbeddedPostgres(directory) as postgres:
        assert answer(postgres.url) == 1
        assert postgres.postmaster_pid not in (None, os.getpid())


def test_a_half_done_initdb_is_done_again(new_directory: Path) -> None:
    (new_directory / "pg.new").mkdir(parents=True)
    (new_directory / "pg.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(new_directory) as postgres:
        assert answer(postgres.url) == 1


def test_files_of_another_major_version_are_refused_untouched(directory: Path) -> None:
    (directory / "pg" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedPostgresError, match=r"was made by Postgres 12, the binaries are"):
        EmbeddedPostgres(directory).start()
    assert (directory / "pg" / "base").exists()


def test_a_setting_that_postgres_refuses_is_told_with_its_log(directory: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        EmbeddedPostgres(directory, settings={"no_such_setting": "1"}).start()


def test_missing_binaries_are_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv("PG_BIN", "/nonexistent")
    assert binaries() == Path("/nonexistent")
    with pytest.raises(EmbeddedPostgresError, match="/nonexistent"):
        EmbeddedPostgres(directory).start()


def test_variables_of_another_postgres_do_not_redirect_it(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    with EmbeddedPostgres(directory) as postgres:
        assert postgres.has_vector


def test_a_long_path_gets_its_socket_elsewhere(new_directory: Path) -> None:
    deep = new_directory / ("d" * 60) / ("e" * 60)
    with EmbeddedPostgres(deep) as postgres:
        assert answer(postgres.url) == 1


def test_with_a_port_it_asks_for_the_password(directory: Path) -> None:
    port = free_port()
    with EmbeddedPostgres(directory, tcp_port=port) as postgres:
        assert answer(postgres.url) == 1
        password = (directory / "password").read_text()
        assert answer(f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres") == 1
        with pytest.raises(psycopg.OperationalError, match="password"):
            answer(f"postgresql://postgres:wrong@127.0.0.1:{port}/postgres")


# Only root needs another user for Postgres; elsewhere there is nothing to test.
if os.geteuid() == 0:

    def test_without_user_namespaces_root_uses_another_user(
        monkeypatch: pytest.MonkeyPatch, new_directory: Path, tmp_path: Path
    ) -> None:
        directory = new_directory
        (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "unshare").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        directory.parent.chmod(0o755)
        with EmbeddedPostgres(directory) as postgres:
            assert answer(postgres.url) == 1
            assert (directory / "pg").stat().st_uid != 0
        wait_for_end(directory)
        monkeypatch.undo()
        with EmbeddedPostgres(directory) as postgres:
            assert answer(postgres.url) == 1, "the files stay with their owner where namespaces work again"
