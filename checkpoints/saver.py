"""The checkpoints of one thread, for one writer: LangGraph's saver, bound and fenced.

The official Postgres saver does the work (ADR 0003). What is added: the tenant in its key, the fence in
each of its transactions, values that jsonb cannot hold, and types that may not be stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.postgres.base import PRUNE_SNAPSHOT_SQL, _keep_latest
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from .database import Connection, Database
from .errors import FenceLost
from .queries import load_queries
from .serde import StrictSerializer, json_safe

_queries = load_queries(__file__)
_PRIVATE = ("__pregel_", "langgraph_auth_")


@dataclass(frozen=True, slots=True)
class _Boxed:
    """A primitive that jsonb cannot hold: in a box, the saver keeps it with the large values."""

    value: Any


class ThreadSaver(AsyncPostgresSaver):
    """Reads and writes the checkpoints of one thread; one object for each writer.

    Args:
        database: the pool of this loop.
        tenant_id: owner of the thread.
        thread_id: the only thread it serves.
        fence: the writer's number on the thread; None for a reader, which may not write.
        serde: which types may be stored.

    Raises (by its methods):
        FenceLost: another writer has taken the thread, or this one has ended.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant_id: str,
        thread_id: UUID,
        fence: int | None,
        serde: StrictSerializer | None = None,
    ) -> None:
        super().__init__(cast("Any", database.pool), serde=serde or StrictSerializer())
        self._database = database
        self._key = {"tenant_id": tenant_id, "thread_id": thread_id, "fence": fence}
        self._thread_id = str(thread_id)
        self._stored = _stored(tenant_id, thread_id)
        self._writes = _Writes()

    async def settle(self) -> None:
        """Wait until every write that was begun has committed or failed."""
        await self._writes.settle()

    def poison(self, error: Exception) -> None:
        """Let no further write pass; each fails with `error`."""
        self._writes.poison = error

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """One checkpoint; the newest without an id."""
        found = await super().aget_tuple(self._inward(config))
        return self._outward(found) if found is not None else None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the base class names it
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints of the thread, newest first."""
        here: RunnableConfig = (
            config if config is not None else {"configurable": {"thread_id": self._thread_id}}
        )
        async for found in super().alist(self._inward(here), filter=filter, before=before, limit=limit):
            yield self._outward(found)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint."""
        values = {channel: _boxed(value) for channel, value in checkpoint["channel_values"].items()}
        stored = cast("Checkpoint", {**checkpoint, "channel_values": values})
        told = get_serializable_checkpoint_metadata(config, metadata)
        public = {key: value for key, value in told.items() if not key.startswith(_PRIVATE)}
        inward = self._inward(config)
        place: RunnableConfig = {
            "configurable": {k: inward["configurable"][k] for k in _PLACE if k in inward["configurable"]}
        }
        with self._writes.begun():
            written = await super().aput(place, stored, json_safe(public), new_versions)
        return self._with_thread(written, self._thread_id)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a node wrote."""
        with self._writes.begun():
            await super().aput_writes(self._inward(config), writes, task_id, task_path)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        """What delta channels are rebuilt from."""
        return await super().aget_delta_channel_history(config=self._inward(config), channels=channels)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self.lock, self._database.connection() as connection:
            if not pipeline:
                async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
                    yield cursor
                return
            if self._key["fence"] is None:
                raise FenceLost("this saver only reads")
            async with connection.pipeline(), connection.transaction():
                await connection.execute(_queries.hold_fence, self._key)
                async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
                    yield cursor

    def _dump_blobs(
        self, thread_id: str, checkpoint_ns: str, values: dict[str, Any], versions: ChannelVersions
    ) -> list[tuple[str, str, str, str, str, bytes | None]]:
        plain = {channel: v.value if isinstance(v, _Boxed) else v for channel, v in values.items()}
        return super()._dump_blobs(thread_id, checkpoint_ns, plain, versions)

    def _inward(self, config: RunnableConfig) -> RunnableConfig:
        asked = config.get("configurable", {}).get("thread_id", self._thread_id)
        if str(asked) != self._thread_id:
            raise FenceLost(f"this saver serves thread {self._thread_id}, not {asked!r}")
        return self._with_thread(config, self._stored)

    def _outward(self, found: CheckpointTuple) -> CheckpointTuple:
        parent = found.parent_config
        return found._replace(
            config=self._with_thread(found.config, self._thread_id),
            parent_config=self._with_thread(parent, self._thread_id) if parent else None,
        )

    @staticmethod
    def _with_thread(config: RunnableConfig, thread_id: str) -> RunnableConfig:
        configurable = {"checkpoint_ns": "", **config.get("configurable", {}), "thread_id": thread_id}
        return cast("RunnableConfig", {**config, "configurable": configurable})


_PLACE = ("thread_id", "checkpoint_ns", "checkpoint_id")


class _Writes:
    """Writes under way. LangGraph copies a saver to narrow its types; this object they share."""

    def __init__(self) -> None:
        self.poison: Exception | None = None
        self._open: set[asyncio.Future[None]] = set()

    def begun(self) -> _Write:
        if self.poison is not None:
            raise self.poison
        return _Write(self._open)

    async def settle(self) -> None:
        if self._open:
            await asyncio.wait(set(self._open))


class _Write:
    def __init__(self, others: set[asyncio.Future[None]]) -> None:
        self._others = others
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> None:
        self._others.add(self._done)

    def __exit__(self, *exc: object) -> None:
        self._others.discard(self._done)
        self._done.set_result(None)


async def delete_thread_in(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """Remove all checkpoints of a thread, inside the caller's transaction."""
    stored = {"stored": _stored(tenant_id, thread_id)}
    for statement in (
        _queries.delete_thread_checkpoints,
        _queries.delete_thread_blobs,
        _queries.delete_thread_writes,
    ):
        await connection.execute(statement, stored)


async def delete_runs_in(
    connection: Connection, *, tenant_id: str, thread_id: UUID, run_ids: Sequence[UUID]
) -> None:
    """Remove the checkpoints that runs made, inside the caller's transaction."""
    await connection.execute(
        _queries.delete_runs,
        {"stored": _stored(tenant_id, thread_id), "run_ids": [str(run_id) for run_id in run_ids]},
    )


async def copy_thread_in(
    connection: Connection, *, tenant_id: str, thread_id: UUID, new_thread_id: UUID
) -> None:
    """Copy all checkpoints of a thread to another one, inside the caller's transaction."""
    parameters = {
        "stored": _stored(tenant_id, thread_id),
        "new_stored": _stored(tenant_id, new_thread_id),
        "new_thread_id": str(new_thread_id),
    }
    for statement in (_queries.copy_checkpoints, _queries.copy_blobs, _queries.copy_writes):
        await connection.execute(statement, parameters)


async def keep_latest_in(connection: Connection, *, tenant_id: str, thread_id: UUID) -> None:
    """Remove all but the newest checkpoint of each namespace; the caller's transaction holds the thread."""
    statements = _keep_latest(_stored(tenant_id, thread_id))
    rows: list[DictRow] | None = None
    async with connection.cursor(binary=True, row_factory=dict_row) as cursor:
        while True:
            try:
                sql, parameters, returns = statements.send(cast("Any", rows))
            except StopIteration:
                return
            rows = []
            if sql == PRUNE_SNAPSHOT_SQL:
                continue
            await cursor.execute(sql.encode(), parameters)
            if returns:
                rows = await cursor.fetchall()


def _boxed(value: Any) -> Any:
    if isinstance(value, str) and type(value) is not str:
        return _Boxed(value)
    if isinstance(value, (str, int, float)) and json_safe(value) != value:
        return _Boxed(value)
    return value


def _stored(tenant_id: str, thread_id: UUID) -> str:
    """The official saver's `thread_id`."""
    return f"{tenant_id}/{thread_id}"
