"""What a run asks as interrupts of AG-UI, and the answers that the next run brings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ag_ui.core import Interrupt, ResumeEntry

from ...errors import Conflicting, Invalid
from ..speech import asked, waits_for
from ..waiting import Waiting, actions_of, decided, decisions

BREAKPOINT = "breakpoint"
"""Id of what stands for a run that stopped before a node without asking anything."""
_NO_ANSWER = "the thread waits for answers: send `resume` with an entry for each of {ids}"


def interrupts_of(pending: Sequence[dict[str, Any]]) -> list[Interrupt]:
    """What a run that waits asks; a breakpoint asks whether to go on."""
    if not pending:
        return [Interrupt(id=BREAKPOINT, reason="confirmation", message=waits_for([]))]
    return [_interrupt(one) for one in pending]


def _interrupt(one: dict[str, Any]) -> Interrupt:
    value: Any = one.get("value")
    schema = one.get("response_schema")
    more: dict[str, Any] = {"reason": "input_required"}
    if actions_of(value):
        more = {"reason": "confirmation", "response_schema": _decision_schema(value)}
        review = value.get("review") or {}
        if review.get("kind") == "tool":
            more |= {"reason": "tool_call", "tool_call_id": review.get("tool_call_id")}
    elif isinstance(schema, dict):
        more["response_schema"] = schema
    metadata = {"langgraph": {"value": value}}
    return Interrupt(id=one["id"], message=asked(value), metadata=metadata, **more)


def _decision_schema(value: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {"approved": {"type": "boolean"}, "message": {"type": "string"}}
    allowed = {
        decision
        for config in value.get("review_configs") or ()
        for decision in config.get("allowed_decisions") or ()
    }
    if "edit" in allowed and len(actions_of(value)) == 1:
        properties["editedArgs"] = {"type": "object"}
    return {"type": "object", "properties": properties, "required": ["approved"]}


def resume_of(waiting: Waiting, entries: Sequence[ResumeEntry]) -> dict[str, Any] | None:
    """The answers by interrupt id; None where a thread only has to go on.

    Raises:
        Conflicting: something that waits has no answer.
        Invalid: an answer is none, or a breakpoint is given up.
    """
    by_id = {entry.interrupt_id: entry for entry in entries}
    ids = waiting.ids or [BREAKPOINT]
    if any(one not in by_id for one in ids):
        raise Conflicting(_NO_ANSWER.format(ids=", ".join(ids)))
    if waiting.interrupts:
        return {one: _answer(waiting.value(one), by_id[one]) for one in ids}
    if by_id[BREAKPOINT].status == "cancelled":
        raise Invalid("a breakpoint can only be passed: send `resolved`")
    return None


def _answer(value: Any, entry: ResumeEntry) -> Any:
    if entry.status == "cancelled":
        # Nobody decided, and no is the answer that does nothing.
        return decisions(value, {"type": "reject"}) if actions_of(value) else None
    payload = entry.payload
    if isinstance(payload, str):
        return decided(value, payload)
    if not actions_of(value):
        return payload
    match payload:
        case bool():
            return decisions(value, {"type": "approve" if payload else "reject"})
        case {"approved": bool(approved)}:
            return decisions(value, _decision(value, approved, payload))
        case _:
            return payload


def _decision(value: Any, approved: bool, payload: dict[str, Any]) -> dict[str, Any]:
    if not approved:
        message = payload.get("message")
        return {"type": "reject", **({"message": message} if message else {})}
    if (edited := payload.get("editedArgs")) is None:
        return {"type": "approve"}
    requests = actions_of(value)
    if len(requests) != 1 or not isinstance(edited, dict):
        raise Invalid("`editedArgs` must be an object, and answers an interrupt about one action")
    return {"type": "edit", "edited_action": {"name": requests[0].get("name"), "args": edited}}
