"""Keeps short notes of a person in LangGraph's long-term store."""

from __future__ import annotations

from typing import Annotated

from langgraph.store.base import BaseStore
from pydantic import Field
from typing_extensions import TypedDict

from ..context import ToolContext
from ..errors import ToolFailed
from ..tool import tool

_SHOWN = 20

TEXT_LIMIT = 10_000
"""Characters of one note."""

Title = Annotated[str, Field(description="Short name of the note", min_length=1, max_length=100)]


class Note(TypedDict):
    """One note."""

    title: str
    text: str


@tool(effect="read", risk="low", permissions={"notes:read"}, untrusted=True)
async def note_read(
    context: ToolContext,
    title: Annotated[
        str | None, Field(description="Name of one note; leave out to list the newest", max_length=100)
    ] = None,
) -> list[Note]:
    """Read one note by its title, or list the newest notes of the person you talk to."""
    store = _store(context)
    if title is not None:
        item = await store.aget(_namespace(context), title)
        return [] if item is None else [Note(title=title, text=item.value["text"])]
    found = await store.asearch(_namespace(context), limit=_SHOWN)
    return [Note(title=item.key, text=item.value["text"]) for item in found]


@tool(effect="write", risk="low", permissions={"notes:write"}, idempotent=True)
async def note_write(
    context: ToolContext,
    title: Title,
    text: Annotated[str, Field(description="What to remember", min_length=1, max_length=TEXT_LIMIT)],
) -> str:
    """Write a note for the person you talk to; a note of the same title is replaced."""
    await _store(context).aput(_namespace(context), title, {"text": text})
    return f"The note {title!r} is written."


def _namespace(context: ToolContext) -> tuple[str, ...]:
    # The store refuses dots in a namespace, and a subject may be an address.
    return ("notes", context.principal.subject.replace("%", "%25").replace(".", "%2E"))


def _store(context: ToolContext) -> BaseStore:
    if context.store is None:
        raise ToolFailed("this graph runs without a store, so there are no notes")
    return context.store
