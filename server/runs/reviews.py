"""Answers to reviews: what a person decided is checked and recorded before any run is queued.

An answer arrives as the `resume` of a command, in any of the shapes that inboxes send:
`{"decisions": [...]}` (LangChain), `[{"type": "accept", "args": ...}]` (agent inbox), one bare
decision, or a map from interrupt id to one of these. Interrupts that a graph raised itself are not
ours: their answers pass untouched.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import orjson

from ...checkpoints.database import Connection
from ...tools.canonical import NotJson, canonical
from ...tools.policy.budget import DIMENSIONS, Budget, Dimension, Limit, Usage
from ...tools.policy.decisions import Decision, NotADecision, parse_decisions
from ...tools.policy.permissions import Principal
from ...tools.policy.review import Review, ReviewRequest
from ...tools.schemas import Schema
from ..domain import Run, Thread
from ..errors import Conflicting, Forbidden, Invalid
from ..records import reviews as records
from .scope import Rule, permitted

DECIDE = Rule("reviews", "update")
"""What it takes to answer a review; an interrupt of a graph is answered by whoever may run it."""
_INTERRUPT_ID = re.compile(r"[0-9a-f]{32}")
_GRANT_LIMIT = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePlan:
    """How the run that resumes goes on."""

    resume: Any
    """What LangGraph is given as `Command(resume=…)`. None: no command, the run continues with
    input null. Answers to our reviews appear in it only to wake the graph."""
    budget: Budget | None = None
    """Limits of the new run in place of the configured ones, when a budget review was answered."""
    answered: tuple[Review, ...] = ()


async def answer(
    connection: Connection, *, thread: Thread, resume: Any, principal: Principal, four_eyes: bool = False
) -> ResumePlan:
    """Record the decisions in `resume` inside the caller's transaction.

    Args:
        connection: inside that transaction.
        thread: the thread, which is the principal's tenant's.
        resume: what came as the resume of a command.
        principal: who decides.
        four_eyes: whether that must be somebody else than who asked.

    Raises:
        Forbidden: the principal may not decide what `resume` answers.
        Invalid: a decision is malformed, not allowed here, or its edited arguments do not fit.
        Conflicting: the review is already answered, or what the thread waits for cannot be decrypted.
    """
    by_id = await _by_review(connection, thread=thread, resume=resume)
    if not by_id:
        return ResumePlan(resume=resume)
    for review, _ in by_id.values():
        _require_right(review, principal, four_eyes=four_eyes)
    foreign = {k: v for k, v in resume.items() if k not in by_id} if _is_map(resume) else {}
    answered: list[Review] = []
    budget: Budget | None = None
    for review, given in by_id.values():
        decided = await _record(connection, review, given, principal)
        answered.append(decided)
        if decided.kind == "budget":
            budget = _granted(decided)
    wakes = {r.interrupt_id: {"type": r.status} for r in answered if r.kind != "budget"}
    return ResumePlan(resume={**foreign, **wakes} or None, budget=budget, answered=tuple(answered))


async def create_budget_review(connection: Connection, run: Run, *, limit: Limit, usage: Usage) -> Review:
    """Ask whether a run that reached a limit may go on, inside the transaction that ends it."""
    amount = limit.limit if limit.limit > 0 else 1
    asked = {limit.dimension: int(amount) if limit.dimension != "seconds" else amount}
    arguments, arguments_hash = canonical(asked)
    budget = Budget.from_row(run.budget)
    request = ReviewRequest(
        tenant_id=run.tenant_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        kind="budget",
        tool="continue_run",
        tool_version="1",
        tool_call_id=str(run.run_id),
        checkpoint_ns="",
        arguments=arguments,
        arguments_hash=arguments_hash,
        arguments_schema=_grant_schema(limit.dimension),
        description=f"{limit.message[0].upper()}{limit.message[1:]}. Continue with {amount:g} more?",
        allowed=("approve", "edit", "reject"),
        policy_version="budget",
        requested_by=run.principal.subject,
        dry_run=orjson.dumps({"limit": limit.to_row(), "remaining": budget.after(usage, grant={}).to_row()}),
    )
    review, _ = await records.ask(connection, request)
    return review


async def close_others(
    connection: Connection,
    *,
    tenant_id: str,
    thread_id: UUID,
    interrupts: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Close the reviews that a thread no longer waits for, inside the transaction that ends its run.

    Args:
        connection: inside that transaction.
        tenant_id: owner of the thread.
        thread_id: the thread.
        interrupts: what it waits for now, by task.
    """
    kept = [UUID(hex=i) for i in _ids_in(one for waiting in interrupts.values() for one in waiting)]
    await records.supersede(connection, tenant_id=tenant_id, thread_id=thread_id, kept=kept)


def _require_right(review: Review, principal: Principal, *, four_eyes: bool) -> None:
    if not permitted(principal, DECIDE):
        raise Forbidden(f"a decision on {review.tool!r} needs the right `{DECIDE}`")
    if four_eyes and principal.subject == review.requested_by:
        raise Forbidden(f"somebody else must decide on {review.tool!r}: the call was made for yourself")


async def _by_review(
    connection: Connection, *, thread: Thread, resume: Any
) -> dict[str, tuple[Review, Decision]]:
    """The waiting reviews that `resume` answers, by interrupt id."""
    tenant_id = thread.tenant_id

    async def locked(interrupt_ids: Iterable[str]) -> list[Review]:
        ids = [UUID(hex=i) for i in interrupt_ids]
        return await records.lock_of_thread(
            connection, tenant_id=tenant_id, thread_id=thread.thread_id, review_ids=ids
        )

    if _is_map(resume):
        return {r.interrupt_id: (r, _single(r, resume[r.interrupt_id])) for r in await locked(resume)}

    shown = _ids_in(thread.asked)
    waiting = await records.pending(connection, tenant_id=tenant_id, thread_id=thread.thread_id)
    waiting = [r for r in waiting if r.interrupt_id in shown] or waiting
    known = await locked([*shown, *(r.interrupt_id for r in waiting)])
    foreign = set(shown) - {r.interrupt_id for r in known}
    if not waiting:
        if not foreign and _looks_like_decisions(resume):
            await _refuse_second_answer(connection, thread=thread, known=known)
        return {}
    if foreign:
        ids = ", ".join(shown)
        raise Invalid(f"several interrupts wait; answer by interrupt id, which are {ids}")
    answers = _parse(resume)
    # Which of several is meant must not hang on their order, unless all are decided alike.
    if len(answers) != len(waiting) or any(given != answers[0] for given in answers):
        ids = ", ".join(f"{r.interrupt_id} ({r.tool})" for r in waiting)
        raise Invalid(f"{len(waiting)} review(s) wait; answer by interrupt id: {ids}")
    # As they are under the lock: somebody may have answered in between.
    current = {r.review_id: r for r in known}
    return {r.interrupt_id: (current[r.review_id], given) for r, given in zip(waiting, answers, strict=True)}


async def _refuse_second_answer(connection: Connection, *, thread: Thread, known: list[Review]) -> None:
    """A decision where no review waits: it came too late, or it is meant for the graph itself."""
    if known:
        raise Conflicting(_already(known[-1]))
    # While a run is in flight the thread does not yet show what it will wait for.
    if thread.status == "busy":
        return
    newest = await records.newest(connection, tenant_id=thread.tenant_id, thread_id=thread.thread_id)
    if newest is not None:
        raise Conflicting(_already(newest))


async def _record(connection: Connection, review: Review, given: Decision, principal: Principal) -> Review:
    if review.status != "pending":
        raise Conflicting(_already(review))
    if given.type not in review.allowed:
        allowed = ", ".join(review.allowed)
        raise Invalid(f"{given.type!r} is not allowed for {review.tool!r}; allowed are {allowed}")
    content: dict[str, Any] | None = None
    if given.type == "edit":
        # Off the loop: whoever edits decides how much there is to check.
        content = {"arguments": await asyncio.to_thread(_checked_edit, review, given)}
    elif given.message is not None:
        content = {"message": given.message}
    decided = await records.decide(
        connection, review, decision=given.type, answer=content, decided_by=principal.subject
    )
    if decided is None:
        raise Conflicting(_already(review))
    return decided


def _checked_edit(review: Review, given: Decision) -> dict[str, Any]:
    if given.action is not None and given.action != review.tool:
        raise Invalid(f"an edit cannot change the tool: {review.tool!r} was asked, not {given.action!r}")
    arguments = given.arguments or {}
    schema = Schema(review.arguments_schema) if review.arguments_schema is not None else None
    try:
        problem = schema.problem(arguments) if schema is not None else None
        if problem is not None and schema is not None:
            arguments = _without_texts(arguments, asked=review.arguments)
            if schema.problem(arguments) is not None:
                raise Invalid(f"the edited arguments of {review.tool!r} do not fit: {problem}")
        canonical(arguments)
    except NotJson as error:
        raise Invalid(f"the edited arguments of {review.tool!r} are not JSON: {error}") from error
    return arguments


def _without_texts(arguments: dict[str, Any], *, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with each text read as JSON that stands where no text was asked about.

    Inboxes show every argument in a text field, and send what was typed there as a text.
    """

    def read(name: str, value: Any) -> Any:
        if not isinstance(value, str) or isinstance(asked.get(name, ""), str):
            return value
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value

    return {name: read(name, value) for name, value in arguments.items()}


def _granted(review: Review) -> Budget:
    """The budget of the run that continues after its budget review."""
    remaining = Budget.from_row(review.dry_run["remaining"])
    if review.status == "rejected":
        return replace(remaining, on_limit="stop")
    grant = (review.answer or {}).get("arguments", review.arguments)
    limits: dict[str, Any] = {}
    for dimension in DIMENSIONS:
        if (more := grant.get(dimension)) is not None:
            # JSON Schema takes 5.0 for an integer: to many clients it is the same number.
            more = more if dimension == "seconds" else int(more)
            limits[dimension] = (remaining.limit(dimension) or 0) + more
    return replace(remaining, **limits)


def _grant_schema(dimension: Dimension) -> dict[str, Any]:
    kind = (
        {"type": "number", "exclusiveMinimum": 0}
        if dimension == "seconds"
        else {"type": "integer", "minimum": 1}
    )
    return {
        "type": "object",
        "properties": {dimension: {**kind, "maximum": _GRANT_LIMIT}},
        "required": [dimension],
        "additionalProperties": False,
    }


def _already(review: Review) -> str:
    if review.status == "superseded":
        return f"the review of {review.tool!r} is closed: the thread went another way"
    return f"the review of {review.tool!r} is already answered ({review.status})"


def _ids_in(asked: Iterable[Mapping[str, Any]]) -> list[str]:
    return [one["id"] for one in asked if _INTERRUPT_ID.fullmatch(one["id"])]


def _is_map(resume: Any) -> bool:
    return isinstance(resume, dict) and bool(resume) and all(_INTERRUPT_ID.fullmatch(k) for k in resume)


def _looks_like_decisions(resume: Any) -> bool:
    try:
        return bool(_parse(resume))
    except Invalid:
        return False


def _single(review: Review, value: Any) -> Decision:
    answers = _parse(value)
    if len(answers) != 1:
        raise Invalid(f"the review of {review.tool!r} takes one decision, not {len(answers)}")
    return answers[0]


def _parse(resume: Any) -> list[Decision]:
    try:
        return parse_decisions(resume)
    except NotADecision as error:
        raise Invalid(str(error)) from error
