"""What the gateway has to know of a tool before it lets a call through."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import rfc8785
from langchain_core.tools import BaseTool
from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from .errors import ToolInvalid
from .schemas import Schema, closed

Effect = Literal["read", "write", "external"]
"""read: changes nothing. write: changes what this server keeps. external: reaches beyond it."""

Risk = Literal["low", "medium", "high", "unknown"]
"""unknown: nobody declared it, as with a plain LangChain tool."""

Source = Literal["declared", "langchain"]
"""declared: through our decorator. langchain: a plain tool found in a graph, described by safe guesses."""

DryRun = Callable[..., Awaitable[Any]]
"""Takes what the tool takes; answers what it would do, as JSON, and does nothing."""


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """Declaration of one tool."""

    name: str
    description: str
    version: str = "1"
    arguments_schema: Mapping[str, Any] | None
    """JSON schema, objects closed. None when the tool has arguments that JSON schema cannot describe;
    then only the tool itself checks them."""
    result_schema: Mapping[str, Any] | None = None
    permissions: Set[str] = frozenset()
    """What a principal must hold, all of it."""
    effect: Effect = "external"
    risk: Risk = "unknown"
    review: bool = False
    """Always ask a person, whatever the risk."""
    timeout_s: float | None = None
    """Deadline of one execution; None: that of the gateway."""
    idempotent: bool = False
    """The tool does its effect once for one idempotency key, so a call that was cut off may be made again."""
    untrusted: bool = False
    """The result is somebody else's text: it is delimited before a model reads it."""
    server_fields: frozenset[str] = frozenset()
    """Parameters that the server fills in; a model that supplies one is refused."""
    source: Source = "declared"
    dry_run: DryRun | None = field(default=None, compare=False)

    @cached_property
    def schema(self) -> Schema | None:
        """The compiled schema of the arguments."""
        return None if self.arguments_schema is None else Schema(self.arguments_schema)

    @cached_property
    def result(self) -> Schema | None:
        """The compiled schema of the result."""
        return None if self.result_schema is None else Schema(self.result_schema)

    @cached_property
    def definition_hash(self) -> str:
        """SHA-256 of everything that was declared: another hash is another tool."""
        definition = {
            "name": self.name,
            "description": self.description,
            "version": self.version,
            "arguments": _json(self.arguments_schema),
            "result": _json(self.result_schema),
            "permissions": sorted(self.permissions),
            "effect": self.effect,
            "risk": self.risk,
            "review": self.review,
            "idempotent": self.idempotent,
            "source": self.source,
        }
        return hashlib.sha256(rfc8785.dumps(definition)).hexdigest()


def derived_spec(tool: BaseTool) -> ToolSpec:
    """Describe a plain LangChain tool: what nobody declared is assumed to be `external` and `unknown`."""
    return ToolSpec(
        name=tool.name,
        description=tool.description,
        version="0",
        arguments_schema=_arguments_of(tool),
        effect="external",
        risk="unknown",
        source="langchain",
    )


def _arguments_of(tool: BaseTool) -> dict[str, Any] | None:
    schema = tool.tool_call_schema
    if isinstance(schema, dict):
        found: Mapping[str, Any] = schema
    elif issubclass(schema, BaseModel):
        try:
            found = schema.model_json_schema()
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            return None
    else:
        found = schema.schema()  # a model of pydantic 1
    result = closed(found)
    try:
        Schema(result)
    except ToolInvalid:
        return None
    return result


def _json(schema: Any) -> Any:
    # Numbers in a schema may be of any size; their text is enough for a hash.
    if isinstance(schema, Mapping):
        return {str(k): _json(v) for k, v in schema.items()}
    if isinstance(schema, list | tuple):
        return [_json(v) for v in schema]
    return schema if isinstance(schema, str | bool | None) else repr(schema)
