"""One row for each attempt at a tool call, refused ones too. Append only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import uuid_utils.compat as uuid

from ..checkpoints.database import Connection
from ..checkpoints.queries import load_queries
from ..checkpoints.sealed import sealed_blob, sealed_text
from .context import RunScope
from .spec import ToolSpec

Stage = Literal[
    "resolve",
    "canonicalise",
    "schema",
    "bind",
    "policy",
    "budget",
    "ledger",
    "dry_run",
    "review",
    "execute",
    "result",
    "settle",
]
"""Where in the gateway an attempt ended."""

Outcome = Literal[
    "refused",
    "waiting",
    "rejected",
    "responded",
    "succeeded",
    "failed",
    "unknown",
    "replayed",
    "bypassed",
]
"""refused: by a rule. waiting: a person was asked. rejected, responded: by that person. unknown: cut
off. replayed: the step ran again and got its stored result. bypassed: seen outside the gateway."""

_QUERIES = load_queries(__file__)
_REASON_LIMIT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt, as far as it came."""

    scope: RunScope
    subject: str
    tool: str
    tool_call_id: str
    checkpoint_ns: str
    arguments: bytes
    """JSON text; the repr when the arguments are not JSON."""
    arguments_hash: str | None
    spec: ToolSpec | None
    stage: Stage
    outcome: Outcome
    reason: str | None = None
    policy_ids: tuple[str, ...] = ()
    policy_version: str | None = None
    review_id: UUID | None = None
    duration_ms: float | None = None

    def parameters(self) -> dict[str, Any]:
        """Parameters of the query."""
        spec = self.spec
        return {
            "tenant_id": self.scope.tenant_id,
            "thread_id": self.scope.thread_id,
            "call_id": uuid.uuid7(),
            "run_id": self.scope.run_id,
            "graph_id": self.scope.graph_id,
            "assistant_id": self.scope.assistant_id,
            "subject": self.subject,
            "tool": column_text(self.tool),
            "tool_version": spec and spec.version,
            "definition_hash": spec and spec.definition_hash,
            "effect": spec and spec.effect,
            "risk": spec and spec.risk,
            "tool_call_id": self.tool_call_id,
            "checkpoint_ns": self.checkpoint_ns,
            "arguments": sealed_blob("tool_call", "arguments", self.arguments),
            "arguments_hash": self.arguments_hash,
            "stage": self.stage,
            "outcome": self.outcome,
            "reason": self.reason
            and sealed_text("tool_call", "reason", column_text(self.reason)[:_REASON_LIMIT]),
            "policy_ids": list(self.policy_ids),
            "policy_version": self.policy_version,
            "review_id": self.review_id,
            "duration_ms": self.duration_ms,
        }


async def record(connection: Connection, attempt: Attempt) -> None:
    """Append an attempt inside the caller's transaction."""
    await connection.execute(_QUERIES.record, attempt.parameters())


async def of_thread(connection: Connection, *, tenant_id: str, thread_id: UUID) -> list[dict[str, Any]]:
    """Every attempt on a thread, in order."""
    cursor = await connection.execute(_QUERIES.of_thread, {"tenant_id": tenant_id, "thread_id": thread_id})
    return await cursor.fetchall()


def column_text(text: str) -> str:
    """The text without what a text column cannot hold."""
    # A model may write NUL and lone surrogates.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
