"""What a person is asked about a call, and what they may answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID, uuid5

import orjson
from langgraph.errors import GraphInterrupt
from langgraph.types import Interrupt

from ...checkpoints.database import Connection

ReviewKind = Literal["tool", "outcome", "budget"]
"""tool: may this call be made. outcome: a call was cut off, what became of it. budget: a limit was
reached, may the run go on."""

ReviewStatus = Literal["pending", "approved", "edited", "rejected", "responded", "superseded"]
"""superseded: the thread went another way before anybody answered."""

DecisionType = Literal["approve", "edit", "reject", "respond"]

ALL_DECISIONS: tuple[DecisionType, ...] = ("approve", "edit", "reject", "respond")
STATUS_AFTER: Mapping[DecisionType, ReviewStatus] = {
    "approve": "approved",
    "edit": "edited",
    "reject": "rejected",
    "respond": "responded",
}

_NAMESPACE = UUID("0b5b7c2e-6d53-5c6b-9a55-0a6f3f6d2c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRequest:
    """A question to a person, bound to the exact call by the hash of its arguments."""

    tenant_id: str
    thread_id: UUID
    run_id: UUID
    kind: ReviewKind
    tool: str
    tool_version: str
    tool_call_id: str
    checkpoint_ns: str
    arguments: bytes
    """Canonical JSON."""
    arguments_hash: str
    arguments_schema: Mapping[str, Any] | None
    """What an edit must fit."""
    description: str
    allowed: Sequence[DecisionType]
    policy_version: str
    requested_by: str
    definition_hash: str | None = None
    """Of the tool as it is declared; None for a budget."""
    dry_run: bytes | None = None
    """JSON of what the tool says it would do."""
    round: int = 0
    """Tells apart questions about the same call, such as a second cut-off of one execution."""
    redefined: bool = False
    """It was asked before, and the answer was about a tool declared otherwise."""

    @property
    def review_id(self) -> UUID:
        """The same for the same question: a node that runs again finds its review."""
        parts = (
            self.tenant_id,
            str(self.thread_id),
            self.checkpoint_ns,
            self.kind,
            self.tool,
            self.tool_call_id,
            self.arguments_hash,
            self.round,
            *((self.definition_hash,) if self.redefined else ()),
        )
        return uuid5(_NAMESPACE, orjson.dumps(parts).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A question as it is stored, with its answer once there is one."""

    tenant_id: str
    thread_id: UUID
    review_id: UUID
    run_id: UUID
    kind: ReviewKind
    status: ReviewStatus
    tool: str
    tool_version: str
    definition_hash: str | None
    tool_call_id: str
    checkpoint_ns: str
    arguments: dict[str, Any]
    arguments_hash: str
    arguments_schema: dict[str, Any] | None
    description: str
    allowed: list[DecisionType]
    dry_run: Any
    policy_version: str
    requested_by: str
    answer: dict[str, Any] | None
    """`arguments` of an edit, `message` of a rejection or a response."""
    decided_by: str | None
    created_at: datetime
    decided_at: datetime | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Review:
        """Build from a row of `interlock.reviews`."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        for name in ("arguments", "dry_run", "answer"):
            if fields[name] is not None:
                fields[name] = orjson.loads(fields[name])
        return cls(**fields)

    @property
    def interrupt_id(self) -> str:
        """Id of the interrupt that shows this review."""
        return self.review_id.hex

    @property
    def message(self) -> str | None:
        """What the person wrote when rejecting or responding."""
        return (self.answer or {}).get("message")

    def is_outdated(self, request: ReviewRequest) -> bool:
        """Whether a person said yes to the tool as it was declared then, and it is declared otherwise now."""
        return self.status in ("approved", "edited") and self.definition_hash != request.definition_hash

    def payload(self) -> dict[str, Any]:
        """The interrupt's value: LangChain's review request, and our own facts under `review`."""
        return {
            "action_requests": [action_request(self.tool, self.arguments, self.description)],
            "review_configs": [{"action_name": self.tool, "allowed_decisions": list(self.allowed)}],
            "review": {
                "id": str(self.review_id),
                "kind": self.kind,
                "tool_call_id": self.tool_call_id,
                "arguments_hash": self.arguments_hash,
                "dry_run": self.dry_run,
            },
        }


def action_request(name: str, arguments: dict[str, Any], description: str) -> dict[str, Any]:
    """One call or action that a person is asked about, as LangChain's inboxes read it.

    `arguments` says `args` once more: LangChain called it so at first, and agent-inbox reads nothing else.
    """
    return {"name": name, "args": arguments, "arguments": arguments, "description": description}


class ReviewRecords(Protocol):
    """Where reviews are kept; `server.records.reviews` is the one on Postgres."""

    async def ask(self, connection: Connection, request: ReviewRequest) -> tuple[Review, bool]:
        """Store the question unless it is already there; returns it and whether it is new."""
        ...

    async def find(self, connection: Connection, request: ReviewRequest) -> Review | None:
        """The stored question that equals this one, with its answer."""
        ...


class ReviewPending(GraphInterrupt):
    """A call waits for a person: the graph stops here and keeps its checkpoint.

    The interrupt carries the id of the review, and LangGraph has no answer for that id: when the
    graph runs again, the gateway reads the row. So no answer can be handed to the wrong call.
    """

    def __init__(self, reviews: Sequence[Review]) -> None:
        super().__init__(tuple(Interrupt(value=r.payload(), id=r.interrupt_id) for r in reviews))
        self.reviews = tuple(reviews)
