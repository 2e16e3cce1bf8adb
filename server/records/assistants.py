"""Assistant rows and their versions. Functions take a connection and never commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple
from uuid import UUID

from ...checkpoints.database import Connection, jsonb
from ...checkpoints.queries import load_queries
from ...checkpoints.sealed import sealed_json
from ..domain import Assistant, default_assistant_id
from .held import Held, held_parameter
from .paging import Page, counted, fetch_one

_QUERIES = load_queries(__file__)

AssistantOrder = Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a version of an assistant holds."""

    graph_id: str
    name: str = "Untitled"
    description: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, assistant: Assistant) -> Content:
        """The present content of an assistant."""
        return cls(**{name: getattr(assistant, name) for name in cls.__dataclass_fields__})

    def changed(self, changes: Mapping[str, Any]) -> Content:
        """The same with some fields replaced; `metadata` is merged one level deep."""
        merged = dict(changes)
        if "metadata" in merged:
            merged["metadata"] = {**self.metadata, **merged["metadata"]}
        return replace(self, **merged)

    def columns(self, *, own: bool = False) -> dict[str, Any]:
        """Parameters of the statements that store it; what is the project's `own` is not encrypted."""
        kept: dict[str, Any] = {
            name: jsonb(value) if own else sealed_json("assistant", name, value)
            for name, value in (
                ("config", self.config),
                ("context", self.context),
                ("metadata", self.metadata),
            )
        }
        return {
            "graph_id": self.graph_id,
            "name": self.name,
            "description": self.description,
            **kept,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantFilter:
    """Which assistants of a tenant; a field that is None asks for nothing."""

    graph_id: str | None = None
    name: str | None = None
    """Part of the name, in any case."""
    metadata: Mapping[str, Any] | None = None
    held: Held = None
    """What the metadata must hold besides, for whoever asks."""

    def parameters(self, tenant_id: str) -> dict[str, Any]:
        """Parameters of the statements that filter."""
        return {
            "tenant_id": tenant_id,
            "graph_id": self.graph_id,
            "name": self.name,
            "metadata": jsonb(self.metadata) if self.metadata else None,
            "held": held_parameter(self.held),
        }


class Assistants(NamedTuple):
    """One page of assistants, and how many match in all."""

    assistants: list[Assistant]
    total: int


async def insert(
    connection: Connection, *, tenant_id: str, assistant_id: UUID, content: Content, own: bool = False
) -> Assistant | None:
    """Make an assistant with version 1, a client's or one of the project's `own`; None if the id is taken."""
    row = await fetch_one(
        connection,
        _QUERIES.insert_assistant,
        {"tenant_id": tenant_id, "assistant_id": assistant_id, **content.columns(own=own)},
    )
    return Assistant.from_row(row) if row else None


async def ensure_defaults(connection: Connection, *, tenant_id: str, contents: Iterable[Content]) -> None:
    """Give a tenant the assistant that each graph has by itself; existing ones stay as they are."""
    for content in contents:
        assistant_id = default_assistant_id(content.graph_id)
        await insert(connection, tenant_id=tenant_id, assistant_id=assistant_id, content=content, own=True)


async def get(
    connection: Connection, *, tenant_id: str, assistant_id: UUID, held: Held = None, lock: bool = False
) -> Assistant | None:
    """Read an assistant; with `lock` its row is held until the transaction ends."""
    statement = _QUERIES.lock_assistant if lock else _QUERIES.get_assistant
    parameters = {"tenant_id": tenant_id, "assistant_id": assistant_id, "held": held_parameter(held)}
    row = await fetch_one(connection, statement, parameters)
    return Assistant.from_row(row) if row else None


async def add_version(
    connection: Connection, *, tenant_id: str, assistant_id: UUID, content: Content
) -> Assistant:
    """Store content as the next version. The row must be locked."""
    row = await fetch_one(
        connection,
        _QUERIES.add_version,
        {"tenant_id": tenant_id, "assistant_id": assistant_id, **content.columns()},
    )
    assert row is not None
    return Assistant.from_row(row)


async def restore_version(
    connection: Connection, *, tenant_id: str, assistant_id: UUID, version: int, held: Held = None
) -> Assistant | None:
    """Make an older version the present one; None when it does not exist."""
    row = await fetch_one(
        connection,
        _QUERIES.restore_version,
        {
            "tenant_id": tenant_id,
            "assistant_id": assistant_id,
            "version": version,
            "held": held_parameter(held),
        },
    )
    return Assistant.from_row(row) if row else None


async def delete(connection: Connection, *, tenant_id: str, assistant_id: UUID, held: Held = None) -> bool:
    """Delete an assistant and its versions; False when there was none."""
    parameters = {"tenant_id": tenant_id, "assistant_id": assistant_id, "held": held_parameter(held)}
    return await fetch_one(connection, _QUERIES.delete_assistant, parameters) is not None


async def versions(
    connection: Connection,
    *,
    tenant_id: str,
    assistant_id: UUID,
    metadata: Mapping[str, Any] | None,
    limit: int,
    offset: int,
) -> list[Assistant]:
    """Versions of an assistant, newest first."""
    cursor = await connection.execute(
        _QUERIES.list_versions,
        {
            "tenant_id": tenant_id,
            "assistant_id": assistant_id,
            "metadata": jsonb(metadata) if metadata else None,
            "limit": limit,
            "offset": offset,
        },
    )
    return [Assistant.from_row(row) for row in await cursor.fetchall()]


async def search(connection: Connection, *, tenant_id: str, where: AssistantFilter, page: Page) -> Assistants:
    """One page of the assistants that match."""
    rows, total = await page.read(
        connection,
        _QUERIES,
        search=_QUERIES.search_assistants,
        count=_QUERIES.count_assistants,
        where=where.parameters(tenant_id),
    )
    return Assistants([Assistant.from_row(row) for row in rows], total)


async def count(connection: Connection, *, tenant_id: str, where: AssistantFilter) -> int:
    """How many assistants match."""
    return await counted(connection, _QUERIES.count_assistants, where.parameters(tenant_id))
