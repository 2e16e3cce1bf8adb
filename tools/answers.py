"""What a person is asked about a call, and what the model hears instead of a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import ToolMessage

from .audit import Outcome, Stage
from .checks import CallRequest, CheckedCall
from .egress import EgressRefused
from .errors import OutcomeUnknown, ResultInvalid, RetryTool, ToolFailed
from .ledger import LedgerEntry, LedgerState, ToolResult
from .policy.review import ALL_DECISIONS, DecisionType, Review, ReviewKind, ReviewRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a call ended without a result of its own."""

    message: ToolMessage
    stage: Stage
    outcome: Outcome
    reason: str
    state: LedgerState = "failed"
    """For the ledger. `succeeded`: the message is the answer for ever."""


def message(
    request: CallRequest, text: str, outcome: Outcome, *, status: str = "error", review: Review | None = None
) -> ToolMessage:
    """A message in place of the tool's own; a client reads its cause under `interlock`."""
    facts = {"outcome": outcome, **({"review_id": str(review.review_id)} if review else {})}
    return ToolMessage(
        content=text,
        name=request.name,
        tool_call_id=request.tool_call_id,
        status="success" if status == "success" else "error",
        additional_kwargs={"interlock": facts},
    )


def refusal(request: CallRequest, reason: str) -> ToolMessage:
    """What the model hears of a call that was refused."""
    return message(request, f"Refused: {reason}.", "refused")


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
        tool_call_id=request.tool_call_id,
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
    if review.status == "responded":
        text = review.message or ""
        return Ending(
            message=message(request, text, "responded", status="success", review=review),
            stage="review",
            outcome="responded",
            reason=f"answered by {review.decided_by}",
        )
    told = f" with reason: {review.message}" if review.message else ""
    if review.kind == "outcome":
        text = f"`{request.name}` was cut off and is not run again{told}. It may have taken effect."
    else:
        text = (
            f"User rejected the tool call for `{request.name}`{told}. It was not executed. Do not try "
            "it again unless the user asks for it."
        )
    return Ending(
        message=message(request, text, "rejected", review=review),
        stage="review",
        outcome="rejected",
        reason=f"rejected by {review.decided_by}",
    )


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
        message=message(call.request, text, outcome), stage=stage, outcome=outcome, reason=reason, state=state
    )


def with_notice(result: ToolResult, call: CheckedCall) -> ToolResult:
    """Tell the model that a person changed its call before it ran."""
    if not isinstance(result, ToolMessage) or not isinstance(result.content, str):
        return result
    notice = (
        "Note: a person changed this call before it ran. It ran with these arguments: "
        f"{call.canonical.text.decode()}. Do not repeat your original call."
    )
    return result.model_copy(update={"content": f"{notice}\n\n{result.content}"})
