"""Migrations: many starters at once, and schemas that do not fit."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

import psycopg
import pytest

from interlock.checkpoints import migrate
from interlock.checkpoints.errors import DatabaseUnavailable, SchemaMismatch


def test_eight_starters_at_once_all_succeed_and_one_does_the_work(empty_database_url: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as starters:
        applied = list(starters.map(migrate.migrate, [empty_database_url] * 8))
    assert sorted(len(done) for done in applied) == [0] * 7 + [len(migrate.available())]
    migrate.verify(empty_database_url)


def test_an_empty_database_is_refused_with_the_command_to_run(empty_database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="interlock migrate"):
        migrate.verify(empty_database_url)


def test_a_half_migrated_database_is_refused_until_the_rest_is_applied(database_url: str) -> None:
    last = migrate.available()[-1]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM interlock.migrations WHERE version = %s", (last.version,))
    with pytest.raises(SchemaMismatch, match=last.name):
        migrate.verify(database_url)


def test_a_newer_database_is_refused_and_left_alone(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO interlock.migrations (version, name) VALUES (9999, 'future')")
    for start in (migrate.verify, migrate.migrate):
        with pytest.raises(SchemaMismatch, match="newer release"):
            start(database_url)


def test_a_failing_migration_leaves_nothing_of_itself(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = migrate.available()[0]
    broken = migrate.Migration(2, "broken", "CREATE TABLE interlock.half (a int); SELECT no_such_function();")
    monkeypatch.setattr(migrate, "available", lambda: [good, broken])
    with pytest.raises(Exception, match="no_such_function"):
        migrate.migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('interlock.half')").fetchone() == (None,)
        assert connection.execute("SELECT version FROM interlock.migrations").fetchall() == [(1,)]


def test_a_foreign_migration_setup_in_the_working_folder_is_not_picked_up(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "0001_theirs.sql").write_text("CREATE TABLE theirs (a int);")
    monkeypatch.chdir(tmp_path)
    migrate.migrate(empty_database_url)
    assert Path.cwd() == tmp_path
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('theirs')").fetchone() == (None,)


def test_every_ssl_mode_of_libpq_is_understood(database_url: str) -> None:
    separator = "&" if "?" in database_url else "?"
    for mode in ("disable", "allow", "prefer"):
        migrate.verify(f"{database_url}{separator}sslmode={mode}")


def test_an_unreachable_database_is_named_as_such() -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
        migrate.migrate("postgresql://nobody@127.0.0.1:1/none")
