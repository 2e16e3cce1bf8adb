"""Decisions in the shapes that inboxes send."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.tools.policy.decisions import Decision, NotADecision, parse_decisions

EDIT = Decision(type="edit", action="send", arguments={"to": "ann"})


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ({"type": "approve"}, Decision(type="approve")),
        ({"type": "accept", "args": None}, Decision(type="approve")),
        ({"type": "edit", "edited_action": {"name": "send", "args": {"to": "ann"}}}, EDIT),
        ({"type": "edit", "args": {"action": "send", "args": {"to": "ann"}}}, EDIT),
        ({"type": "reject"}, Decision(type="reject")),
        ({"type": "reject", "message": "no"}, Decision(type="reject", message="no")),
        ({"type": "ignore", "args": None}, Decision(type="reject")),
        ({"type": "respond", "message": "Done."}, Decision(type="respond", message="Done.")),
        ({"type": "response", "args": "Done."}, Decision(type="respond", message="Done.")),
    ],
)
def test_each_decision_is_read_alone_in_a_list_and_under_its_key(
    answer: dict[str, Any], decision: Decision
) -> None:
    assert parse_decisions(answer) == [decision]
    assert parse_decisions([answer, answer]) == [decision, decision]
    assert parse_decisions({"decisions": [answer]}) == [decision]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "this is no decision"),
        ("approve", "this is no decision"),
        ([], "this is no decision"),
        ({"decisions": None}, "this is no decision"),
        ({"decisions": "approve"}, "this is no decision"),
        (["approve"], "this is no decision"),
        ({}, "None is no decision"),
        ({"type": "perhaps"}, "'perhaps' is no decision"),
        ({"type": ["approve"]}, "is no decision"),
        ({"type": "edit", "edited_action": {"name": "send"}}, "an edit needs `edited_action"),
        ({"type": "edit", "edited_action": {"name": 1, "args": {}}}, "the `name` of an edited action"),
        ({"type": "respond"}, "the `message` of a 'respond' decision"),
        ({"type": "reject", "message": 1}, "the `message` of a 'reject' decision"),
        ({"type": "respond", "message": "x" * 100_001}, "the `message` of a 'respond' decision"),
    ],
)
def test_what_is_no_decision_is_told(answer: Any, problem: str) -> None:
    with pytest.raises(NotADecision, match=problem):
        parse_decisions(answer)
