"""Migrations: many starters at once, and schemas that do not fit."""

from __future__ import annotations

import concurrent.futures
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver

from interlock.checkpoints import migrate
from interlock.checkpoints.errors import DatabaseUnavailable, SchemaMismatch
from interlock.checkpoints.saver import ThreadSaver
from interlock.server.runs import lifecycle
from interlock.server.worker.execute import execute
from interlock.server.worker.stop import Stop

from . import engine


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
        connection.execute(
            "INSERT INTO interlock.migrations (version, name, sha256) VALUES (9999, 'future', '')"
        )
    for start in (migrate.verify, migrate.migrate):
        with pytest.raises(SchemaMismatch, match="newer release"):
            start(database_url)


def test_a_database_of_an_unfinished_version_is_refused_and_left_alone(database_url: str) -> None:
    for change in (
        "UPDATE interlock.migrations SET sha256 = 'x' WHERE version = 2",
        "ALTER TABLE interlock.migrations DROP COLUMN sha256",
    ):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(change)  # type: ignore[arg-type]
        for check in (migrate.verify, migrate.migrate):
            with pytest.raises(SchemaMismatch, match=r"unfinished version .*; use another database"):
                check(database_url)


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


@pytest.mark.parametrize("older", [False, True])
async def test_tables_that_langgraph_made_before_serve_our_runs_and_still_its_own(
    empty_database_url: str, older: bool
) -> None:
    thread_id = uuid4()
    theirs: Any = {"configurable": {"thread_id": f"acme/{thread_id}", "checkpoint_ns": ""}}
    first, second = [{**empty_checkpoint(), "v": 4} for _ in range(2)]
    with PostgresSaver.from_conn_string(empty_database_url) as saver:
        saver.setup()
        for checkpoint in (second, first):
            saver.put(theirs, checkpoint, {"source": "loop"}, {})
        before = list(saver.list(theirs))
    if older:
        with psycopg.connect(empty_database_url, autocommit=True) as connection:
            connection.execute("ALTER TABLE checkpoint_writes DROP COLUMN task_path")
            connection.execute("ALTER TABLE checkpoint_blobs ALTER COLUMN blob SET NOT NULL")

    migrate.migrate(empty_database_url)

    async with engine.opened(empty_database_url) as resources:
        run = await engine.claimed(resources, await engine.start(resources))
        outcome = await execute(resources, run, Stop())
        await lifecycle.finish(resources, run, outcome)
        ended = await engine.current(resources, run)
        reader = ThreadSaver(resources.database, tenant_id="acme", thread_id=thread_id, fence=None)
        head = await reader.aget_tuple({"configurable": {"thread_id": str(thread_id)}})
    assert ended is not None
    assert ended.status == "success"
    assert head is not None
    assert head.checkpoint["id"] == second["id"]
    with PostgresSaver.from_conn_string(empty_database_url) as saver:
        saver.setup()
        assert list(saver.list(theirs)) == before
        third = empty_checkpoint()
        saver.put(theirs, third, {"source": "loop"}, {})
        assert [found.checkpoint["id"] for found in saver.list(theirs, limit=1)] == [third["id"]]


def with_one_more(monkeypatch: pytest.MonkeyPatch, statements: str) -> None:
    """Let the next release have one migration more than this one."""
    known = migrate.available()
    later = migrate.Migration(known[-1].version + 1, "later", statements)
    monkeypatch.setattr(migrate, "available", lambda: [*known, later])


@pytest.mark.parametrize(
    "statements",
    [
        "-- no transaction\nCREATE INDEX CONCURRENTLY threads_later_idx ON interlock.threads (updated_at);",
        "ALTER TABLE interlock.threads ADD COLUMN later int;",
    ],
    ids=["index", "column"],
)
def test_a_filled_table_is_read_and_written_while_a_migration_waits_for_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch, statements: str
) -> None:
    """O46."""
    with_one_more(monkeypatch, statements)
    insert = "INSERT INTO interlock.threads (tenant_id, thread_id) VALUES ('acme', gen_random_uuid())"
    with (
        psycopg.connect(database_url, autocommit=True) as writer,
        psycopg.connect(database_url) as busy,
        concurrent.futures.ThreadPoolExecutor(1) as steps,
    ):
        writer.execute(
            "INSERT INTO interlock.threads (tenant_id, thread_id)"
            " SELECT 'acme', gen_random_uuid() FROM generate_series(1, 10000)"
        )
        busy.execute(insert)  # a transaction that stays open
        migrating = steps.submit(migrate.migrate, database_url)
        while not writer.execute(
            "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE application_name = 'interlock-migrate' AND NOT granted"
        ).fetchall():
            assert not migrating.done()
        # Longer than the migration may stand in line, shorter than this transaction stays open.
        writer.execute("SET statement_timeout = '60s'")
        for _ in range(5):
            writer.execute(insert)
            writer.execute("SELECT count(*) FROM interlock.threads")
        assert not migrating.done()
        busy.commit()
        assert [one.name for one in migrating.result(60)] == ["later"]
    migrate.verify(database_url)


def test_no_migration_locks_a_table_that_an_earlier_one_made_for_the_time_of_a_scan() -> None:
    """O46."""
    made: set[str] = set()
    for migration in migrate.available():
        statements = re.sub(r"--.*", "", migration.statements)
        for index in re.finditer(r"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?\S+\s+ON (\S+)", statements):
            assert index[1] or index[2] not in made, f"{migration.name}: index on {index[2]}"
        made |= set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\S+)", statements))
