"""What happens to a cron when its time has come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import structlog

from ...checkpoints.database import Connection
from ...checkpoints.errors import SealingFailed
from ...checkpoints.sealed import sealing_for, unreadable
from ...tools.policy.permissions import Principal
from ..domain import Cron, Run
from ..errors import Conflicting, ServerError
from ..records import crons, queue
from ..records.crons import Due, LockedDue
from .admission import _Admission
from .crons import _checked, _draft_of
from .encryption import EncryptionFailed
from .owners import present
from .permitting import Permit, permit
from .priority import ThreadPriority, decided_for
from .schedule import Schedule, plan
from .scope import Rule, allow

if TYPE_CHECKING:
    from ..resources import Resources

log = structlog.get_logger(__name__)

_TO_RUN = Rule("threads", "create_run")


class _Prepared(NamedTuple):
    """What is asked for a firing while nothing is locked."""

    cron: Cron
    owner: Principal
    permit: Permit | None
    priority: ThreadPriority | None
    refusal: Exception | None


async def fire(resources: Resources, due: Due, *, defect: Exception | None = None) -> bool:
    """Start the run of a cron whose time has come, or pass over it, in one transaction.

    With `defect`, an error that an earlier try has met, the firing is refused for that reason.

    Returns:
        False when somebody else holds the cron or its thread just now, so that it is to be tried again
        unless another process has fired it.
    """
    prepared = await _prepare(resources, due, defect)
    if prepared is None:
        return False
    with sealing_for(prepared.owner.encryption):
        return await _fire_in_turn(resources, due, prepared)


async def _fire_in_turn(resources: Resources, due: Due, prepared: _Prepared) -> bool:
    async with resources.database.transaction() as connection:
        # The thread first, as everybody does who also touches its crons; and nobody is waited for, since
        # the crons of all tenants stand behind this one.
        if due.thread_id is not None and not await queue.lock_thread(
            connection, tenant_id=due.tenant_id, thread_id=due.thread_id, wait=False
        ):
            return False
        locked = await crons.lock_due(connection, **due.key)
        if locked is None or locked.cron.updated_at != prepared.cron.updated_at:
            return False
        run = await _fire(resources, connection, locked, prepared)
    if run is not None:
        resources.event_log.woken(run.tenant_id, run.thread_id)
    return True


async def _prepare(resources: Resources, due: Due, defect: Exception | None) -> _Prepared | None:
    """Ask who the owner is by now, and the hooks of the project what they say; None: the cron is gone."""
    async with resources.database.connection() as connection:
        cron = await crons.get(connection, **due.key)
    if cron is None:
        return None
    if defect is not None:
        return _Prepared(cron, cron.principal, None, None, defect)
    try:
        # First: what can be told of a cron without its keys stands in plain.
        if reason := unreadable(cron.payload) or unreadable(cron.metadata):
            raise EncryptionFailed(f"what the cron is to start cannot be decrypted: {reason}")
        # Whom the project authenticates has no rights but those that its handlers give when they are asked.
        known = resources.catalog.auth is not None
        owner = cron.principal if known else present(cron.principal, resources.settings.auth)
        allow(owner, _TO_RUN)
        run = _checked(resources, _draft_of(cron), cron.cron_id)
        permitted = await permit(resources, owner, run)
        priority = await decided_for(resources, owner, permitted)
    except ServerError as refusal:
        return _Prepared(cron, cron.principal, None, None, refusal)
    return _Prepared(cron, owner, permitted, priority, None)


async def _fire(
    resources: Resources, connection: Connection, due: LockedDue, prepared: _Prepared
) -> Run | None:
    """Take the time of a locked cron and start its run; None when there is none to start."""
    cron, run = due.cron, None
    key = crons.CronKey(tenant_id=cron.tenant_id, cron_id=cron.cron_id)
    assert cron.next_run_at is not None
    todo = plan(
        Schedule(cron.schedule, cron.timezone),
        cron.next_run_at,
        now=due.now,
        end_time=cron.end_time,
        settings=resources.settings.crons,
    )
    after = replace(cron, next_run_at=todo.next)
    if todo.fire is not None and await crons.claim_slot(connection, **key, slot=todo.fire):
        refusal = prepared.refusal
        if prepared.permit is not None:
            admission = _Admission(resources, prepared.owner, connection, prepared.permit)
            try:
                async with connection.transaction():
                    run = await admission.admit(prepared.permit.request, prepared.priority)
            except (ServerError, SealingFailed) as error:
                refusal = error
        if run is not None:
            await crons.note_run(connection, **key, slot=todo.fire, run_id=run.run_id)
            after = replace(after, failure_count=0)
        if refusal is not None:
            after = _refused(resources, after, refusal, slot=todo.fire, now=due.now)
    await crons.advance(connection, after)
    return run


async def disable(resources: Resources, due: Due, defect: Exception) -> bool:
    """Take a cron off the clock that can be neither fired nor refused: its row cannot be read or planned.

    Returns:
        False when somebody else holds it just now.
    """
    # Schedule and time zone, which is what rules of ours speak of, are no secret; anything else may be one.
    told = defect.message if isinstance(defect, ServerError) else "it cannot be read; the log tells more"
    async with resources.database.transaction() as connection:
        now = (await crons.clock(connection)).astimezone(UTC).isoformat()
        failure = {"error": type(defect).__name__, "message": told, "slot": now, "at": now}
        disabled = await crons.disable_due(connection, **due.key, failure=failure)
    if disabled:
        log.warning("cron_disabled", cron_id=str(due.cron_id), tenant=due.tenant_id, error=str(defect))
    return disabled


def _refused(resources: Resources, cron: Cron, error: Exception, *, slot: datetime, now: datetime) -> Cron:
    """The cron after a refused firing. One that found its thread taken may find it free next time."""
    count = cron.failure_count + (not isinstance(error, Conflicting))
    gives_up = count >= resources.settings.crons.max_failures
    failure = {
        "error": type(error).__name__,
        "message": f"{error}",
        "slot": slot.astimezone(UTC).isoformat(),
        "at": now.astimezone(UTC).isoformat(),
    }
    log.warning(
        "cron_refused", cron_id=str(cron.cron_id), tenant=cron.tenant_id, disabled=gives_up, **failure
    )
    refused = replace(cron, failure_count=count, last_failure=failure)
    return replace(refused, enabled=False, next_run_at=None) if gives_up else refused
