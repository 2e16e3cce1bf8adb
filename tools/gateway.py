"""The one path of every tool call, in a fixed order. Every attempt leaves a row, a refused one too.

resolve → canonicalise → schema → bind → policy (`checks.py`) → ledger → dry run → review → budget →
execute → result → settle. The budget is taken with the claim of the ledger, so that a call that is
only answered again, or still waits, costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp

from ..checkpoints.database import Connection, Database
from . import audit
from .answers import (
    Ending,
    decided,
    ending,
    interrupted,
    outcome_question,
    raised,
    refusal,
    tool_question,
    unkept,
    with_notice,
)
from .audit import Attempt
from .checks import CallRequest, CheckedCall, Checks, GatewayOptions, Refused
from .context import Leave, RunScope, ToolContext, leave
from .dry_run import foreseen
from .egress import Egress
from .errors import BudgetReached
from .ledger import Ledger, LedgerEntry, LedgerState, ToolResult
from .policy.budget import Meter
from .policy.cedar import Policies
from .policy.permissions import Principal
from .policy.review import Review, ReviewPending, ReviewRecords, ReviewRequest
from .registry import Registry
from .results import prepared

Execute = Callable[[dict[str, Any]], Awaitable[ToolResult]]
"""Runs the tool itself with the given arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """On whose account a call is made."""

    principal: Principal
    run: RunScope
    meter: Meter


@dataclass(frozen=True, slots=True)
class _Answered:
    """The call has its answer without being executed."""

    result: ToolResult


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A person has to answer first."""

    review: Review


@dataclass(frozen=True, slots=True)
class _Executing:
    """The same call is being executed here, for a step that is tried again meanwhile."""

    ended: asyncio.Event


@dataclass(frozen=True, slots=True)
class _Claimed:
    """The call is ours to execute."""

    call: CheckedCall
    start_id: UUID
    review: Review | None


_Admission = _Answered | _Waiting | _Executing | _Claimed


class Gateway:
    """Decides, executes, remembers and proves tool calls. One for each event loop."""

    def __init__(
        self,
        *,
        registry: Registry,
        policies: Policies,
        database: Database,
        reviews: ReviewRecords,
        egress: Egress,
        options: GatewayOptions,
    ) -> None:
        self.registry = registry
        self.options = options
        self._checks = Checks(registry=registry, policies=policies, options=options)
        self._database = database
        self._reviews = reviews
        self._egress = egress
        self._ledger = Ledger()
        self._executing: dict[str, asyncio.Event] = {}

    async def call(self, request: CallRequest, *, caller: Caller, execute: Execute) -> ToolResult:
        """Let one call through, or answer the model why not.

        Raises:
            ReviewPending: a person is asked; the graph stops and comes back here when it runs again.
            BudgetReached: the run has no tool call left.
            FenceLost: another worker carries this thread now.
        """
        passage = self._checks.begin(request, principal=caller.principal, run=caller.run)
        try:
            call = self._checks.run(passage, tool_calls=caller.meter.usage.tool_calls)
            admission = await self._admit(call, caller)
            while isinstance(admission, _Executing):
                await admission.ended.wait()
                admission = await self._admit(call, caller)
            match admission:
                case _Answered(result):
                    return result
                case _Waiting(review):
                    raise ReviewPending([review])
                case claimed:
                    with self._marked(claimed.call):
                        return await self._execute(claimed, caller, execute)
        except BudgetReached as spent:
            await self.record(passage.attempt(stage="budget", outcome="refused", reason=spent.limit.message))
            raise
        except Refused as refused:
            await self.record(passage.attempt(stage=refused.stage, outcome="refused", reason=refused.reason))
            return refusal(request, refused.reason)

    def bypass(
        self, caller: Caller, name: str, arguments: str, tool_call_id: str, *, refused: bool
    ) -> Attempt:
        """The audit row of a tool that was seen outside the gateway; for `record`."""
        request = CallRequest(
            name=name, tool=None, arguments={"input": arguments}, tool_call_id=tool_call_id, checkpoint_ns=""
        )
        passage = self._checks.begin(request, principal=caller.principal, run=caller.run)
        return passage.attempt(
            stage="resolve",
            outcome="refused" if refused else "bypassed",
            reason="the tool was called past the gateway",
        )

    async def record(self, attempt: Attempt) -> None:
        """Append an attempt to the audit."""
        async with self._database.connection() as connection:
            await audit.record(connection, attempt)

    async def _admit(self, call: CheckedCall, caller: Caller) -> _Admission:
        question = tool_question(call)
        if not call.needs_review and (plain := await self._claim_unasked(call, caller, question)):
            return plain
        async with self._database.transaction() as connection:
            # A stored question comes before today's policy: its answer holds even if the policy, asked
            # again, would no longer want one.
            question, review = await self._asked(connection, question, call)
            if review is not None and review.status != "superseded":
                return await self._follow(connection, review, call, caller)
            if not call.needs_review:
                return await self._claim(connection, call, caller)
            entry = await self._ledger.look(connection, call.key)
            if entry is not None and entry.state == "succeeded":
                return await self._replay(connection, call, entry)
        call.see_that_it_can_wait()
        # Between the transactions: a dry run may take its time.
        with self._inside(call, caller):
            question = replace(question, dry_run=await foreseen(call, deadline_s=self._deadline(call)))
        async with self._database.transaction() as connection:
            await self._ledger.hold_fence(connection, call.key)
            review, new = await self._reviews.ask(connection, question)
            if new:
                await audit.record(
                    connection,
                    call.passage.attempt(stage="review", outcome="waiting", review_id=review.review_id),
                )
        return _Waiting(review)

    async def _asked(
        self, connection: Connection, question: ReviewRequest, call: CheckedCall
    ) -> tuple[ReviewRequest, Review | None]:
        """The stored question. A yes to another definition of the tool counts only for what it led to."""
        review = await self._reviews.find(connection, question)
        if review is None or not review.is_outdated(question):
            return question, review
        made = await self._ledger.look(connection, call.key_after(review))
        if made is not None and made.state == "succeeded":
            return question, review
        question = replace(question, redefined=True)
        return question, await self._reviews.find(connection, question)

    async def _claim_unasked(
        self, call: CheckedCall, caller: Caller, question: ReviewRequest
    ) -> _Claimed | _Executing | None:
        """The common case in one statement: nobody was asked, and the call was never made."""
        if ended := self._executing.get(call.key.idempotency_key):
            return _Executing(ended)
        async with self._database.connection() as connection:
            claim = await self._ledger.begin(
                connection, call.key, again=_repeatable(call), unless_asked=question.review_id
            )
            if claim.asked or claim.before is not None:
                return None
            if limit := caller.meter.take_tool_call():
                await self._ledger.settle(connection, call.key, claim.start_id, state="failed", result=None)
                raise BudgetReached(limit)
        return _Claimed(call, claim.start_id, None)

    async def _follow(
        self, connection: Connection, review: Review, call: CheckedCall, caller: Caller
    ) -> _Admission:
        """Do what the person decided."""
        match review.status:
            case "pending":
                return _Waiting(review)
            case "approved":
                return await self._claim(connection, call, caller, review=review)
            case "edited":
                edited = replace(call.request, arguments=(review.answer or {})["arguments"])
                # Back to the schema and the policy: what a person wrote is checked like any call.
                passage = self._checks.begin(edited, principal=caller.principal, run=caller.run)
                checked = self._checks.run(passage, tool_calls=caller.meter.usage.tool_calls)
                return await self._claim(connection, checked, caller, review=review)
            case _:
                return await self._answer(connection, call, decided(review, call.request), review=review)

    async def _claim(
        self, connection: Connection, call: CheckedCall, caller: Caller, *, review: Review | None = None
    ) -> _Admission:
        """Take the call for ourselves, unless it was made before; only a call that is made is paid for."""
        if ended := self._executing.get(call.key.idempotency_key):
            return _Executing(ended)
        claim = await self._ledger.begin(connection, call.key, again=_repeatable(call))
        entry = claim.before
        if entry is None:
            _pay(caller)
            return _Claimed(call, claim.start_id, review)
        if entry.state == "succeeded":
            return await self._replay(connection, call, entry)
        call.see_that_it_can_wait()
        # Cut off before: the effect may have happened, so a person says what became of it.
        question = outcome_question(call, entry)
        asked, new = await self._reviews.ask(connection, question)
        if asked.is_outdated(question):
            asked, new = await self._reviews.ask(connection, replace(question, redefined=True))
        if new:
            await self._ledger.cut_off(connection, call.key, entry)
            await audit.record(
                connection,
                call.passage.attempt(stage="ledger", outcome="unknown", review_id=asked.review_id),
            )
        if asked.status == "pending":
            return _Waiting(asked)
        if asked.status != "approved":
            return await self._answer(connection, call, decided(asked, call.request), review=asked)
        claim = await self._ledger.begin(connection, call.key, again=True)
        _pay(caller)
        return _Claimed(call, claim.start_id, asked)

    async def _replay(self, connection: Connection, call: CheckedCall, entry: LedgerEntry) -> _Answered:
        await audit.record(connection, call.passage.attempt(stage="ledger", outcome="replayed"))
        result = self._ledger.result(entry)
        if result is None:
            result = unkept(call.request)
        return _Answered(result)

    async def _answer(
        self, connection: Connection, call: CheckedCall, end: Ending, *, review: Review
    ) -> _Answered:
        await audit.record(
            connection,
            call.passage.attempt(
                stage=end.stage, outcome=end.outcome, reason=end.reason, review_id=review.review_id
            ),
        )
        return _Answered(end.message)

    async def _execute(self, claimed: _Claimed, caller: Caller, execute: Execute) -> ToolResult:
        call, started = claimed.call, time.monotonic()
        deadline_s = self._deadline(call)
        deadline = asyncio.timeout(deadline_s)
        try:
            with self._inside(call, caller) as context:
                async with deadline:
                    result = await execute(call.request.arguments)
            if context.raised and isinstance(result, ToolMessage):
                # The tool node has made a message of it; what the tool meant is in its error.
                raise context.raised[-1]
        except GraphBubbleUp:
            # The tool itself asks somebody: LangGraph runs it again from its start.
            await self._settle(claimed, interrupted(call), started=started)
            raise
        except Exception as error:
            # Whatever a tool raises, its ledger entry and its audit row are written.
            end = ending(call, error, deadline_s=deadline_s if deadline.expired() else None)
            if end is None:
                await self._settle(claimed, raised(call, error), started=started)
                raise
            await self._settle(claimed, end, started=started)
            return end.message
        result = prepared(result, call.spec, limit=self.options.max_result_chars)
        if claimed.review is not None and claimed.review.status == "edited":
            result = with_notice(result, call, claimed.review)
        await self._settle(claimed, result, started=started)
        return result

    async def _settle(self, claimed: _Claimed, end: Ending | ToolResult, *, started: float) -> None:
        """Ledger and audit in one transaction."""
        passage, review_id = claimed.call.passage, claimed.review and claimed.review.review_id
        elapsed = (time.monotonic() - started) * 1000
        state: LedgerState = "succeeded"
        if isinstance(end, Ending):
            state, result = end.state, end.message if end.state == "succeeded" else None
            attempt = passage.attempt(
                stage=end.stage,
                outcome=end.outcome,
                reason=end.reason,
                review_id=review_id,
                duration_ms=elapsed,
            )
        else:
            result = end
            failed = isinstance(end, ToolMessage) and end.status == "error"
            attempt = passage.attempt(
                stage="execute" if failed else "settle",
                outcome="failed" if failed else "succeeded",
                review_id=review_id,
                duration_ms=elapsed,
            )
        # One round trip: nothing in it waits for an answer.
        async with (
            self._database.connection() as connection,
            connection.pipeline(),
            connection.transaction(),
        ):
            await self._ledger.settle(
                connection, claimed.call.key, claimed.start_id, state=state, result=result
            )
            await audit.record(connection, attempt)

    @contextmanager
    def _marked(self, call: CheckedCall) -> Iterator[None]:
        """Let the same call, made again by a step that is retried, wait for this one."""
        key, ended = call.key.idempotency_key, asyncio.Event()
        self._executing[key] = ended
        try:
            yield
        finally:
            self._executing.pop(key, None)
            ended.set()

    def _deadline(self, call: CheckedCall) -> float | None:
        return call.spec.timeout_s or self.options.timeout_s

    @contextmanager
    def _inside(self, call: CheckedCall, caller: Caller) -> Iterator[ToolContext]:
        """The context that a tool sees, for the time that it runs."""
        context = ToolContext(
            principal=caller.principal,
            run=caller.run,
            database=self._database,
            store=call.request.store,
            egress=self._egress,
            loop=asyncio.get_running_loop(),
            idempotency_key=call.key.idempotency_key,
        )
        token = leave.set(Leave(call.tool, context))
        try:
            yield context
        finally:
            leave.reset(token)


def _repeatable(call: CheckedCall) -> bool:
    return call.spec.idempotent or call.spec.effect == "read"


def _pay(caller: Caller) -> None:
    # Raised inside the claiming transaction, which takes the claim back.
    if limit := caller.meter.take_tool_call():
        raise BudgetReached(limit)
