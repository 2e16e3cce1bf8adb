"""Remembers the effect of each tool call, so that a step that runs again does not repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from uuid import UUID

import uuid_utils.compat as uuid
from langchain_core.messages import ToolMessage
from langgraph.types import Command

from ..checkpoints.database import Connection
from ..checkpoints.queries import load_queries
from ..checkpoints.sealed import sealed_blob
from ..checkpoints.serde import StrictSerializer, UnknownType
from .context import RunScope

LedgerState = Literal["started", "succeeded", "failed", "unknown"]
"""started: executing, or cut off. succeeded: the stored result is the answer for ever. failed: the
tool said that it did nothing. unknown: nobody can say; only a person lets it run again."""

ToolResult = ToolMessage | Command[Any] | list[ToolMessage | Command[Any]]
"""What a tool call puts into the graph."""

_QUERIES = load_queries(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallKey:
    """What makes a call the same call."""

    scope: RunScope
    checkpoint_ns: str
    """Holds the id of LangGraph's task: the same when a step runs again, another in the next turn."""
    tool: str
    tool_call_id: str
    arguments_hash: str

    def parameters(self) -> dict[str, Any]:
        """Parameters of the queries."""
        return {
            "tenant_id": self.scope.tenant_id,
            "thread_id": self.scope.thread_id,
            "run_id": self.scope.run_id,
            "fence": self.scope.fence,
            "checkpoint_ns": self.checkpoint_ns,
            "tool": self.tool,
            "tool_call_id": self.tool_call_id,
            "arguments_hash": self.arguments_hash,
        }

    @property
    def idempotency_key(self) -> str:
        """Handed to the tool: the same for every execution of the call, never shared between tenants."""
        parts = (self.scope.thread_id, self.checkpoint_ns, self.tool, self.tool_call_id, self.arguments_hash)
        return "/".join(str(part) for part in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """What the ledger knows of a call."""

    state: LedgerState
    starts: int
    start_id: UUID
    result_type: str | None
    result: bytes | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LedgerEntry:
        """Build from a row of `interlock.tool_ledger`."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


class Claim(NamedTuple):
    """What came of claiming a call."""

    start_id: UUID
    """It is ours to execute under this id, unless one of the following says otherwise."""
    before: LedgerEntry | None = None
    """What became of it before."""
    asked: bool = False
    """A person was asked about it."""


class Ledger:
    """Entries of `interlock.tool_ledger`. Methods take a connection and never commit."""

    def __init__(self) -> None:
        self._serializer = StrictSerializer()

    async def look(self, connection: Connection, key: CallKey) -> LedgerEntry | None:
        """What became of the call before, if it was ever started."""
        row = await (await connection.execute(_QUERIES.look, key.parameters())).fetchone()
        return None if row is None else LedgerEntry.from_row(row)

    async def begin(
        self, connection: Connection, key: CallKey, *, again: bool, unless_asked: UUID | None = None
    ) -> Claim:
        """Claim the call, unless it was made before, or a person was asked about it.

        Args:
            connection: in a transaction, or not: it is one statement.
            key: the call.
            again: also claim a call that was cut off: its tool is idempotent, or a person said so.
            unless_asked: the review that would have asked.

        Raises:
            FenceLost: another worker writes this thread now.
        """
        start_id = uuid.uuid7()
        parameters = {
            **key.parameters(),
            "start_id": start_id,
            "again": again,
            "unless_asked": unless_asked,
        }
        row = await (await connection.execute(_QUERIES.begin, parameters)).fetchone()
        if row is None:
            return Claim(start_id, asked=True)
        entry = LedgerEntry.from_row(row)
        return Claim(start_id, before=None if entry.start_id == start_id else entry)

    async def hold_fence(self, connection: Connection, key: CallKey) -> None:
        """Keep the right to write this thread until the transaction ends.

        Raises:
            FenceLost: another worker writes this thread now.
        """
        await connection.execute(_QUERIES.hold_fence, key.parameters())

    async def cut_off(self, connection: Connection, key: CallKey, entry: LedgerEntry) -> None:
        """Note that nobody knows how this start ended."""
        await connection.execute(_QUERIES.cut_off, {**key.parameters(), "start_id": entry.start_id})

    async def settle(
        self,
        connection: Connection,
        key: CallKey,
        start_id: UUID,
        *,
        state: LedgerState,
        result: ToolResult | None,
    ) -> None:
        """Record how the execution under `start_id` ended.

        Raises:
            FenceLost: another worker writes this thread now.
        """
        kind, stored = (None, None) if result is None else self._stored(result)
        kept = None if stored is None else sealed_blob("tool_call", "result", stored)
        await self.hold_fence(connection, key)
        await connection.execute(
            _QUERIES.settle,
            {**key.parameters(), "start_id": start_id, "state": state, "result_type": kind, "result": kept},
        )

    def result(self, entry: LedgerEntry) -> ToolResult | None:
        """The stored result of a call that succeeded; None when it could not be stored."""
        if entry.result_type is None or entry.result is None:
            return None
        return self._serializer.loads_typed((entry.result_type, entry.result))

    def _stored(self, result: ToolResult) -> tuple[str | None, bytes | None]:
        """The result in bytes; without its artifact, or not at all, when it holds what has no bytes."""
        bare = result.model_copy(update={"artifact": None}) if isinstance(result, ToolMessage) else None
        for candidate in (result, bare):
            try:
                kind, stored = self._serializer.dumps_typed(candidate)
            except (UnknownType, TypeError, ValueError):
                continue
            return (None, None) if candidate is None else (kind, stored)
        return None, None
