"""The checkpoint saver of one thread: bound to it, fenced, in the tables of LangGraph's Postgres saver.

Reading is the stock saver's; writing is ours, one statement a call, which proves the fence.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.pregel import Pregel
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from .database import Database, jsonb
from .errors import DatabaseError, DatabaseUnavailable
from .queries import load_queries
from .serde import StrictSerializer, UnknownType, json_safe, serializer_of
from .thread_rows import thread_key

_queries = load_queries(__file__)
_RETRY_S = (0.05, 0.1, 0.25, 0.5, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 4.0)
"""Pauses while the database is away; each write can be made twice without harm."""
_LONGEST_INLINE = 2_000
_PRIVATE = ("__pregel_", "langgraph_auth_")
"""Prefixes of `configurable` that LangGraph would copy into the metadata, where clients see them."""

T = TypeVar("T")


class WrongThread(DatabaseError):
    """A saver was asked for another thread than its own, or to write without a fence."""


@dataclass(slots=True, eq=False)
class _Thread:
    """What all clones of a saver share: which thread it is, and how its writes stand."""

    database: Database
    tenant_id: str
    thread_id: UUID
    fence: int | None
    run_id: UUID | None
    failure: BaseException | None = None
    under_way: set[asyncio.Future[None]] = field(default_factory=set)

    @property
    def key(self) -> str:
        """What the stock tables call `thread_id`."""
        return thread_key(self.tenant_id, self.thread_id)

    def fail(self, error: BaseException) -> None:
        self.failure = self.failure or error

    async def write(self, statement: bytes, parameters: Mapping[str, Any], *, last: bool = False) -> None:
        """Run a fenced write; `last` after all that are under way. A failure poisons the saver."""
        if last and self.under_way:
            await asyncio.wait(self.under_way)
        if self.failure is not None:
            raise self.failure
        if self.fence is None:
            raise WrongThread(f"the saver of thread {self.thread_id} may only read")
        identity = {
            "tenant_id": self.tenant_id,
            "thread_id": self.thread_id,
            "fence": self.fence,
            "key": self.key,
        }
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way.add(done)
        try:
            await _persistently(lambda: self.database.execute(statement, {**identity, **parameters}))
        except DatabaseError as error:
            self.fail(error)
            raise
        finally:
            self.under_way.discard(done)
            done.set_result(None)


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
        self._thread = _Thread(database, tenant_id, thread_id, fence, run_id)

    def for_graph(self, graph: Pregel) -> ThreadSaver:
        """The same saver, for the types in the schemas of a graph as well."""
        clone = copy.copy(self)
        clone.serde = serializer_of(graph)
        return clone

    def poison(self, error: BaseException) -> None:
        """Make every later write raise `error`: somebody else holds the thread now."""
        self._thread.fail(error)

    async def settle(self) -> None:
        """Wait until everything written so far has committed.

        Raises:
            DatabaseError: one of them has failed.
        """
        # A write that was only just handed to the loop begins at its next turn.
        await asyncio.sleep(0)
        while under_way := self._thread.under_way:
            await asyncio.wait(under_way)
            await asyncio.sleep(0)
        if isinstance(self._thread.failure, DatabaseError):
            raise self._thread.failure

    async def has_checkpoint_of(self, run_id: UUID) -> bool:
        """Whether a run has already saved a step of its own."""
        parameters = {"key": self._thread.key, "run_id": str(run_id)}
        database = self._thread.database
        return (
            await _persistently(lambda: database.fetch_one(_queries.run_has_checkpoint, parameters))
            is not None
        )

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
        told = get_serializable_checkpoint_metadata(config, metadata)
        public = {key: value for key, value in told.items() if not key.startswith(_PRIVATE)}
        inline, apart = _split(checkpoint["channel_values"])
        new = [(channel, version) for channel, version in new_versions.items() if channel in apart]
        values = [self._dumped(channel, apart[channel]) for channel, _ in new]
        await self._thread.write(
            _queries.put,
            {
                "ns": place["checkpoint_ns"],
                "checkpoint_id": checkpoint["id"],
                "parent_id": place.get("checkpoint_id"),
                "checkpoint": jsonb({**checkpoint, "channel_values": inline}),
                "metadata": jsonb(json_safe(public)),
                "channels": [channel for channel, _ in new],
                "versions": [version for _, version in new],
                "types": [kind for kind, _ in values],
                "blobs": [body for _, body in values],
            },
            last=True,
        )
        return {
            "configurable": {
                "thread_id": place["thread_id"],
                "checkpoint_ns": place["checkpoint_ns"],
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task wrote on top of a checkpoint.

        Raises:
            FenceLost: another writer holds the thread.
            UnknownType: it wrote what may not be stored.
        """
        place = self._place(config)
        try:
            values = [self._dumped(channel, value) for channel, value in writes]
        except UnknownType as error:
            # Pregel looks at the result of this call only at the end of the run.
            self._thread.fail(error)
            raise
        replaceable = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        await self._thread.write(
            _queries.replace_writes if replaceable else _queries.put_writes,
            {
                "ns": place["checkpoint_ns"],
                "checkpoint_id": place["checkpoint_id"],
                "task_id": task_id,
                "task_path": task_path,
                "run_id": self._thread.run_id,
                "indexes": [WRITES_IDX_MAP.get(channel, index) for index, (channel, _) in enumerate(writes)],
                "channels": [channel for channel, _ in writes],
                "types": [kind for kind, _ in values],
                "blobs": [body for _, body in values],
            },
        )

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete the checkpoints of the thread this saver is bound to."""
        self._own(thread_id)
        await self._thread.write(_queries.delete_own, {}, last=True)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Prune the thread this saver is bound to, as the stock saver does."""
        for thread_id in thread_ids:
            self._own(thread_id)
        if self._thread.fence is None:
            raise WrongThread(f"the saver of thread {self._thread.thread_id} may only read")
        await super().aprune([self._thread.key for _ in thread_ids], strategy=strategy)

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
        keyed = self._keyed(config)
        return await _persistently(lambda: super(ThreadSaver, self).aget_tuple(keyed))

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
        listed = super().alist(self._keyed(config), filter=filter, before=before, limit=limit)
        for found in [item async for item in listed]:
            yield found

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
        return await super().aget_delta_channel_history(config=self._keyed(config), channels=channels)

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        place = {"thread_id": str(self._thread.thread_id), "checkpoint_ns": value["checkpoint_ns"]}
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
            self._thread.database.connection() as connection,
            connection.cursor(binary=True, row_factory=dict_row) as cursor,
        ):
            yield cursor

    # --- binding -------------------------------------------------------------------------------

    def _own(self, thread_id: object) -> None:
        if str(thread_id) != str(self._thread.thread_id):
            raise WrongThread(f"the saver of thread {self._thread.thread_id} was asked for {thread_id!r}")

    def _place(self, config: RunnableConfig) -> dict[str, Any]:
        place = {"checkpoint_ns": "", **config.get("configurable", {})}
        self._own(place.get("thread_id"))
        return place

    def _keyed(self, config: RunnableConfig) -> RunnableConfig:
        """The config as the stock methods need it, with the key of the tables."""
        place = self._place(config)
        return {**config, "configurable": {**place, "thread_id": self._thread.key}}


async def _persistently(call: Callable[[], Awaitable[T]]) -> T:
    for pause in _RETRY_S:
        try:
            return await call()
        except DatabaseUnavailable:
            await asyncio.sleep(pause)
    return await call()


def _split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Channel values that go into the checkpoint's own row, and those that are stored apart."""
    inline: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    for channel, value in values.items():
        if isinstance(value, _DeltaSnapshot):
            # The stock reader looks for this mark.
            inline[channel] = True
            apart[channel] = value
        elif _fits_jsonb(value):
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
