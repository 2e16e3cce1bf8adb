"""What a person is asked about a call, and what the model hears instead of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

from langchain_core.messages import ToolCall, ToolMessage

from .audit import Outcome, Stage
from .checks import CallRequest, CheckedCall
from .egress import EgressRefused
from .errors import OutcomeUnknown, ResultInvalid, RetryTool, ToolFailed
from .ledger import LedgerEntry, LedgerState, ToolResult
from .policy.review import ALL_DECISIONS, DecisionType, Review, ReviewKind, ReviewRequest

_FACTS = "interlock"
_NOTICE_END = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a call ended without a result of its own."""

    message: ToolMessage
    stage: Stage
    outcome: Outcome
    reason: str
    state: LedgerState = "failed"
    """For the ledger. `succeeded`: the message is the answer for ever."""


class CallFacts(TypedDict, total=False):
    """What became of a call, for programs; a message of the gateway carries it under `interlock`."""

    outcome: Outcome
    reason: str
    """Why there is no result of the tool; of a rejection what the person wrote."""
    review_id: str
    arguments: Mapping[str, Any]
    """With which the call ran after a person changed them."""


def facts_of(message: ToolMessage) -> CallFacts:
    """What the gateway noted of a call; nothing for a message that is not from it."""
    facts = message.additional_kwargs.get(_FACTS)
    return cast("CallFacts", facts) if isinstance(facts, dict) else {}


def _message(
    request: CallRequest,
    text: str,
    outcome: Outcome,
    *,
    reason: str,
    status: Literal["success", "error"] = "error",
    review: Review | None = None,
) -> ToolMessage:
    """A message in place of the tool's own, with its facts."""
    facts = CallFacts(outcome=outcome, reason=reason)
    if review is not None:
        facts["review_id"] = str(review.review_id)
    return ToolMessage(
        content=text,
        name=request.name,
        tool_call_id=request.tool_call_id,
        status=status,
        additional_kwargs={_FACTS: facts},
    )


def refusal(request: CallRequest, reason: str) -> ToolMessage:
    """What the model hears of a call that was refused."""
    return _message(request, f"Refused: {reason}.", "refused", reason=reason)


def unkept(request: CallRequest) -> ToolMessage:
    """What the model hears when the call was made before and its result is not there any more."""
    text = "This call was already made and succeeded. Its result could not be kept."
    return _message(request, text, "replayed", reason="its result could not be kept", status="success")


def stopped(call: ToolCall) -> ToolMessage:
    """What stands for the result of a call that a stopped run left open: providers insist on one."""
    return ToolMessage(
        "Cancelled: the run was stopped before this tool call had a result.",
        tool_call_id=call["id"] or "",
        name=call["name"],
        status="error",
    )


def tool_question(call: CheckedCall, *, dry_run: bytes | None = None) -> ReviewRequest:
    """May this call be made?"""
    spec = call.spec
    description = (
        f"`{spec.name}` asks to run. Effect: {spec.effect}, risk: {spec.risk}.\n\n{spec.description}"
    )
    return _question(call, "tool", description, allowed=ALL_DECISIONS, dry_run=dry_run)


def outcome_question(call: CheckedCall, entry: LedgerEntry) -> ReviewRequest:
    """A call was cut off: what became of it?"""
    description = (
        f"`{call.spec.name}` was cut off while it ran, and nobody knows whether it took effect. Find out, "
        "then approve to run it again, respond with its result, or reject to leave it undone."
    )
    # Each cut-off is a question of its own.
    allowed: Sequence[DecisionType] = ("approve", "reject", "respond")
    return _question(call, "outcome", description, allowed=allowed, round_=entry.starts)


def _question(
    call: CheckedCall,
    kind: ReviewKind,
    description: str,
    *,
    allowed: Sequence[DecisionType],
    dry_run: bytes | None = None,
    round_: int = 0,
) -> ReviewRequest:
    passage, request = call.passage, call.request
    return ReviewRequest(
        tenant_id=passage.run.tenant_id,
        thread_id=passage.run.thread_id,
        run_id=passage.run.run_id,
        kind=kind,
        tool=call.spec.name,
        tool_version=call.spec.version,
        definition_hash=call.spec.definition_hash,
        tool_call_id=request.stored_id,
        checkpoint_ns=request.checkpoint_ns,
        arguments=call.canonical.text,
        arguments_hash=call.canonical.hash,
        arguments_schema=call.spec.arguments_schema,
        description=description,
        allowed=allowed,
        policy_version=passage.policy_version,
        requested_by=passage.principal.subject,
        dry_run=dry_run,
        round=round_,
    )


def decided(review: Review, request: CallRequest) -> Ending:
    """What the model hears when a person rejected the call or answered in the tool's place."""
    by = f"by {review.decided_by}"
    told = review.message or ""
    if review.status == "responded":
        reason = "a person answered in its place"
        answer = _message(request, told, "responded", reason=reason, status="success", review=review)
        return Ending(message=answer, stage="review", outcome="responded", reason=f"answered {by}")
    with_reason = f" with reason: {told}" if told else ""
    if review.kind == "outcome":
        reason = f"it was cut off and is not run again{with_reason}"
        text = f"`{request.name}` was cut off and is not run again{with_reason}. It may have taken effect."
        answer = _message(request, text, "unknown", reason=reason, review=review)
    else:
        text = (
            f"User rejected the tool call for `{request.name}`{with_reason}. It was not executed. Do not try "
            "it again unless the user asks for it."
        )
        answer = _message(request, text, "rejected", reason=told, review=review)
    return Ending(message=answer, stage="review", outcome="rejected", reason=f"rejected {by}")


def ending(call: CheckedCall, error: Exception, *, deadline_s: float | None) -> Ending | None:
    """How a call ended that raised; None for an error that only the graph can judge.

    Args:
        call: the call.
        error: what was raised.
        deadline_s: the deadline, if that is what ended it.
    """
    if deadline_s is not None:
        reason = f"no answer in {deadline_s:g} s"
        if call.spec.effect == "read":
            return _ended(call, f"Error: {reason}.", "failed", reason, state="failed")
        text = f"Error: {reason}. Whether it took effect is unknown; do not try again on your own."
        return _ended(call, text, "unknown", reason, state="unknown")
    reason = str(error) or type(error).__name__
    match error:
        case EgressRefused():
            return _ended(call, f"Refused: {reason}.", "refused", reason, state="succeeded")
        case ToolFailed():
            return _ended(call, f"Error: {reason}.", "failed", reason, state="succeeded")
        case RetryTool():
            return _ended(call, f"Error: {reason}. It may be tried again.", "failed", reason, state="failed")
        case OutcomeUnknown():
            text = f"Error: {reason}. Whether it took effect is unknown; do not try again on your own."
            return _ended(call, text, "unknown", reason, state="unknown")
        case ResultInvalid():
            return _ended(call, f"Error: {reason}.", "failed", reason, state="succeeded", stage="result")
        case _:
            return None


def interrupted(call: CheckedCall) -> Ending:
    """The tool itself asks somebody: LangGraph runs it again from its start."""
    return _ended(call, "", "waiting", "the tool interrupted the graph", state="failed")


def raised(call: CheckedCall, error: Exception) -> Ending:
    """The tool raised, and what that means is for the graph to say."""
    return _ended(call, "", "failed", f"{type(error).__name__}: {error}", state="failed")


def _ended(
    call: CheckedCall,
    text: str,
    outcome: Outcome,
    reason: str,
    *,
    state: LedgerState,
    stage: Stage = "execute",
) -> Ending:
    return Ending(
        message=_message(call.request, text, outcome, reason=reason),
        stage=stage,
        outcome=outcome,
        reason=reason,
        state=state,
    )


def with_notice(result: ToolResult, call: CheckedCall, review: Review) -> ToolResult:
    """Tell the model that a person changed its call before it ran."""
    if not isinstance(result, ToolMessage):
        return result
    # One paragraph: canonical JSON has no line breaks.
    notice = (
        "Note: a person changed this call before it ran. It ran with these arguments: "
        f"{call.canonical.text.decode()}. Do not repeat your original call."
    )
    facts: CallFacts = {"review_id": str(review.review_id), "arguments": call.request.arguments}
    text, content = f"{notice}{_NOTICE_END}", result.content
    return result.model_copy(
        update={
            "content": f"{text}{content}"
            if isinstance(content, str)
            else [{"type": "text", "text": text}, *content],
            "additional_kwargs": {**result.additional_kwargs, _FACTS: facts},
        }
    )


def without_notice(message: ToolMessage) -> str:
    """The text of a result as the tool gave it, whether or not a person changed the call."""
    changed = "arguments" in facts_of(message)
    return message.text.partition(_NOTICE_END)[2] if changed else message.text
