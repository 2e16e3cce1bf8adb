"""Request bodies: the wire's names and limits, used by every route that takes such a body."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, get_args
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..domain import ThreadStatus, Ttl, TtlStrategy
from ..records.paging import SortOrder
from ..records.threads import ThreadOrder
from ..runs.state import Place, Update
from ..section import Minutes


class Sent(BaseModel):
    """An object of a client."""

    model_config = ConfigDict(use_attribute_docstrings=True, hide_input_in_errors=True)

    null_is_absent: ClassVar[bool] = True
    """Whether a field that is null counts as left out: many clients write every field they have."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if cls.null_is_absent and isinstance(given, dict):
            return {name: value for name, value in given.items() if value is not None}
        return given


class Body(Sent):
    """A request body. Fields that it does not know are kept aside, to be reported."""

    model_config = ConfigDict(extra="allow")

    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Fields that are taken but say something only to services that Interlock does not call."""

    holds_values: ClassVar[bool] = False
    """Whether input, state or items of the store are inside, which may be large."""

    def unheeded(self) -> Iterator[str]:
        """Names of given fields that change nothing."""
        yield from self.model_extra or ()
        yield from (name for name in self.without_effect if getattr(self, name))
        for name in self.model_fields_set:
            given = getattr(self, name)
            for inner in given if isinstance(given, list) else (given,):
                if isinstance(inner, Body):
                    yield from (f"{name}.{below}" for below in inner.unheeded())

    def given(self) -> dict[str, Any]:
        """The fields that were given."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set
        }


def refuse_unstorable(value: Any) -> Any:
    """Let through what a `jsonb` column can hold exactly.

    Raises:
        ValueError: some text in it holds a NUL character or half of a surrogate pair.
    """
    if _is_ordinary(value):
        return value
    if any("\x00" in text for text in _texts(value)):
        raise ValueError("text must not hold the NUL character")
    return whole(value)


def whole(value: Any) -> Any:
    """Let through what can be written in UTF-8.

    Raises:
        ValueError: some text in it holds half of a surrogate pair.
    """
    if _is_ordinary(value):
        return value
    for text in _texts(value):
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("text must not hold half of a surrogate pair")
    return value


def _is_ordinary(value: Any) -> bool:
    """Whether nothing odd can be in it, so that it need not be walked: orjson is a hundred times as fast."""
    try:
        return b"\\u0000" not in orjson.dumps(value)
    except TypeError:
        return False


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, inner in value.items():
                yield name
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
        case _:
            return


Text = Annotated[str, AfterValidator(refuse_unstorable)]
"""Text of a client, in a body as in a parameter: a bare `str` would bear a NUL into a statement."""
Identifier = Annotated[Text, Field(min_length=1, max_length=255)]
Name = Annotated[Text, Field(min_length=1, max_length=100_000)]
StorableObject = Annotated[dict[str, Any], AfterValidator(refuse_unstorable)]
"""An object that a `jsonb` column can hold."""
Limit = Annotated[int, Field(ge=1, le=1000)]
Offset = Annotated[int, Field(ge=0, le=2**62)]
MetadataFilter = StorableObject | None


def _graphless(value: Any) -> Any:
    # JavaScript clients send `{"graph_id": undefined}`, which some of them write as null.
    if isinstance(value, dict) and value.get("graph_id", "") is None:
        return {name: inner for name, inner in value.items() if name != "graph_id"}
    return value


ThreadMetadata = Annotated[StorableObject, BeforeValidator(_graphless)]

# --- threads -------------------------------------------------------------------------------------

ThreadField = Literal[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "context",
    "status",
    "values",
    "interrupts",
    "error",
]


class CommandBody(Body):
    """What re-enters a thread."""

    resume: Any = None
    update: dict[str, Any] | list[Any] | None = None
    goto: str | dict[str, Any] | list[str | dict[str, Any]] | None = None
    """A node, `{"node", "input"}`, or a list of those."""


class SuperstepUpdate(Body):
    """What one node would have written."""

    values: Any = None
    command: CommandBody | None = None
    as_node: Identifier

    def update(self) -> Update:
        """As the rules of state take it."""
        command = self.command.given() if self.command else None
        return Update(values=self.values, command=command, as_node=self.as_node)


class Superstep(Body):
    """Updates that happen together."""

    updates: Annotated[list[SuperstepUpdate], Field(min_length=1)]


class TtlBody(Body):
    """How long a thread is kept after its last change."""

    ttl: Minutes
    """In minutes."""
    strategy: TtlStrategy = "delete"
    """`keep_latest` deletes the history only."""

    def ttl_of(self) -> Ttl:
        """As the rules of threads take it."""
        return Ttl(timedelta(minutes=self.ttl), self.strategy)


def _minutes_alone(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"ttl": value} if is_number else value


ThreadTtl = Annotated[TtlBody, BeforeValidator(_minutes_alone)]
"""A time to live, or its minutes alone."""


class ThreadCreate(Body):
    """A new thread, with the state it begins with."""

    holds_values: ClassVar[bool] = True

    thread_id: UUID | None = None
    metadata: ThreadMetadata = Field(default_factory=dict)
    if_exists: Literal["raise", "do_nothing"] = "raise"
    supersteps: list[Superstep] | None = None
    ttl: ThreadTtl | None = None
    """How long to keep it: minutes, or `{"ttl", "strategy"}`."""

    def updates(self) -> list[list[Update]]:
        """The supersteps as the rules of state take them."""
        return [[one.update() for one in step.updates] for step in self.supersteps or ()]


class ThreadPatch(Body):
    """What to merge into a thread's metadata, and how long to keep it from now on."""

    metadata: ThreadMetadata = Field(default_factory=dict)
    ttl: ThreadTtl | None = None


class ThreadCount(Body):
    """Which threads."""

    metadata: MetadataFilter = None
    values: MetadataFilter = None
    status: ThreadStatus | None = None


class ThreadSearch(ThreadCount):
    """Which threads, in which order, and which page of them."""

    ids: list[UUID] | None = None
    limit: Limit = 10
    offset: Offset = 0
    sort_by: ThreadOrder | None = None
    sort_order: SortOrder | None = None
    select: list[ThreadField] | None = None
    extract: dict[Text, Text] | None = None
    """Alias → path below `values`, `metadata`, `config` or `interrupts`: `values.messages[-1].content`."""

    @model_validator(mode="before")
    @classmethod
    def _orders_alike(cls, given: Any) -> Any:
        """Takes `order_by: "created_at ASC"` as well, as another server of this API has it."""
        if not isinstance(given, dict) or "sort_by" in given or not isinstance(given.get("order_by"), str):
            return given
        column, _, direction = given["order_by"].lower().partition(" ")
        if column not in get_args(ThreadOrder) or direction not in ("", *get_args(SortOrder)):
            return given
        others = {name: value for name, value in given.items() if name != "order_by"}
        return {"sort_by": column, "sort_order": direction or None} | others


class ThreadPrune(Body):
    """Threads to delete, or to cut down to their last state."""

    thread_ids: Annotated[list[UUID], Field(max_length=1000)]
    strategy: Literal["delete", "keep_latest"] = "delete"


# --- state ---------------------------------------------------------------------------------------


class CheckpointPlace(Body):
    """A checkpoint of a thread, as a state shows it; without an id the latest one."""

    thread_id: Text | None = None
    checkpoint_ns: Text = ""
    checkpoint_id: Text | None = None
    checkpoint_map: StorableObject | None = None

    def unheeded(self) -> Iterator[str]:
        """Nothing: clients send a whole `configurable` for a place, with keys of their own in it."""
        return iter(())

    def place(self) -> Place:
        """As the rules of state take it."""
        return Place(
            checkpoint_id=self.checkpoint_id,
            checkpoint_ns=self.checkpoint_ns,
            checkpoint_map=self.checkpoint_map,
        )


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("configurable"), dict):
        return value["configurable"]
    return value


def _named(value: Any) -> Any:
    return {"checkpoint_id": value} if isinstance(value, str) else value


PlaceBody = Annotated[CheckpointPlace, BeforeValidator(_unwrapped)]
"""A place as a state shows it, or as a config with one inside."""

PlaceOrId = Annotated[PlaceBody, BeforeValidator(_named)]
"""A place, or only the id of a checkpoint."""


class StateRead(Body):
    """Which state of a thread."""

    checkpoint: PlaceBody = CheckpointPlace()
    subgraphs: bool = False
    select: list[str] | None = None


class StateWrite(Body):
    """What to write into a thread, and as which node."""

    null_is_absent: ClassVar[bool] = False
    """No values at all are something to write, too: as if a node had returned nothing."""
    holds_values: ClassVar[bool] = True

    values: Any = None
    as_node: Text | None = None
    checkpoint: PlaceBody | None = None
    checkpoint_id: Text | None = None

    @property
    def writes(self) -> bool:
        """Whether it says anything to write; an empty body only asks."""
        return bool(self.model_fields_set)

    def place(self) -> Place:
        """Where the new checkpoint branches off."""
        place = (self.checkpoint or CheckpointPlace()).place()
        return replace(place, checkpoint_id=self.checkpoint_id) if self.checkpoint_id else place


class HistorySearch(Body):
    """Which states of a thread."""

    limit: Limit = 1
    before: PlaceOrId | None = None
    metadata: MetadataFilter = None
    checkpoint: PlaceBody = CheckpointPlace()
    """The sub-graph whose states are wanted, by `checkpoint_ns`."""
    select: list[str] | None = None
