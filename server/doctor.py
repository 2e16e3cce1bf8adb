"""Looks at everything that a server needs and says what is wrong."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..checkpoints import migrate, vector_index
from ..checkpoints.database import Database
from ..checkpoints.errors import DatabaseError
from ..checkpoints.queries import load_queries
from .runs.catalog import CatalogError, load_catalog
from .runs.embedding import load_index
from .runs.project import Project
from .settings import Settings, masked
from .sockets import bound_socket

_OLDEST_POSTGRES = 15
_CLOCK_DIFFERENCE_S = 2.0
_QUERIES = load_queries(__file__)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    subject: str
    ok: bool
    detail: str
    """What was found, and if it is wrong, what to do."""
    needed: bool = True
    """Whether a server cannot do without it; what it can do without is worth a warning only."""

    @property
    def verdict(self) -> str:
        """In one word of four letters."""
        if self.ok:
            return "ok  "
        return "FAIL" if self.needed else "warn"


def examine(settings: Settings, project: Project) -> Iterator[Finding]:
    """Run every check; a failing one does not stop the others."""
    yield Finding("python", sys.version_info >= (3, 11), sys.version.split()[0])
    yield from _project(settings, project)
    yield from asyncio.run(_database(settings))
    yield _migrations(settings)
    yield _store_index(settings, project)
    yield _port(settings)


def _project(settings: Settings, project: Project) -> Iterator[Finding]:
    changed = len(settings.sources)
    yield Finding(
        "config", not project.warnings, "; ".join(project.warnings) or f"{changed} settings changed"
    )
    for key in project.unsupported:
        yield Finding("config", settings.unsupported_keys == "warn", f"`{key}` is not supported")
    try:
        catalog = load_catalog(project, on_failure="serve_rest")
    except CatalogError as error:
        yield from (Finding("graph", False, line) for line in str(error).splitlines())
        return
    for graph_id in catalog.graph_ids:
        yield Finding("graph", True, graph_id)
    for failure in catalog.failures.values():
        yield Finding("graph", False, str(failure))


async def _database(settings: Settings) -> list[Finding]:
    address = masked(settings.database.url)
    try:
        async with Database(settings.database.url, max_size=1, deadline_s=5.0) as database:
            before = time.time()
            found = await database.fetch_one(_QUERIES.examine)
            after = time.time()
    except DatabaseError as error:
        return [Finding("database", False, f"{address}: {error}")]
    assert found is not None
    return [*_server(found, address), _clock(found["clock"], before, after)]


def _server(found: Mapping[str, object], address: str) -> Iterator[Finding]:
    new_enough = int(str(found["major"])) >= _OLDEST_POSTGRES
    advice = "" if new_enough else f"; Postgres {_OLDEST_POSTGRES} or newer is needed"
    yield Finding("database", new_enough, f"Postgres {found['version']} at {address}{advice}")
    if found["read_only"]:
        yield Finding("database", False, "it is a read-only replica; give the address of the primary")
    vector = found["vector"]
    yield Finding(
        "pgvector",
        vector is not None,
        str(vector or "the extension `vector` cannot be had there; search by meaning will not work"),
        needed=False,
    )


def _clock(theirs: float, before: float, after: float) -> Finding:
    difference = max(before - theirs, theirs - after, 0.0)
    advice = "; leases and budgets need one time, set up NTP" if difference > _CLOCK_DIFFERENCE_S else ""
    return Finding(
        "clock", difference <= _CLOCK_DIFFERENCE_S, f"{difference:.3f} s from the database's{advice}"
    )


def _migrations(settings: Settings) -> Finding:
    try:
        migrate.verify(settings.database.direct_url)
    except DatabaseError as error:
        return Finding("migrations", False, str(error))
    return Finding("migrations", True, f"up to {migrate.available()[-1].version:04d}")


def _store_index(settings: Settings, project: Project) -> Finding:
    wanted = settings.store.index
    try:
        index = load_index(project, wanted)
        if index is None:
            return Finding("store.index", True, "none; the store does not search by meaning")
        vector_index.verify(settings.database.direct_url, index.spec)
    except (CatalogError, DatabaseError) as error:
        # What nobody has asked for is used where it can be had.
        return Finding("store.index", False, str(error), needed=wanted.embed != "auto")
    return Finding("store.index", True, f"{index.spec.model} for {', '.join(index.spec.fields)}")


def _port(settings: Settings) -> Finding:
    address = f"{settings.http.host}:{settings.http.port}"
    try:
        bound_socket(settings.http.host, settings.http.port).close()
    except OSError as error:
        return Finding("port", False, f"{error.strerror}; choose another with `--port`")
    return Finding("port", True, f"{address} is free")
