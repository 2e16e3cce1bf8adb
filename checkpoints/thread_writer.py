"""Writes to the checkpoint tables of one thread: fenced, in order, together where that is possible."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from uuid import UUID

from .database import Database, jsonb
from .errors import DatabaseError
from .queries import load_queries
from .retry import persistently
from .sealed import sealed_blob, sealed_json
from .serde import whole
from .thread_rows import keep_latest_in, thread_key

_QUERIES = load_queries(__file__)
_TURNS = 12
"""How many turns of the loop the writes of a task wait for the checkpoint that follows them."""


class WrongThread(DatabaseError):
    """A saver was asked for another thread than its own, or to write without a fence."""


class ChannelValue(NamedTuple):
    """A channel's value at a version."""

    ns: str
    channel: str
    version: str
    type: str
    body: bytes


class TaskWrite(NamedTuple):
    """One value that a task wrote on top of a checkpoint."""

    ns: str
    checkpoint_id: str
    task_id: str
    task_path: str
    idx: int
    channel: str
    type: str
    body: bytes


class CheckpointRow(NamedTuple):
    """A checkpoint without the values that are stored apart."""

    ns: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: Mapping[str, Any]
    metadata: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class _Write:
    """What one call of the saver writes."""

    rows: Sequence[TaskWrite] = ()
    values: Sequence[ChannelValue] = ()
    checkpoint: CheckpointRow | None = None
    replaces: bool = False
    done: bool = False


class ThreadWriter:
    """The one who writes to a thread; all clones of its saver share it.

    One statement is under way at a time. The writes of a task, for which LangGraph does not wait, are
    held for some turns of the loop, because the checkpoint that they lead to mostly comes at once: then
    one statement stores both. A failure ends all writing.
    """

    def __init__(
        self, database: Database, *, tenant_id: str, thread_id: UUID, fence: int | None, run_id: UUID | None
    ) -> None:
        self.thread_id = thread_id
        self.key = thread_key(tenant_id, thread_id)
        self.failure: BaseException | None = None
        self._database = database
        self._tenant_id = tenant_id
        self._identity = {
            "tenant_id": tenant_id,
            "thread_id": thread_id,
            "fence": fence,
            "key": self.key,
            "run_id": run_id,
        }
        self._turn = asyncio.Lock()
        self._waiting: list[_Write] = []
        self._under_way: set[asyncio.Future[None]] = set()

    def fail(self, error: BaseException) -> None:
        """Make every later write raise `error`, unless there is an earlier one."""
        self.failure = self.failure or error

    async def put(self, checkpoint: CheckpointRow, values: Sequence[ChannelValue]) -> None:
        """Store a checkpoint, after or together with every write that was begun before it."""
        await self._write(_Write(checkpoint=checkpoint, values=values))

    async def put_writes(self, rows: Sequence[TaskWrite], *, replaces: bool) -> None:
        """Store what a task wrote."""
        await self._write(_Write(rows=rows, replaces=replaces))

    async def delete_all(self) -> None:
        """Remove everything of the thread."""
        self.check()
        async with self._turn:
            await self._run(_QUERIES.delete_own, {})

    async def keep_latest(self) -> None:
        """Remove all but the newest checkpoint of each namespace."""
        self.check()
        async with self._turn, self._database.transaction() as connection:
            await connection.execute(_QUERIES.hold, self._identity)
            await keep_latest_in(connection, tenant_id=self._tenant_id, thread_id=self.thread_id)

    async def settle(self) -> None:
        """Wait until everything written so far has committed.

        Raises:
            DatabaseError: one of the writes has failed.
        """
        # A write that was only just handed to the loop begins at its next turn.
        await asyncio.sleep(0)
        while self._under_way:
            await asyncio.wait(self._under_way)
            await asyncio.sleep(0)
        if isinstance(self.failure, DatabaseError):
            raise self.failure

    def check(self) -> None:
        """Refuse to go on after a failure, and to write without a fence."""
        if self.failure is not None:
            raise self.failure
        if self._identity["fence"] is None:
            raise WrongThread(f"the saver of thread {self.thread_id} may only read")

    async def _write(self, write: _Write) -> None:
        self.check()
        under_way: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(under_way)
        self._waiting.append(write)
        try:
            async with self._turn:
                if not write.done:
                    await self._company()
                    await self._flush()
        finally:
            self._under_way.discard(under_way)
            under_way.set_result(None)
        if not write.done:
            self.check()

    async def _company(self) -> None:
        """Wait a little for a checkpoint to go along with writes of tasks."""
        for _ in range(_TURNS):
            if any(write.checkpoint is not None or write.replaces for write in self._waiting):
                return
            await asyncio.sleep(0)

    async def _flush(self) -> None:
        """Store everything that waits. Nothing is lost when the caller is cancelled: it waits on."""
        self.check()
        while self._waiting:
            batch = self._batch()
            await self._run(*_statement(batch))
            for write in batch:
                write.done = True
            self._waiting = self._waiting[len(batch) :]

    def _batch(self) -> list[_Write]:
        """As many of those who wait as one statement may store, in order."""
        if self._waiting[0].replaces:
            return self._waiting[:1]
        batch: list[_Write] = []
        keys: set[tuple[str, str]] = set()
        for write in self._waiting:
            if write.replaces:
                break
            if write.checkpoint is not None:
                key = (write.checkpoint.ns, write.checkpoint.checkpoint_id)
                if key in keys:
                    break
                keys.add(key)
            batch.append(write)
        return batch

    async def _run(self, statement: bytes, parameters: Mapping[str, Any]) -> None:
        try:
            await persistently(lambda: self._database.execute(statement, {**self._identity, **parameters}))
        except DatabaseError as error:
            self.fail(error)
            raise


def json_safe(value: Any) -> Any:
    """`value` for a jsonb column of ours: what jsonb or JSON cannot hold becomes text or null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return whole(str.__str__(value)).replace("\0", "\ufffd")
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if isinstance(value, Mapping):
        return {json_safe(str(k)): json_safe(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in cast("list[Any]", value)]
    return json_safe(str(value))


def _statement(batch: Sequence[_Write]) -> tuple[bytes, dict[str, Any]]:
    rows = [row for write in batch for row in write.rows]
    parameters: dict[str, Any] = {
        "write_nss": [row.ns for row in rows],
        "write_checkpoint_ids": [row.checkpoint_id for row in rows],
        "write_task_ids": [row.task_id for row in rows],
        "write_task_paths": [row.task_path for row in rows],
        "write_indexes": [row.idx for row in rows],
        "write_channels": [row.channel for row in rows],
        "write_types": [row.type for row in rows],
        "writes": [sealed_blob("checkpoint", "writes", row.body) for row in rows],
    }
    if batch[0].replaces:
        return _QUERIES.replace, parameters
    checkpoints = [write.checkpoint for write in batch if write.checkpoint is not None]
    if not checkpoints:
        return _QUERIES.write_only, parameters
    values = [value for write in batch for value in write.values]
    return _QUERIES.write, parameters | {
        "blob_nss": [value.ns for value in values],
        "blob_channels": [value.channel for value in values],
        "blob_versions": [value.version for value in values],
        "blob_types": [value.type for value in values],
        "blobs": [sealed_blob("checkpoint", "blob", value.body) for value in values],
        "nss": [row.ns for row in checkpoints],
        "checkpoint_ids": [row.checkpoint_id for row in checkpoints],
        "parent_ids": [row.parent_id for row in checkpoints],
        "checkpoints": [jsonb(row.checkpoint) for row in checkpoints],
        "metadatas": [sealed_json("checkpoint", "metadata", row.metadata) for row in checkpoints],
    }
