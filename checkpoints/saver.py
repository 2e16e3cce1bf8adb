"""The checkpoint saver of one thread: bound to it, fenced, in the tables of LangGraph's Postgres saver.

Reading is the stock saver's, but for the order of checkpoints; writing is ours: each statement proves
the fence.
"""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.postgres.base import PRUNE_STRATEGIES
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.pregel import Pregel
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from .database import Database, jsonb
from .memory import Memory
from .queries import load_queries
from .retry import persistently
from .serde import StrictSerializer, UnknownType, serializer_of
from .thread_writer import ChannelValue, CheckpointRow, TaskWrite, ThreadWriter, WrongThread, json_safe

__all__ = ["ThreadSaver", "WrongThread", "public"]

_QUERIES = load_queries(__file__)

_SENDS_ARE_VALUES = 4
"""The version of checkpoints from which on they hold what was sent as the value of a channel."""
_LONGEST_INLINE = 2_000
_PRIVATE = ("__pregel_", "langgraph_auth_")


def public(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only the graph may see: who is asking, and LangGraph's own wiring.

    LangGraph copies these from `configurable` into metadata, where clients would see them.
    """
    return {key: value for key, value in fields.items() if not key.startswith(_PRIVATE)}


class ThreadSaver(AsyncPostgresSaver):
    """Saves and loads the checkpoints of one thread, for one writer.

    It refuses every other thread, so neither tenant nor fence can be forged through `configurable`.
    Each run gets its own, cheap to make. Without a fence it only reads.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant_id: str,
        thread_id: UUID,
        fence: int | None,
        run_id: UUID | None = None,
        serde: StrictSerializer | None = None,
    ) -> None:
        super().__init__(cast("Any", database.pool), serde=serde or StrictSerializer())
        self._database = database
        self._thread_id = str(thread_id)
        # Shared by the clones that LangGraph makes of a saver.
        self._writer = ThreadWriter(
            database, tenant_id=tenant_id, thread_id=thread_id, fence=fence, run_id=run_id
        )
        self._memory = Memory()
        self._apart: set[tuple[str, str, str]] = set()
        """Namespace, channel and version of values that were stored apart by this saver."""

    def for_graph(self, graph: Pregel) -> ThreadSaver:
        """The same saver, for the types in the schemas of a graph as well."""
        clone = copy.copy(self)
        clone.serde = serializer_of(graph)
        return clone

    def poison(self, error: BaseException) -> None:
        """Make every later write raise `error`: somebody else holds the thread now."""
        self._writer.fail(error)

    async def settle(self) -> None:
        """Wait until everything written so far has committed.

        Raises:
            DatabaseError: one of the writes has failed.
        """
        await self._writer.settle()

    async def has_checkpoint_of(self, run_id: UUID) -> bool:
        """Whether a run has already saved a step of its own."""
        parameters = {"key": self._writer.key, "run_id": str(run_id)}
        row = await persistently(lambda: self._database.fetch_one(_QUERIES.run_has_checkpoint, parameters))
        return row is not None

    async def preload(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load a checkpoint that the graph will ask for next, and keep it until then.

        What is returned is what the graph gets, so it is not to be changed.
        """
        found = await self.aget_tuple(config)
        self._memory.preloaded = (self._place(config), found)
        return found

    def version_of(self, channel: str, value: Any) -> str | None:
        """Version of a channel in the newest root checkpoint, if this very object was saved there."""
        return self._memory.version_of(channel, value)

    def serve_head(self) -> None:
        """From now on answer for the newest checkpoint from memory: the run has ended."""
        self._memory.serves_head = True

    # --- writing -------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint, after all writes that were begun before it.

        Raises:
            FenceLost: another writer holds the thread.
            UnknownType: a channel holds what may not be stored.
        """
        place = self._place(config)
        ns: str = place["checkpoint_ns"]
        told = get_serializable_checkpoint_metadata(config, metadata)
        sealer = self._database.sealer
        inline, apart = _split(checkpoint["channel_values"], seals=sealer is not None and sealer.seals_blobs)
        values = [
            ChannelValue(ns, channel, version, *self._dumped(channel, apart[channel]))
            for channel, version in self._unsaved(ns, checkpoint, new_versions)
            if channel in apart
        ]
        row = CheckpointRow(
            ns=ns,
            checkpoint_id=checkpoint["id"],
            parent_id=place.get("checkpoint_id"),
            checkpoint={**checkpoint, "channel_values": inline},
            metadata=json_safe(public(told)),
        )
        self._memory.saved(row, checkpoint)
        await self._writer.put(row, values)
        return {
            "configurable": {
                "thread_id": place["thread_id"],
                "checkpoint_ns": ns,
                "checkpoint_id": checkpoint["id"],
            }
        }

    def _unsaved(
        self, ns: str, checkpoint: Checkpoint, new_versions: ChannelVersions
    ) -> list[tuple[str, str]]:
        """Channels whose value may not be stored apart yet, with their versions.

        An earlier checkpoint may have held it in its own row, before the project had its values encrypted.
        """
        sealer = self._database.sealer
        changed = {channel: str(version) for channel, version in new_versions.items()}
        if sealer is None or not sealer.seals_blobs:
            return list(changed.items())
        every = {channel: str(version) for channel, version in checkpoint["channel_versions"].items()}
        fresh = [key for key in (every | changed).items() if (ns, *key) not in self._apart]
        self._apart.update((ns, *key) for key in fresh)
        return fresh

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task wrote on top of a checkpoint.

        Raises:
            FenceLost: another writer holds the thread.
            UnknownType: it wrote what may not be stored.
        """
        place = self._place(config)
        at = (place["checkpoint_ns"], place["checkpoint_id"], task_id, task_path)
        try:
            rows = [
                TaskWrite(*at, WRITES_IDX_MAP.get(channel, idx), channel, *self._dumped(channel, value))
                for idx, (channel, value) in enumerate(writes)
            ]
        except UnknownType as error:
            # Pregel looks at the result of this call only at the end of the run.
            self._writer.fail(error)
            raise
        replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        self._memory.written(rows, [value for _, value in writes], replaces=replaces)
        await self._writer.put_writes(rows, replaces=replaces)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete the checkpoints of the thread this saver is bound to."""
        self._own(thread_id)
        await self._writer.delete_all()

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Prune the thread this saver is bound to, as the stock saver does."""
        if strategy not in PRUNE_STRATEGIES:
            raise ValueError(f"unknown prune strategy {strategy!r}, expected one of {PRUNE_STRATEGIES}")
        for thread_id in thread_ids:
            self._own(thread_id)
            await (self._writer.delete_all() if strategy == "delete" else self._writer.keep_latest())

    def _dumped(self, channel: str, value: Any) -> tuple[str, bytes]:
        try:
            return self.serde.dumps_typed(value)
        except UnknownType as error:
            raise UnknownType(f"channel {channel!r}: {error}") from error

    # --- reading -------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Load one checkpoint, the latest one if the config names none.

        Raises:
            UnknownType: it holds a type that may not be loaded.
        """
        remembered, found = self._memory.recall(self._place(config))
        if remembered:
            return found
        keyed = self._keyed(config)
        if get_checkpoint_id(config):
            return await persistently(lambda: super(ThreadSaver, self).aget_tuple(keyed))
        parameters = {"key": self._writer.key, "ns": self._place(config)["checkpoint_ns"]}
        head = await persistently(lambda: self._select(_QUERIES.at_head, parameters))
        return head[0] if head else None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the name is LangGraph's
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints of the thread, newest first. No connection is held while they are looked at."""
        if config is None:
            raise WrongThread("a saver lists the checkpoints of its own thread only")
        parameters = {
            "key": self._writer.key,
            "ns": self._place(config)["checkpoint_ns"],
            "checkpoint_id": get_checkpoint_id(config),
            "filter": jsonb(filter) if filter else None,
            "before": get_checkpoint_id(before) if before is not None else None,
            "limit": limit,
        }
        for found in await self._select(_QUERIES.listed, parameters):
            yield found

    async def _select(self, which: bytes, parameters: Mapping[str, Any]) -> list[CheckpointTuple]:
        async with self._cursor() as cursor:
            await cursor.execute(self.SELECT_SQL.encode() + which, parameters)
            rows = await cursor.fetchall()
            for row in rows:
                if row["checkpoint"]["v"] < _SENDS_ARE_VALUES and row["parent_checkpoint_id"]:
                    await self._add_sends(cursor, row)
        return [await self._load_checkpoint_tuple(row) for row in rows]

    async def _add_sends(self, cursor: AsyncCursor[DictRow], row: DictRow) -> None:
        """What older releases of LangGraph kept with the parent of a checkpoint."""
        await cursor.execute(self.SELECT_PENDING_SENDS_SQL, (row["thread_id"], [row["parent_checkpoint_id"]]))
        if found := await cursor.fetchone():
            row["channel_values"] = row["channel_values"] or []
            self._migrate_pending_sends(found["sends"], row["checkpoint"], row["channel_values"])

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What was written to delta channels up to a checkpoint."""
        if not get_checkpoint_id(config):
            # The stock method looks the latest one up through `aget_tuple`, which wants our own name.
            found = await self.aget_tuple(config)
            if found is None:
                return {channel: {"writes": []} for channel in channels}
            config = found.config
        parameters = {"key": self._writer.key, "ns": self._place(config)["checkpoint_ns"]}
        if await self._database.fetch_one(_QUERIES.on_another_clock, parameters) is not None:
            # The stock query looks for ancestors among smaller ids; this walks from parent to parent.
            return await BaseCheckpointSaver.aget_delta_channel_history(
                self, config=config, channels=channels
            )
        return await super().aget_delta_channel_history(config=self._keyed(config), channels=channels)

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        place = {"thread_id": self._thread_id, "checkpoint_ns": value["checkpoint_ns"]}
        parent_id = value["parent_checkpoint_id"]
        stored = value["checkpoint"]
        values = {
            **(stored.get("channel_values") or {}),
            **self._load_blobs(value["channel_values"]),
        }
        return CheckpointTuple(
            {"configurable": {**place, "checkpoint_id": value["checkpoint_id"]}},
            cast("Checkpoint", {**stored, "channel_values": values}),
            value["metadata"],
            {"configurable": {**place, "checkpoint_id": parent_id}} if parent_id else None,
            self._load_writes(value["pending_writes"]),
        )

    def _load_blobs(self, blob_values: list[tuple[bytes, bytes, bytes]]) -> dict[str, Any]:
        loaded: dict[str, Any] = {}
        for channel, kind, body in blob_values or ():
            if kind != b"empty":
                try:
                    loaded[channel.decode()] = self.serde.loads_typed((kind.decode(), body))
                except UnknownType as error:
                    raise UnknownType(f"channel {channel.decode()!r}: {error}") from error
        return loaded

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        # The stock saver has one lock for all its calls. Here each has a connection of its own.
        if pipeline:
            raise WrongThread("a write that proves no fence is not made")
        async with (
            self._database.connection() as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            yield cursor

    # --- binding -------------------------------------------------------------------------------

    def _own(self, thread_id: object) -> None:
        if str(thread_id) != self._thread_id:
            raise WrongThread(f"the saver of thread {self._thread_id} was asked for {thread_id!r}")

    def _place(self, config: RunnableConfig) -> dict[str, Any]:
        place = {"checkpoint_ns": "", **config.get("configurable", {})}
        self._own(place.get("thread_id"))
        return place

    def _keyed(self, config: RunnableConfig) -> RunnableConfig:
        """The config as the stock methods need it, with the key of the tables."""
        place = self._place(config)
        return {**config, "configurable": {**place, "thread_id": self._writer.key}}


def _split(values: Mapping[str, Any], *, seals: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Channel values that go into the checkpoint's own row, and those stored apart; all, if it `seals`."""
    inline: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    for channel, value in values.items():
        if isinstance(value, _DeltaSnapshot):
            # The stock reader looks for this mark.
            inline[channel] = True
            apart[channel] = value
        elif not seals and _fits_jsonb(value):
            inline[channel] = value
        else:
            apart[channel] = value
    return inline, apart


def _fits_jsonb(value: Any) -> bool:
    if value is None or value is True or value is False:
        return True
    kind = type(value)
    if kind is int:
        return -(2**63) <= value < 2**63
    if kind is float:
        return math.isfinite(value)
    return kind is str and len(value) < _LONGEST_INLINE and value.isprintable()
