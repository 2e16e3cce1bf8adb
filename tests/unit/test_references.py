"""Which states the log refers to, and which it holds."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from interlock.server.records.references import is_reference, reference_to


class OwnMessage(HumanMessage):
    pass


def saved(channel: str, value: Any) -> str | None:
    return f"{channel}.1"


def not_saved(channel: str, value: Any) -> str | None:
    return None


TALK = [HumanMessage(content="hi"), AIMessage(content="yo"), ToolMessage(content="x", tool_call_id="1")]


def test_a_conversation_that_is_saved_is_referred_to() -> None:
    reference = reference_to({"messages": TALK, "x": {"y": 1}}, saved)
    assert reference is not None
    assert is_reference(reference)
    assert b"messages.1" in reference
    assert b'{"y":1}' in reference
    assert b"yo" not in reference


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"x": ["a"] * 10},
        {"messages": []},
        {"messages": [*TALK, OwnMessage(content="mine")]},
        {"messages": [*TALK, ToolMessage(content="x", tool_call_id="2", artifact=object())]},
        {"messages": TALK, "__interrupt__": []},
        TALK,
        "text",
        None,
    ],
)
def test_everything_else_is_stored_as_it_is(state: Any) -> None:
    assert reference_to(state, saved) is None


def test_a_conversation_that_no_checkpoint_holds_is_stored() -> None:
    assert reference_to({"messages": TALK}, not_saved) is None


def test_no_json_text_looks_like_a_reference() -> None:
    assert not any(is_reference(text) for text in (b"{}", b"null", b'"\\u0001"', b"1", b""))
