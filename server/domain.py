"""Run, thread, assistant, cron and event: the records and their status sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid5

import orjson

from ..checkpoints.sealed import UNREADABLE, unreadable
from ..tools.policy.permissions import Principal
from .errors import Conflicting

RunStatus = Literal["pending", "running", "success", "error", "timeout", "interrupted"]
"""pending: waits for a worker. running: leased to one. success: the graph came to an end or to an
interrupt. error: it raised, or was quarantined. timeout: it ran too long. interrupted: cancelled."""

ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
"""idle: nothing pending. busy: a run is pending or running. interrupted: the last state has a next
node. error: the last run failed."""

MultitaskStrategy = Literal["reject", "interrupt", "rollback", "enqueue"]
CancelAction = Literal["interrupt", "rollback"]
Durability = Literal["sync", "async", "exit"]
OnRunCompleted = Literal["delete", "keep"]
TtlStrategy = Literal["delete", "keep_latest"]
"""What becomes of a thread that nobody has touched for its time: it goes, or only its history does."""

INFLIGHT: frozenset[RunStatus] = frozenset({"pending", "running"})

ASSISTANT_NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def default_assistant_id(graph_id: str) -> UUID:
    """Id of the assistant that every graph has; clients compute and cache it."""
    return uuid5(ASSISTANT_NAMESPACE, graph_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution on a thread."""

    tenant_id: str
    thread_id: UUID
    run_id: UUID
    assistant_id: UUID
    graph_id: str
    status: RunStatus
    multitask_strategy: MultitaskStrategy
    metadata: dict[str, Any]
    kwargs: dict[str, Any]
    """The request, in the shape that the wire echoes."""
    principal: Principal
    priority: int
    run_at: datetime
    temporary: bool
    attempt: int
    """1 for the first try; rises when a worker dies or drains."""
    crashes: int
    worker_id: str | None
    fence: int | None
    lease_until: datetime | None
    cancel_reason: str | None
    error: dict[str, str] | None
    """`{"error": class name, "message": text}`."""
    budget: dict[str, Any]
    usage: dict[str, Any]
    first_seq: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Run:
        """Build from a row of `interlock.runs`."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        fields["kwargs"] = orjson.loads(row["kwargs"])
        fields["error"] = orjson.loads(row["error"]) if row["error"] is not None else None
        fields["principal"] = Principal.from_row(row["principal"])
        if reason := unreadable(row["principal"]):
            fields["kwargs"] = {**fields["kwargs"], UNREADABLE: reason}
        return cls(**fields)

    @property
    def unreadable(self) -> str | None:
        """Why what it is to do could not be decrypted; None when it could."""
        return unreadable(self.kwargs)

    def shape(self) -> dict[str, Any]:
        """As the wire shows it, with the request that made it as `kwargs`."""
        shape: dict[str, Any] = {
            "run_id": self.run_id,
            "thread_id": self.thread_id,
            "assistant_id": self.assistant_id,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "metadata": self.metadata,
            "status": self.status,
            "kwargs": self.kwargs,
            "multitask_strategy": self.multitask_strategy,
            "langsmith_session_name": None,
        }
        if self.cancel_reason is not None:
            shape["cancel_reason"] = self.cancel_reason
        return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftBy:
    """The run that left a thread as it rests: an answer to what it asked goes on in its name."""

    principal: Principal
    assistant_id: UUID
    checkpoint_id: str | None = None
    """Where it stopped; None when nobody has looked."""

    def to_row(self) -> dict[str, Any]:
        """The JSON object stored with the thread."""
        return {
            "principal": self.principal.to_row(),
            "assistant_id": str(self.assistant_id),
            "checkpoint_id": self.checkpoint_id,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> LeftBy:
        """Read what `to_row` wrote."""
        return cls(
            principal=Principal.from_row(row["principal"]),
            assistant_id=UUID(row["assistant_id"]),
            checkpoint_id=row["checkpoint_id"],
        )


@dataclass(frozen=True, slots=True)
class Ttl:
    """How long a thread is kept after its last change, and what happens then."""

    time: timedelta
    strategy: TtlStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A durable conversation or case; the owner of state."""

    tenant_id: str
    thread_id: UUID
    status: ThreadStatus
    metadata: dict[str, Any]
    config: dict[str, Any]
    values: dict[str, Any] | None
    interrupts: dict[str, list[dict[str, Any]]]
    """Pending interrupts by task id, each `{"id", "value"}`."""
    error: dict[str, str] | None
    left_by: LeftBy | None
    ttl: timedelta | None
    ttl_strategy: TtlStrategy | None
    expires_at: datetime | None
    """None: never, or not before it changes again."""
    fence: int
    last_seq: int
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime

    @property
    def asked(self) -> list[dict[str, Any]]:
        """What `interrupts` holds, whichever task it is of.

        Raises:
            Conflicting: it cannot be decrypted.
        """
        if reason := unreadable(self.interrupts):
            raise Conflicting(f"what thread {self.thread_id} waits for cannot be decrypted: {reason}")
        return [one for asked in self.interrupts.values() for one in asked]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Thread:
        """Build from a row of `interlock.threads` joined with its derived `status`."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        known = row["left_by"] is not None and unreadable(row["left_by"]) is None
        fields["left_by"] = LeftBy.from_row(row["left_by"]) if known else None
        exact = None if row["exact"] is None else orjson.loads(row["exact"])
        if exact is not None and unreadable(exact) is None:
            fields |= exact
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """A graph with saved configuration; versioned."""

    tenant_id: str
    assistant_id: UUID
    graph_id: str
    version: int
    name: str
    description: str | None
    config: dict[str, Any]
    context: dict[str, Any]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Assistant:
        """Build from a row of `interlock.assistants`."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A run that starts by the clock."""

    tenant_id: str
    cron_id: UUID
    assistant_id: UUID
    thread_id: UUID | None
    """None: each firing gets a thread of its own."""
    schedule: str
    timezone: str | None
    """Name in the IANA database; None is UTC."""
    end_time: datetime | None
    enabled: bool
    on_run_completed: OnRunCompleted | None
    """What becomes of the thread of a firing; None where the thread is the cron's."""
    payload: dict[str, Any]
    """The run to create, as the request named it."""
    metadata: dict[str, Any]
    principal: Principal
    """Whose cron it is, with the rights of the time when it was written."""
    next_run_at: datetime | None
    failure_count: int
    """Refused firings in a row."""
    last_failure: dict[str, Any] | None
    """The last one: `error`, `message`, `slot` and `at`."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Cron:
        """Build from a row of `interlock.crons`."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        fields["payload"] = orjson.loads(row["payload"])
        fields["last_failure"] = orjson.loads(row["last_failure"]) if row["last_failure"] else None
        fields["principal"] = Principal.from_row(row["principal"])
        return cls(**fields)


EventKind = Literal[
    "run.created",
    "run.started",
    "run.ended",
    "state.updated",
    "values",
    "updates",
    "messages",
    "tasks",
    "checkpoints",
    "debug",
    "custom",
    "events",
    "tools",
]
"""`run.*` and `state.updated` are ours, the rest are LangGraph's stream modes.

run.created `{"run_id", "graph_id", "modes"}`: committed with the run row. run.started `{"run_id",
"attempt"}`: once per attempt. run.ended `{"run_id", "status", "error"?, "waits"?, "checkpoint_id"?}`:
exactly one, the last of its run; `waits`: the graph stopped for somebody. messages: a pair of message
chunk and metadata, whatever message mode the reader asks for.
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a thread's event log."""

    seq: int
    """Number in the log of the thread: from 1, no gap, no repeat."""
    run_id: UUID | None
    kind: EventKind
    namespace: tuple[str, ...]
    """Path of sub-graphs, each `node:task_id`; empty at the root."""
    data: bytes
    """JSON text, encoded once when it was written."""
    at_ms: int
    """When it happened, milliseconds since 1970."""
    shows: int = field(default=0, compare=False)
    """How many events the thread event stream shows of it; see `server/protocol`."""
    first_shown: int = field(default=0, compare=False)
    """Number of the first of these there."""
