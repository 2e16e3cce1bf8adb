"""Errors of the database floor. Driver exceptions are translated here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolTimeout

FENCE_SQLSTATE = "IL001"
"""Raised by `interlock.hold_fence` when the caller is no longer the writer of the thread."""


class DatabaseError(Exception):
    """The database refused or failed a statement."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached right now; the same call may succeed later."""


class ConnectionEnded(DatabaseUnavailable):
    """The server ended the connection and did nothing of the statement; it may be sent again."""


class FenceLost(DatabaseError):
    """Another writer holds this thread now; nothing of this call was stored. Stop."""


class Conflict(DatabaseError):
    """A unique key is taken."""

    def __init__(self, message: str, *, constraint: str | None = None) -> None:
        super().__init__(message)
        self.constraint = constraint


class SealingFailed(DatabaseError):
    """The project's encryption handlers failed; nothing was stored."""

    def __init__(self, message: str, *, status: int = 500) -> None:
        super().__init__(message)
        self.status = status
        """As which HTTP status a client is told."""


class SchemaMismatch(DatabaseError):
    """The database schema is older or newer than this release."""


# The driver counts these as failures of the server, but the same statement will fail again: a row too
# wide for its index, a statement too deep.
_REFUSALS = (
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
    psycopg.errors.TooManyColumns,
    psycopg.errors.TooManyArguments,
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn a driver exception into one of ours, keeping it as the cause."""
    try:
        yield
    except psycopg.errors.AdminShutdown as error:
        raise ConnectionEnded(f"the database cannot be reached: {error}") from error
    except _REFUSALS as error:
        raise DatabaseError(str(error)) from error
    except (
        PoolTimeout,
        psycopg.OperationalError,
        psycopg.InterfaceError,
        psycopg.errors.ReadOnlySqlTransaction,
    ) as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error}") from error
    except psycopg.errors.UniqueViolation as error:
        raise Conflict(str(error), constraint=error.diag.constraint_name) from error
    except psycopg.Error as error:
        if error.sqlstate == FENCE_SQLSTATE:
            raise FenceLost(error.diag.message_primary or str(error)) from error
        raise DatabaseError(str(error)) from error
