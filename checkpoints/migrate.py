"""Applies the numbered migrations in order, under an advisory lock; can also only verify."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from .database import KEEPALIVE
from .errors import SchemaMismatch, translated

_LOCK = 0x1_17E6_10C4
_LOCK_POLL_S = 0.05
_DIRECTORY = Path(__file__).parent / "migrations"
_LOCK_WAIT = "500ms"
_PAUSE_S = 0.5
_NO_TRANSACTION = "-- no transaction"
_BOOKKEEPING = """
CREATE SCHEMA IF NOT EXISTS interlock;
CREATE TABLE IF NOT EXISTS interlock.migrations (
    version int PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered SQL file; `0003_events.sql` is version 3, named `events`."""

    version: int
    name: str
    statements: str

    @property
    def transactional(self) -> bool:
        """False for a file that starts with `-- no transaction`: one CONCURRENTLY statement."""
        return not self.statements.startswith(_NO_TRANSACTION)

    @property
    def sha256(self) -> str:
        """What tells it from another one of the same number, in hex."""
        return hashlib.sha256(self.statements.encode()).hexdigest()


def available() -> list[Migration]:
    """The migrations of this release, in order."""
    found = []
    for path in sorted(_DIRECTORY.glob("[0-9]*.sql")):
        number, _, name = path.stem.partition("_")
        found.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    return found


def migrate(url: str) -> list[Migration]:
    """Bring the schema to this release and return what was applied.

    Several processes may start at once: the first one works, the others wait and find nothing to
    do. `url` must be a direct address, since the lock belongs to the session.

    Raises:
        SchemaMismatch: the database is newer than this release, or was made by an unfinished version of it.
        DatabaseUnavailable: no connection.
    """
    known = available()
    applied: list[Migration] = []
    with translated(), connected(url, "interlock-migrate") as connection:
        hold_lock(connection)
        connection.execute(_BOOKKEEPING)
        done = _applied(connection)
        _refuse_other(done, known)
        for migration in known:
            if migration.version in done:
                continue
            if migration.transactional:
                _apply_without_queueing(connection, migration)
            else:
                _apply(connection, migration)
            applied.append(migration)
    return applied


def verify(url: str) -> None:
    """Check that the schema is exactly the one of this release; change nothing.

    Raises:
        SchemaMismatch: it is older or newer; the message names the command to run.
        DatabaseUnavailable: no connection.
    """
    known = available()
    with translated(), connected(url, "interlock-verify") as connection:
        row = connection.execute("SELECT to_regclass('interlock.migrations') IS NOT NULL").fetchone()
        done = _applied(connection) if row and row[0] else {}
    _refuse_other(done, known)
    if missing := [m for m in known if m.version not in done]:
        raise SchemaMismatch(
            f"the database is {len(missing)} migration(s) behind this release, the first is "
            f"{missing[0].version:04d}_{missing[0].name}; run `interlock migrate`"
        )


def connected(url: str, name: str) -> psycopg.Connection:
    """A connection in autocommit, for changes of the schema."""
    return psycopg.connect(url, autocommit=True, application_name=name, **KEEPALIVE)


def hold_lock(connection: psycopg.Connection) -> None:
    """Wait until no other process changes the schema, and keep others out for as long as we are connected."""
    # Asked again and again: a statement that waits inside the server would be waited for in turn by an
    # index that is built concurrently.
    while connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone() != (True,):
        time.sleep(_LOCK_POLL_S)


def _apply_without_queueing(connection: psycopg.Connection, migration: Migration) -> None:
    """Apply in a transaction, and let others pass as often as a lock is not to be had at once.

    A statement that waits for an exclusive lock holds up everybody who comes after it, so one long
    reader would stop the whole server.
    """
    while True:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_WAIT,))
                _apply(connection, migration)
        except psycopg.errors.LockNotAvailable:
            time.sleep(_PAUSE_S)
        else:
            return


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    connection.execute(migration.statements.encode())
    connection.execute(
        "INSERT INTO interlock.migrations (version, name, sha256) VALUES (%s, %s, %s)",
        (migration.version, migration.name, migration.sha256),
    )


def _applied(connection: psycopg.Connection) -> dict[int, str | None]:
    """What was applied: by number, the hash; None where the database is older than the hashes."""
    rows = connection.execute("SELECT version, to_jsonb(m) ->> 'sha256' FROM interlock.migrations m")
    return dict(rows.fetchall())


def _refuse_other(done: Mapping[int, str | None], known: Sequence[Migration]) -> None:
    newest = known[-1].version
    if unknown := sorted(v for v in done if v > newest):
        raise SchemaMismatch(
            f"the database has migration {unknown[-1]:04d}, this release knows only up to {newest:04d}; "
            "install the newer release of interlock, or use another database"
        )
    for migration in known:
        if done.get(migration.version, migration.sha256) != migration.sha256:
            raise SchemaMismatch(
                f"migration {migration.version:04d}_{migration.name} of the database is not the one of this "
                "release: an unfinished version of interlock made it; use another database, or move the "
                "embedded one (`.interlock/postgres` of the project) away"
            )
