"""Request bodies of the store."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator

from ...checkpoints.store import check_address
from ..errors import BadRequest, Invalid
from ..section import Minutes
from .schemas import Body, Limit, Offset, StorableObject, Text, whole

RESERVED_ROOT = "langgraph"
"""First label that LangGraph keeps for itself."""

Labels = list[Text]
Key = Annotated[Text, Field(min_length=1, max_length=1024)]


class ItemKey(Body):
    """Names one item."""

    namespace: Labels = Field(default_factory=list)
    key: Key

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_address(self.namespace, self.key)
        return self

    def writable_namespace(self) -> tuple[str, ...]:
        """The namespace, if an item may be stored there.

        Raises:
            BadRequest: it is empty or reserved.
            Invalid: a label is empty or holds a dot, so that it could not be named in a query.
        """
        if not self.namespace:
            raise BadRequest("Namespace cannot be empty")
        if self.namespace[0] == RESERVED_ROOT:
            raise BadRequest(f"Root label for namespace cannot be {RESERVED_ROOT!r}")
        for label in self.namespace:
            if not label or "." in label:
                raise Invalid(f"Namespace labels cannot be empty or contain periods, this one is {label!r}")
        return tuple(self.namespace)


class ItemPut(ItemKey):
    """An item to store."""

    holds_values: ClassVar[bool] = True

    value: Annotated[dict[str, Any], AfterValidator(whole)]

    @model_validator(mode="before")
    @classmethod
    def _holds_an_object(cls, given: Any) -> Any:
        if isinstance(given, dict) and not isinstance(given.get("value"), dict):
            raise ValueError("`value` must be an object")
        return given

    index: Literal[False] | list[Text] | None = None
    ttl: Minutes | None = None
    """Minutes after which it is gone, counted anew from each read; without it `store.ttl` decides."""


class ItemSearch(Body):
    """Which items."""

    namespace_prefix: Labels = Field(
        default_factory=list, validation_alias=AliasChoices("namespace_prefix", "namespacePrefix")
    )
    filter: StorableObject | None = None
    limit: Limit = 10
    offset: Offset = 0
    query: Text | None = None
    """What is asked, to rank by meaning where `store.index` is configured."""
    refresh_ttl: Annotated[bool | None, Field(validation_alias=AliasChoices("refresh_ttl", "refreshTtl"))] = (
        None
    )


class NamespaceSearch(Body):
    """Which namespaces; `*` stands for any one label."""

    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: Annotated[
        Annotated[int, Field(ge=1, le=100)] | None,
        Field(validation_alias=AliasChoices("max_depth", "maxDepth")),
    ] = None
    limit: Limit = 100
    offset: Offset = 0


def named_namespace(text: str) -> tuple[str, ...]:
    """The namespace that a query names with dots.

    Raises:
        Invalid: it is empty or has an empty label; nothing can be stored there.
    """
    labels = tuple(text.split("."))
    if not all(labels):
        raise Invalid(f"namespace: labels cannot be empty in {text!r}")
    return labels
