"""Bodies of the thread protocol: a command, the parameters of each, and what a reader wants."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from ..domain import MultitaskStrategy
from ..wire.thread_events import CHANNELS, NAMED, Filter
from .run_schemas import RunConfig
from .schemas import Body, Identifier, Limit, StorableObject, Text

CommandId = Annotated[int, Field(ge=0, le=2**53, strict=True)]
Namespace = Annotated[list[Annotated[Text, Field(max_length=1000)]], Field(max_length=100)]
InterruptId = Annotated[Text, Field(min_length=1, max_length=255)]
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


def _channel(name: str) -> str:
    if name in CHANNELS or (name.startswith(NAMED) and len(name) > len(NAMED)):
        return name
    raise ValueError(f"unknown channel {name!r}; channels are {', '.join(CHANNELS)} and {NAMED}<name>")


def _cursor(value: Any) -> Any:
    """A number as text is one too; what is no number is no cursor of ours, and says nothing."""
    if isinstance(value, str):
        return int(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return min(value, 2**62) if isinstance(value, int) and value > 0 else None


class EventsWanted(Body):
    """What a reader of the thread event stream wants to see."""

    channels: Annotated[list[Annotated[Text, AfterValidator(_channel)]], Field(min_length=1, max_length=100)]
    """`values`, `updates`, `messages`, `tools`, `lifecycle`, `input`, `checkpoints`, `tasks`, `custom`, or
    `custom:<name>` for the custom events of one name."""
    namespaces: Annotated[list[Namespace], Field(max_length=1000)] | None = None
    """Paths of sub-graphs; without any, all. `[[]]` with `depth` 0 is the root alone."""
    depth: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Levels below these that are wanted too; without it, all."""
    since: Annotated[int | None, BeforeValidator(_cursor)] = None
    """Number of the last event that the reader has; without it everything is shown again."""

    def filter(self) -> Filter:
        """As the projection takes it."""
        paths = None if self.namespaces is None else tuple(tuple(path) for path in self.namespaces)
        return Filter(channels=frozenset(self.channels), namespaces=paths, depth=self.depth)


class Command(Body):
    """A command: what to do, and a number that the answer bears."""

    holds_values: ClassVar[bool] = True
    id: CommandId
    """Chosen by the client."""
    method: Annotated[Text, Field(max_length=255)]
    """Such as `run.start`, `input.respond`, `state.get`."""
    params: dict[str, Any] | None = None
    """What the method needs."""


class Start(Body):
    """A run to start."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"langsmith_tracer"})

    assistant_id: Identifier
    input: Any = None
    config: RunConfig = RunConfig()
    context: dict[str, Any] | None = None
    metadata: StorableObject = Field(default_factory=dict)
    multitask_strategy: MultitaskStrategy = Field(
        default="enqueue", validation_alias=AliasChoices("multitaskStrategy", "multitask_strategy")
    )
    langsmith_tracer: dict[str, Any] | None = None

    def request(self) -> dict[str, Any]:
        """Fields of a `RunRequest`."""
        return {
            "assistant_id": self.assistant_id,
            "input": self.input,
            "config": self.config.given(),
            "context": self.context,
            "metadata": self.metadata,
            "multitask_strategy": self.multitask_strategy,
        }


class Answer(Body):
    """The answer to one interrupt."""

    namespace: Namespace = Field(default_factory=list)
    interrupt_id: InterruptId
    response: Any = None


class Respond(Body):
    """Answers to one interrupt, or to several in `responses`."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"strict_resume"})

    namespace: Namespace | None = None
    interrupt_id: InterruptId | None = None
    response: Any = None
    responses: Annotated[list[Answer], Field(min_length=1, max_length=1000)] | None = None
    update: dict[str, Any] | list[Any] | None = None
    goto: str | dict[str, Any] | list[str | dict[str, Any]] | None = None
    config: RunConfig = RunConfig()
    metadata: StorableObject = Field(default_factory=dict)
    strict_resume: bool | None = None
    """Answers are always strict."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.interrupt_id is None) == (self.responses is None):
            raise ValueError("give either `interrupt_id` with `response`, or `responses`")
        ids = [one.interrupt_id for one in self.responses or ()]
        if len(set(ids)) != len(ids):
            raise ValueError("an interrupt is answered twice in `responses`")
        return self

    def answers(self) -> dict[str, Any]:
        """Answers by interrupt id."""
        if self.responses is not None:
            return {one.interrupt_id: one.response for one in self.responses}
        assert self.interrupt_id is not None
        return {self.interrupt_id: self.response}

    def beside(self) -> dict[str, Any]:
        """What goes with the answers: `update` and `goto`."""
        return {key: value for key in ("update", "goto") if (value := getattr(self, key)) is not None}


class Message(Body):
    """A message for the agent."""

    role: Literal["user", "system"]
    content: Text
    name: Text | None = None


class Inject(Body):
    """A message to give to the agent."""

    namespace: Namespace = Field(default_factory=list)
    message: Message


class Tree(Body):
    """Which run."""

    run_id: UUID | None = None


class StateGet(Body):
    """Which state, and what of it."""

    namespace: Namespace = Field(default_factory=list)
    keys: Annotated[list[Text], Field(max_length=1000)] | None = None


class ListCheckpoints(Body):
    """Which checkpoints."""

    namespace: Namespace = Field(default_factory=list)
    limit: Limit = 10
    before: Text | None = None


class Fork(Body):
    """A run to start from a checkpoint."""

    checkpoint_id: Identifier
    input: Any = None
    config: RunConfig = RunConfig()


class Unsubscribe(Body):
    """Which subscription."""

    subscription_id: Text


class Reconnect(Body):
    """What a reader had."""

    run_id: UUID
    last_event_id: Text | None = None
    subscriptions: Annotated[list[Text], Field(max_length=100)] = Field(default_factory=list)


def last_event_id(headers: Mapping[str, str]) -> int | None:
    """Where a reader stands by its `Last-Event-ID`; one that is none of ours says nothing."""
    return _cursor(headers.get("last-event-id", ""))
