"""Migrations: many starters at once, and schemas that do not fit."""

from __future__ import annotations

import concurrent.futures
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
