"""How a run ends or goes back to the queue: outcomes and the transaction of each.

Every transaction here is fenced: when the run was taken away meanwhile, nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, assert_never

import orjson
import structlog
from langgraph.errors import UnknownInterruptError

from ...checkpoints import thread_rows
from ...checkpoints.database import Connection
from ...checkpoints.errors import FenceLost, SealingFailed
from ...checkpoints.sealed import sealing_for, unreadable, unsealed
from ...tools.policy.budget import Limit, Usage
from ..domain import LeftBy, Run
from ..encoding import encode
from ..records import queue
from ..records.event_log import NewEvent, append_in
from ..records.log_reader import closing
from ..records.settlement import Settlement
from . import outbox, state
from .reviews import close_others, create_budget_review
from .settling import left_by_run, rest, settled_status, shown

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

FinalStatus = Literal["success", "error", "timeout", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The graph came to an answer: an end, an interrupt, an exception, or too late."""

    status: FinalStatus
    error: dict[str, str] | None = None
    """`{"error": class name, "message": text}` unless the status is success."""
    values: bytes | None = None
    """The state as JSON text; None keeps what the thread shows."""
    interrupts: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Pending interrupts by LangGraph task id, each `{"id", "value"}`."""
    next: tuple[str, ...] = ()
    """Nodes that would run next."""
    checkpoint_id: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    budget_pause: Limit | None = None
    """The limit that was reached, where the policy is to ask for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The worker stops in good order: the run waits at a superstep boundary for another one."""

    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """The attempt broke off without an answer of the graph: our fault or the database's."""

    cause: str
    usage: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Somebody else took, ended or deleted the run; there is nothing to write."""


Outcome = Finished | Drained | Crashed | LeaseLost


async def finish(resources: Resources, run: Run, outcome: Outcome) -> None:
    """Record how an attempt ended.

    Raises:
        FenceLost: the run was taken away; nothing was written.
    """
    with sealing_for(run.principal.encryption):
        await _record(resources, run, outcome)


async def _record(resources: Resources, run: Run, outcome: Outcome) -> None:
    match outcome:
        case Finished():
            await _end(resources, run, await _with_state(resources, run, outcome))
        case Drained():
            await hand_back(resources, run, usage=outcome.usage)
        case Crashed():
            await take_back(resources, run, cause=outcome.cause, usage=outcome.usage, if_expired=False)
        case LeaseLost():
            pass
        case _:
            assert_never(outcome)


async def hand_back(resources: Resources, run: Run, *, usage: dict[str, Any] | None) -> None:
    """Give a run back that another worker shall continue; costs it none of its attempts.

    Raises:
        FenceLost: the run was taken away; nothing was written.
    """
    async with resources.database.connection() as connection:
        if await queue.hand_back(connection, run, usage=usage) is None:
            raise FenceLost(f"run {run.run_id} is no longer held by this worker")


async def take_back(
    resources: Resources,
    run: Run,
    *,
    cause: str,
    usage: dict[str, Any] | None = None,
    if_expired: bool = True,
    orphaned: bool = False,
) -> Run | None:
    """Take a run from an attempt that broke off: requeue it, or quarantine it after too many.

    Only attempts in a row that got no further than the one before are too many. With `if_expired` only
    when its lease has run out, or was not renewed if the run is `orphaned`, and not while somebody else
    moves it. Returns the run as it is now; None when there was nothing to take.
    """
    how = {"if_expired": if_expired, "orphaned": orphaned}
    try:
        with sealing_for(run.principal.encryption):
            return await _take_back(resources, run, cause, usage, **how)
    except SealingFailed:
        if not run.unreadable:
            raise
        # Its keys are gone. It has to end all the same, and what tells so holds nothing of it.
        with unsealed():
            return await _take_back(resources, run, f"SealingFailed: {run.unreadable}", usage, **how)


async def _take_back(
    resources: Resources,
    run: Run,
    cause: str,
    usage: dict[str, Any] | None,
    *,
    if_expired: bool,
    orphaned: bool,
) -> Run | None:
    max_attempts = resources.settings.worker.max_attempts
    error = _quarantined(max_attempts, cause)
    identity: dict[str, Any] = {"tenant_id": run.tenant_id, "thread_id": run.thread_id}
    async with resources.database.transaction() as connection:
        thread = await queue.lock_thread(connection, **identity, wait=not if_expired)
        if thread is None:
            return None
        taken = await queue.take_back(
            connection,
            run,
            max_attempts=max_attempts,
            error=orjson.dumps(error),
            usage=usage,
            saved=await thread_rows.checkpoints_of_run(connection, **identity, run_id=run.run_id),
            if_expired=if_expired,
            orphaned=orphaned,
        )
        if taken is None:
            return None
        if run.unreadable and thread.interrupts and not unreadable(thread.interrupts):
            raise SealingFailed(f"the end of run {run.run_id} cannot be noted: {run.unreadable}")
        ended = taken.status == "error"
        settled = rest(thread, status="error", error=error) if ended else rest(thread)
        await queue.settle_thread(connection, **identity, settlement=settled, new_writer=True)
        if ended:
            await tell_end_in(connection, taken)
            await outbox.announce_end(connection, resources.settings, replace(taken, principal=run.principal))
        await queue.serve_next(connection, **identity)
        if ended and run.temporary:
            await queue.delete_temporary_thread(connection, **identity)
    told = {"run_id": str(run.run_id), "crashes": taken.crashes, "status": taken.status}
    log.warning("run_taken_back", **told, cause=cause)
    resources.event_log.woken(run.tenant_id, run.thread_id)
    if ended:
        # Only now that the run has ended: it might be its graph that ends workers.
        await state.show(resources, run, fence=thread.fence + 1)
    return taken


def _quarantined(attempts: int, cause: str) -> dict[str, str]:
    message = f"quarantined: {attempts} attempts broke off at the same step; the last: {cause}"
    return {"error": "WorkerCrashed", "message": message}


async def _with_state(resources: Resources, run: Run, outcome: Finished) -> Finished:
    """The outcome with the state that an attempt left which was stopped before it could tell."""
    if outcome.values is not None or (left := await state.left_by_stop(resources, run)) is None:
        return outcome
    return replace(
        outcome,
        values=encode(left["values"]),
        interrupts=state.interrupts_of(left),
        next=tuple(left["next"]),
        checkpoint_id=left["checkpoint_id"],
    )


async def _end(resources: Resources, run: Run, outcome: Finished) -> None:
    identity: dict[str, Any] = {"tenant_id": run.tenant_id, "thread_id": run.thread_id}
    async with resources.database.transaction() as connection:
        interrupts = dict(outcome.interrupts)
        if outcome.budget_pause is not None:
            review = await create_budget_review(
                connection, run, limit=outcome.budget_pause, usage=Usage.from_row(outcome.usage)
            )
            interrupts["budget"] = [{"id": review.interrupt_id, "value": review.payload()}]
        shows = await closing(connection, **identity, run_id=run.run_id)
        asked = interrupts["budget"] if outcome.budget_pause is not None else []
        events = [_last_event(run, outcome, interrupts, shows=shows + len(asked))]
        if asked:
            events.insert(0, _pause_event(run, outcome.values, asked))
        ended = await queue.finish(
            connection,
            run,
            status=outcome.status,
            error=encode(outcome.error) if outcome.error else None,
            usage=outcome.usage,
            settlement=_settlement(run, outcome, interrupts),
            events=events,
            origin=resources.event_log.origin,
        )
        if ended is None:
            raise FenceLost(f"run {run.run_id} is no longer held by this worker")
        await outbox.announce_finish(connection, resources.settings, run, values=outcome.values)
        if ended.asks:
            await close_others(connection, **identity, interrupts=interrupts)
        if not (run.temporary and await queue.delete_temporary_thread(connection, **identity)):
            await queue.serve_next(connection, **identity)
    resources.event_log.publish(**identity, run_id=run.run_id, last=ended.last, events=events)


def _last_event(run: Run, outcome: Finished, interrupts: Mapping[str, Any], *, shows: int) -> NewEvent:
    ended = replace(run, status=outcome.status, error=outcome.error)
    waits = {"waits": True} if outcome.next or interrupts else {}
    return ended_event(ended, shows=shows, checkpoint_id=outcome.checkpoint_id, **waits)


async def tell_end_in(connection: Connection, run: Run) -> None:
    """Append the last event of a run that was ended from outside, in the transaction that ends it."""
    identity: dict[str, Any] = {"tenant_id": run.tenant_id, "thread_id": run.thread_id, "run_id": run.run_id}
    shows = await closing(connection, **identity)
    await append_in(connection, **identity, events=[ended_event(run, shows=shows)])


def ended_event(run: Run, *, shows: int, checkpoint_id: str | None = None, **more: Any) -> NewEvent:
    """The last event of a run; `shows` is what its log says of an end that comes now."""
    fields: dict[str, Any] = {"run_id": str(run.run_id), "status": run.status}
    if run.error is not None:
        fields["error"] = run.error
    if checkpoint_id is not None:
        fields["checkpoint_id"] = checkpoint_id
    return NewEvent(kind="run.ended", data=encode(fields | more), shows=shows)


def _pause_event(run: Run, values: bytes | None, interrupts: list[dict[str, Any]]) -> NewEvent:
    """The state at a budget pause, shown as clients expect an interrupt: the graph itself knows none."""
    state = orjson.loads(values) if values is not None else {}
    shows = 1 if "values" in run.kwargs["stream_mode"] else 0
    return NewEvent(kind="values", data=encode({**state, "__interrupt__": interrupts}), shows=shows)


def _settlement(run: Run, outcome: Finished, interrupts: Mapping[str, Any]) -> Settlement:
    if interrupts and (outcome.error or {}).get("error") == UnknownInterruptError.__name__:
        # It was refused before anything was written: the thread waits as it did.
        return shown(
            "interrupted", values=None, interrupts=interrupts, error=None, left_by=_left_by(run, outcome)
        )
    status = settled_status(outcome.status, waits=bool(outcome.next or interrupts))
    left_by = _left_by(run, outcome) if interrupts else None
    return shown(status, values=outcome.values, interrupts=interrupts, error=outcome.error, left_by=left_by)


def _left_by(run: Run, outcome: Finished) -> LeftBy:
    return replace(left_by_run(run), checkpoint_id=outcome.checkpoint_id)
