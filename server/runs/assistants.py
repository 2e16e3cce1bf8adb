"""The rules of assistants: which graph, which configuration, which version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from ...checkpoints.database import Database
from ...tools.policy.budget import Budget, BudgetInvalid
from ..domain import Assistant
from ..errors import BadRequest, Conflicting, Invalid, NotFound
from ..records import assistants, threads
from ..records.held import Held
from ..resources import Resources
from .catalog import Catalog
from .threads import delete_in

_Count = Annotated[int, Field(strict=True, ge=1)]


class _Config(TypedDict, total=False):
    """What a run reads of a config; graphs may read more."""

    tags: list[str] | None
    recursion_limit: _Count | None
    max_concurrency: _Count | None
    configurable: dict[str, Any] | None
    metadata: dict[str, Any] | None
    budget: dict[str, Any] | None


_CONFIG = TypeAdapter(_Config)


class Tenants:
    """Gives each tenant its default assistants, once per process, before its first call."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog
        self._welcomed: set[str] = set()
        self._lock = asyncio.Lock()

    async def welcome(self, tenant_id: str) -> None:
        """Make sure that the tenant has an assistant for each graph."""
        if tenant_id in self._welcomed:
            return
        async with self._lock, self._database.transaction() as connection:
            contents = [self._catalog.default_content(graph_id) for graph_id in self._catalog.graph_ids]
            await assistants.ensure_defaults(connection, tenant_id=tenant_id, contents=contents)
        self._welcomed.add(tenant_id)


async def create(
    resources: Resources,
    *,
    tenant_id: str,
    assistant_id: UUID,
    content: assistants.Content,
    held: Held = None,
    keep_existing: bool,
) -> Assistant:
    """Make an assistant; with `keep_existing` one that has the id already, and holds this, is returned.

    Raises:
        NotFound: no such graph.
        Invalid: no run could use the config.
        BadRequest: `context` and `config.configurable` are both given.
        Conflicting: the id is taken.
    """
    require_graph(resources.catalog, content.graph_id)
    _require_usable(content.config, content.context)
    content = content.changed(mirrored(content.config, content.context))
    async with resources.database.transaction() as connection:
        made = await assistants.insert(
            connection, tenant_id=tenant_id, assistant_id=assistant_id, content=content
        )
        if made is None and keep_existing:
            made = await assistants.get(connection, tenant_id=tenant_id, assistant_id=assistant_id, held=held)
    if made is None:
        raise Conflicting(f"Assistant {assistant_id} already exists")
    return made


async def change(
    resources: Resources,
    *,
    tenant_id: str,
    assistant_id: UUID,
    changes: Mapping[str, Any],
    held: Held = None,
) -> Assistant:
    """Store the next version of an assistant; fields that are not named carry over.

    Raises:
        NotFound: no such assistant, or no such graph.
        Invalid: no run could use the config.
        BadRequest: `context` and `config.configurable` are both given.
    """
    changes = dict(changes)
    if "graph_id" in changes:
        require_graph(resources.catalog, changes["graph_id"])
    if "config" in changes or "context" in changes:
        _require_usable(changes.get("config", {}), changes.get("context", {}))
        changes |= mirrored(changes.get("config", {}), changes.get("context", {}))
    async with resources.database.transaction() as connection:
        present = await assistants.get(
            connection, tenant_id=tenant_id, assistant_id=assistant_id, held=held, lock=True
        )
        if present is None:
            raise NotFound
        content = assistants.Content.of(present).changed(changes)
        return await assistants.add_version(
            connection, tenant_id=tenant_id, assistant_id=assistant_id, content=content
        )


async def restore(
    resources: Resources, *, tenant_id: str, assistant_id: UUID, version: int, held: Held = None
) -> Assistant:
    """Return to an older version; the next change still gets a new number.

    Raises:
        NotFound: no such assistant, or it never had this version.
    """
    async with resources.database.transaction() as connection:
        restored = await assistants.restore_version(
            connection, tenant_id=tenant_id, assistant_id=assistant_id, version=version, held=held
        )
    if restored is None:
        raise NotFound(f"Version {version} not found for assistant {assistant_id}")
    return restored


def require_graph(catalog: Catalog, graph_id: str) -> None:
    """Refuse a graph that is not in the configuration."""
    if graph_id not in catalog.graph_ids:
        raise NotFound(f"Graph {graph_id!r} not found. Expected one of: {sorted(catalog.graph_ids)}")


def _require_usable(config: Mapping[str, Any], context: Mapping[str, Any]) -> None:
    """Refuse to save what would fail every run."""
    try:
        checked = _CONFIG.validate_python(config)
        Budget.from_row(checked.get("budget"))
    except ValidationError as error:
        raise Invalid("; ".join(_told(one) for one in error.errors())) from error
    except BudgetInvalid as error:
        raise Invalid(f"config: {error}") from error
    for name in (*(checked.get("configurable") or {}), *context):
        if name.startswith("__"):
            raise Invalid(f"{name!r} is a key of LangGraph's own; an assistant cannot set it")


def _told(problem: ErrorDetails) -> str:
    return f"config.{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


def mirrored(config: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """`config` and `context` saying the same: older graphs read the one, newer the other.

    Raises:
        BadRequest: both `context` and `config.configurable` are given.
    """
    configurable = config.get("configurable") or {}
    if context and configurable:
        raise BadRequest("give either `context` or `config.configurable`, not both")
    if context:
        return {"config": {**config, "configurable": dict(context)}, "context": dict(context)}
    return {"config": dict(config), "context": dict(configurable)}


async def get(resources: Resources, *, tenant_id: str, assistant_id: UUID, held: Held = None) -> Assistant:
    """Read an assistant.

    Raises:
        NotFound: no such assistant.
    """
    async with resources.database.connection() as connection:
        found = await assistants.get(connection, tenant_id=tenant_id, assistant_id=assistant_id, held=held)
    if found is None:
        raise NotFound
    return found


async def versions(
    resources: Resources,
    *,
    tenant_id: str,
    assistant_id: UUID,
    metadata: Mapping[str, Any] | None,
    limit: int,
    offset: int,
    held: Held = None,
) -> list[Assistant]:
    """Versions of an assistant, newest first.

    Raises:
        NotFound: no such assistant.
    """
    await get(resources, tenant_id=tenant_id, assistant_id=assistant_id, held=held)
    async with resources.database.connection() as connection:
        return await assistants.versions(
            connection,
            tenant_id=tenant_id,
            assistant_id=assistant_id,
            metadata=metadata,
            limit=limit,
            offset=offset,
        )


async def delete(
    resources: Resources,
    *,
    tenant_id: str,
    assistant_id: UUID,
    with_threads: bool,
    held: Held = None,
    threads_held: Held = None,
) -> None:
    """Delete an assistant with its versions and, if asked, the threads that last ran it and hold this.

    Raises:
        NotFound: no such assistant.
    """
    async with resources.database.transaction() as connection:
        if not await assistants.delete(connection, tenant_id=tenant_id, assistant_id=assistant_id, held=held):
            raise NotFound
        if with_threads:
            for thread_id in await threads.of_assistant(
                connection, tenant_id=tenant_id, assistant_id=assistant_id
            ):
                await delete_in(connection, tenant_id=tenant_id, thread_id=thread_id, held=threads_held)
