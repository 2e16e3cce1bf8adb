"""The body of every route that creates a run, and those of cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import BeforeValidator, Field, model_validator

from ..domain import Durability, MultitaskStrategy
from ..runs.admission import RunRequest
from .schemas import Body, CommandBody, Identifier, PlaceBody, StorableObject, Text

StreamMode = Literal[
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "tasks",
    "checkpoints",
    "debug",
    "events",
    "custom",
    "tools",
]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


StreamModes = Annotated[list[StreamMode], BeforeValidator(_as_list)]
Nodes = Literal["*"] | list[Text]


class RunConfig(Body):
    """Settings of one run, over those of its assistant."""

    tags: list[Text] | None = None
    recursion_limit: int | None = None
    configurable: dict[str, Any] | None = None
    metadata: StorableObject | None = None
    budget: StorableObject | None = None
    """Limits of this run: `steps`, `model_calls`, `tool_calls`, `tokens`, `seconds`."""

    def unheeded(self) -> Iterator[str]:
        """Nothing: LangGraph knows more keys than the wire names, and gets them all."""
        return iter(())

    def given(self) -> dict[str, Any]:
        """What was given, unnamed keys too."""
        return super().given() | (self.model_extra or {})


class RunCreate(Body):
    """A run to create."""

    holds_values: ClassVar[bool] = True
    without_effect: ClassVar[frozenset[str]] = frozenset({"feedback_keys", "langsmith_tracer"})

    assistant_id: Identifier
    """What to run: the UUID of an assistant, or the name of a graph for its default assistant."""
    input: Any = None
    """What the graph is given. Null continues from the checkpoint."""
    command: CommandBody | None = None
    """`resume`, `update` and `goto` for a thread that waits; wins over `input`."""
    metadata: StorableObject = Field(default_factory=dict)
    """Stored with the run, over that of the assistant and of `config`."""
    config: RunConfig = RunConfig()
    """`tags`, `recursion_limit`, `configurable`, `metadata` and `budget`, over those of the assistant."""
    context: dict[str, Any] | None = None
    """The graph's context; or `config.configurable`, but not both."""
    checkpoint: PlaceBody | None = None
    """Where in the thread's history to fork, as a state shows it."""
    checkpoint_id: Text | None = None
    """The same by id alone; wins over `checkpoint`."""
    interrupt_before: Nodes | None = None
    """Nodes before which the run stops; `*` for all."""
    interrupt_after: Nodes | None = None
    """Nodes after which the run stops; `*` for all."""
    stream_mode: StreamModes = Field(default_factory=list)
    """What its stream shows: one mode or several; without any it is `values`."""
    stream_subgraphs: bool = False
    """Whether its stream shows sub-graphs as well, each event with its namespace."""
    stream_resumable: bool = False
    """Whether its stream shows ids to resume by."""
    durability: Durability | None = None
    """When steps are stored: `sync` before the next one (the default), `async` beside it, `exit` last."""
    checkpoint_during: bool | None = None
    """Older spelling: false is durability `exit`."""
    multitask_strategy: MultitaskStrategy = "enqueue"
    """What happens on a busy thread: `enqueue`, `reject`, or `interrupt` or `rollback` the others."""
    if_not_exists: Literal["reject", "create"] = "reject"
    """Whether a missing thread is made."""
    on_disconnect: Literal["continue", "cancel"] = "continue"
    """What becomes of the run when the client of its stream or answer leaves."""
    on_completion: Literal["delete", "keep", "complete", "continue"] = "delete"
    """Whether the thread of a stateless run is deleted or kept; `complete` and `continue` mean `delete`.
    A thread on which another run waits by then is kept."""
    after_seconds: Annotated[float, Field(ge=0, le=315_360_000)] = 0
    """How long to wait before it may start."""
    webhook: Text | None = None
    """URL that gets the run and its values by POST when it has ended."""
    feedback_keys: list[Text] | None = None
    """Without effect: a matter of LangSmith."""
    langsmith_tracer: dict[str, Any] | None = None
    """Without effect: a matter of LangSmith."""
    strict_resume: bool = False
    """A resume that answers an interrupt which does not wait fails the run with `UnknownInterruptError`;
    the thread stays as it is."""

    def request(self, *, thread_id: UUID | None, idempotency_key: str | None) -> RunRequest:
        """As admission takes it."""
        return RunRequest(
            assistant_id=self.assistant_id,
            thread_id=thread_id,
            if_not_exists=self.if_not_exists,
            input=self.input,
            command=self.command.given() if self.command else None,
            config=self.config.given(),
            context=self.context,
            metadata=self.metadata,
            checkpoint=self.checkpoint.given() if self.checkpoint else None,
            checkpoint_id=self.checkpoint_id,
            interrupt_before=self.interrupt_before,
            interrupt_after=self.interrupt_after,
            stream_mode=self.stream_mode,
            stream_subgraphs=self.stream_subgraphs,
            stream_resumable=self.stream_resumable,
            strict_resume=self.strict_resume,
            durability=self.durability,
            checkpoint_during=self.checkpoint_during,
            multitask_strategy=self.multitask_strategy,
            after_seconds=self.after_seconds,
            on_completion="keep" if self.on_completion == "keep" else "delete",
            webhook=self.webhook or None,
            feedback_keys=self.feedback_keys,
            idempotency_key=idempotency_key,
        )


class CancelMany(Body):
    """Runs to stop: the named ones of a thread, or all that have a status."""

    thread_id: UUID | None = None
    run_ids: Annotated[list[UUID], Field(min_length=1, max_length=1000)] | None = None
    status: Literal["pending", "running", "all"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.status is not None and (self.thread_id or self.run_ids):
            raise ValueError("give either `status`, or `thread_id` with `run_ids`, not both")
        if self.status is None and not (self.thread_id and self.run_ids):
            raise ValueError("give `status`, or `thread_id` with `run_ids`")
        return self
