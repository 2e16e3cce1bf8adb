"""Request bodies of the assistant routes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from ..records.assistants import AssistantOrder
from ..records.paging import SortOrder
from .schemas import Body, Identifier, Limit, MetadataFilter, Name, Offset, StorableObject, Text

AssistantField = Literal[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "created_at",
    "updated_at",
    "metadata",
    "version",
]


class AssistantCreate(Body):
    """A new assistant."""

    graph_id: Identifier
    assistant_id: UUID | None = None
    config: StorableObject = Field(default_factory=dict)
    context: StorableObject = Field(default_factory=dict)
    metadata: StorableObject = Field(default_factory=dict)
    name: Name | None = None
    description: Text | None = None
    if_exists: Literal["raise", "do_nothing"] = "raise"


class AssistantPatch(Body):
    """Changes that make the next version of an assistant; what is left out stays."""

    null_is_absent: ClassVar[bool] = False

    graph_id: Identifier | None = None
    config: StorableObject | None = None
    context: StorableObject | None = None
    metadata: StorableObject | None = None
    name: Name | None = None
    description: Text | None = None

    def changes(self) -> dict[str, Any]:
        """What the request names; null means "as before", but for the description, which it empties."""
        return {
            name: value for name, value in self.given().items() if value is not None or name == "description"
        }


class AssistantCount(Body):
    """Which assistants."""

    metadata: MetadataFilter = None
    graph_id: Text | None = None
    name: Text | None = None


class AssistantSearch(AssistantCount):
    """Which assistants, in which order, and which page of them."""

    limit: Limit = 10
    offset: Offset = 0
    sort_by: AssistantOrder | None = None
    sort_order: SortOrder | None = None
    select: list[AssistantField] | None = None


class VersionSearch(Body):
    """Which versions of an assistant."""

    metadata: MetadataFilter = None
    limit: Limit = 10
    offset: Offset = 0


class VersionChoice(Body):
    """The version to return to."""

    version: Annotated[int, Field(ge=1, lt=2**31)]
