"""Stops runs from outside: cancel, rollback, delete. Works from any process.

The rows change at once, in the transaction of the caller; the worker that executes the run is only
woken, and whatever it still tries to write is refused by its fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from ...checkpoints.database import Connection
from ...checkpoints.thread_rows import delete_runs_in
from ...tools.policy.permissions import Principal
from ..domain import INFLIGHT, CancelAction, Run, RunStatus, Thread
from ..errors import NotFound
from ..protocol.thread_entries import SHOWS_OF_ROLLED_BACK
from ..records import event_log, queue
from ..records.held import Held
from . import outbox, state
from .lifecycle import ended_event, tell_end_in
from .settling import left_by_run, rest

if TYPE_CHECKING:
    from ..resources import Resources
    from ..settings import Settings

_ERROR = {"interrupt": "UserInterrupt", "rollback": "UserRollback"}
_REASON = "{action} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel"


async def cancel(
    resources: Resources,
    principal: Principal,
    *,
    thread_id: UUID,
    run_id: UUID,
    action: CancelAction = "interrupt",
    reason: str | None = None,
    held: Held = None,
) -> None:
    """Stop a run that waits or runs. When this returns, it has ended and its thread is free.

    Raises:
        NotFound: no such run, or it has ended.
    """
    stopped = await _stop(resources, principal, thread_id, [run_id], action=action, reason=reason, held=held)
    if not stopped:
        raise NotFound("Run not found")


async def cancel_many(
    resources: Resources,
    principal: Principal,
    *,
    action: CancelAction = "interrupt",
    thread_id: UUID | None = None,
    run_ids: Sequence[UUID] | None = None,
    status: Literal["pending", "running", "all"] | None = None,
    held: Held = None,
) -> int:
    """Stop the named runs of a thread, or all runs of the tenant that have a status; returns how many."""
    if thread_id is not None:
        return await _stop(resources, principal, thread_id, run_ids, action=action, held=held)
    statuses: list[RunStatus] = sorted(INFLIGHT) if status in (None, "all") else [status]
    async with resources.database.connection() as connection:
        threads = await queue.inflight_threads(connection, tenant_id=principal.tenant, statuses=statuses)
    return sum(
        [
            await _stop(resources, principal, found, None, action=action, statuses=statuses, held=held)
            for found in threads
        ]
    )


async def stop_of_assistant(resources: Resources, principal: Principal, *, assistant_id: UUID) -> None:
    """Interrupt what waits or runs with an assistant that was deleted."""
    async with resources.database.connection() as connection:
        threads = await queue.inflight_threads(
            connection, tenant_id=principal.tenant, statuses=sorted(INFLIGHT), assistant_id=assistant_id
        )
    for thread_id in threads:
        await _stop(
            resources,
            principal,
            thread_id,
            None,
            action="interrupt",
            reason="the assistant was deleted",
            assistant_id=assistant_id,
        )


async def delete(
    resources: Resources, principal: Principal, *, thread_id: UUID, run_id: UUID, held: Held = None
) -> None:
    """Remove a run and its events, stopping it first; what it has written to the state stays.

    Raises:
        NotFound: no such run.
    """
    identity: dict[str, Any] = {"tenant_id": principal.tenant, "thread_id": thread_id}
    async with resources.database.transaction() as connection:
        thread = await queue.lock_thread(connection, **identity, held=held)
        run = await queue.get_run(connection, **identity, run_id=run_id, held=held)
        if run is None:
            raise NotFound("Run not found")
        if thread is not None:
            await _remove(
                connection, thread, [run], settings=resources.settings, reason="the run was deleted"
            )
        else:
            await queue.delete_runs(connection, **identity, run_ids=[run_id])
            await event_log.delete_runs_in(connection, **identity, run_ids=[run_id])
    resources.event_log.woken(principal.tenant, thread_id)


async def stop_in(
    connection: Connection,
    settings: Settings,
    *,
    thread: Thread,
    runs: Sequence[Run],
    action: CancelAction,
    reason: str,
    error: dict[str, str] | None = None,
) -> None:
    """End or roll back runs in flight, inside a transaction that holds the lock of the thread."""
    if action == "interrupt":
        await _interrupt(connection, thread, runs, settings=settings, reason=reason, error=error)
    else:
        await _remove(connection, thread, runs, settings=settings, reason=reason, error=error)
        await delete_runs_in(
            connection,
            tenant_id=thread.tenant_id,
            thread_id=thread.thread_id,
            run_ids=[run.run_id for run in runs],
        )


async def _stop(
    resources: Resources,
    principal: Principal,
    thread_id: UUID,
    run_ids: Sequence[UUID] | None,
    *,
    action: CancelAction,
    reason: str | None = None,
    statuses: Sequence[RunStatus] = tuple(INFLIGHT),
    assistant_id: UUID | None = None,
    held: Held = None,
) -> int:
    identity: dict[str, Any] = {"tenant_id": principal.tenant, "thread_id": thread_id}
    async with resources.database.transaction() as connection:
        thread = await queue.lock_thread(connection, **identity, held=held)
        if thread is None:
            return 0
        inflight = await queue.inflight_runs(connection, **identity)
        chosen = [
            run
            for run in inflight
            if run.status in statuses
            and (run_ids is None or run.run_id in run_ids)
            and assistant_id in (None, run.assistant_id)
        ]
        if not chosen:
            return 0
        message = reason or _REASON.format(action=action)
        error = {"error": _ERROR[action], "message": message}
        await stop_in(
            connection,
            resources.settings,
            thread=thread,
            runs=chosen,
            action=action,
            reason=message,
            error=error,
        )
        await queue.serve_next(connection, **identity)
        if all(run.temporary for run in inflight) and len(chosen) == len(inflight):
            await queue.delete_temporary_thread(connection, **identity)
    resources.event_log.woken(principal.tenant, thread_id)
    running = next((run for run in chosen if run.status == "running"), None)
    if action == "interrupt" and running is not None:
        await state.show(resources, running, fence=thread.fence + 1)
    return len(chosen)


async def _interrupt(
    connection: Connection,
    thread: Thread,
    runs: Sequence[Run],
    *,
    settings: Settings,
    reason: str,
    error: dict[str, str] | None,
) -> None:
    identity: dict[str, Any] = {"tenant_id": thread.tenant_id, "thread_id": thread.thread_id}
    running = [run for run in runs if run.status == "running"]
    ended = await queue.interrupt_runs(
        connection, **identity, run_ids=[run.run_id for run in runs], reason=reason
    )
    ended_by_id = {run.run_id: run for run in ended}
    for before in runs:
        if before.run_id not in ended_by_id:
            continue
        run = replace(ended_by_id[before.run_id], principal=before.principal)
        await tell_end_in(connection, run)
        await outbox.announce_end(connection, settings, run)
    if running:
        settled = replace(rest(thread, status="interrupted", error=error), left_by=left_by_run(running[0]))
        await queue.settle_thread(connection, **identity, settlement=settled, new_writer=True)
        await queue.announce_cancel(connection, [run.run_id for run in running])


async def _remove(
    connection: Connection,
    thread: Thread,
    runs: Sequence[Run],
    *,
    settings: Settings,
    reason: str,
    error: dict[str, str] | None = None,
) -> None:
    """Delete runs and their events; those who read the thread see that each one ended."""
    identity: dict[str, Any] = {"tenant_id": thread.tenant_id, "thread_id": thread.thread_id}
    run_ids = [run.run_id for run in runs]
    inflight = [run for run in runs if run.status in INFLIGHT]
    running = [run.run_id for run in runs if run.status == "running"]
    if inflight:
        await queue.settle_thread(
            connection, **identity, settlement=rest(thread, error=error), new_writer=bool(running)
        )
    await queue.delete_runs(connection, **identity, run_ids=run_ids)
    await event_log.delete_runs_in(connection, **identity, run_ids=run_ids)
    # The event belongs to no run: nothing of the removed one is left under its id.
    events = [
        ended_event(run, shows=SHOWS_OF_ROLLED_BACK, status="interrupted", rolled_back=True)
        for run in inflight
    ]
    for run in inflight:
        await outbox.announce_removal(connection, settings, run, reason=reason)
    if events:
        await event_log.append_in(connection, **identity, run_id=None, events=events)
        await queue.serve_next(connection, **identity)
    if running:
        await queue.announce_cancel(connection, running)
