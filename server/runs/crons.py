"""The rules of crons: what can be put on the clock, in whose name it runs, and what happens then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from ...checkpoints.database import Connection
from ...tools.policy.permissions import Principal
from ..domain import Cron, OnRunCompleted
from ..errors import Conflicting, Invalid, NotFound
from ..records import crons
from ..records.crons import CronContent
from ..records.held import Held
from .admission import RunRequest, _Admission
from .naming import NO_THREAD, assistant_of
from .permitting import Permit, permit
from .refusals import require_end, require_sense
from .schedule import Schedule, next_time
from .webhooks import require_target

if TYPE_CHECKING:
    from ..resources import Resources

_TIMING = ("schedule", "timezone", "end_time", "enabled")
_NOT_WHAT_IT_DOES = frozenset({"enabled", "end_time"})
_DECIDED_HERE = frozenset(
    {
        "assistant_id",
        "cron_id",
        "headers",
        "idempotency_key",
        "if_not_exists",
        "on_completion",
        "priority",
        "thread_id",
    }
)
RUN_FIELDS = frozenset(RunRequest.__dataclass_fields__) - _DECIDED_HERE
"""Fields of a run that a cron keeps in its `payload`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CronRequest:
    """What a client asks for; a change names only some of it."""

    changes: Mapping[str, Any]
    """`schedule`, `timezone`, `end_time`, `enabled` and `on_run_completed`, as far as they are given."""
    run: Mapping[str, Any]
    """`assistant_id` and the fields of the run, as far as they are given."""
    make_thread: bool = False
    """Whether a missing thread is made."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Those of `run`, and what the handlers of a project have made of them."""

    @property
    def is_new_work(self) -> bool:
        """Whether it says what the cron does, or when, and not only until when."""
        return bool(self.run) or bool(self.changes.keys() - _NOT_WHAT_IT_DOES)

    def only_stops(self, cron: Cron) -> bool:
        """Whether it does nothing but disable a cron."""
        known = self.metadata.items() <= cron.metadata.items()
        return self.changes == {"enabled": False} and not self.run and known


@dataclass(slots=True, kw_only=True)
class _Draft:
    """The content of a cron before it is known when it is due."""

    assistant: str
    thread_id: UUID | None
    owner: Principal
    run: dict[str, Any]
    schedule: str
    timezone: str | None = None
    end_time: datetime | None = None
    enabled: bool = True
    on_run_completed: OnRunCompleted | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def apply(self, request: CronRequest) -> None:
        """Take over what a request names."""
        for name, value in request.changes.items():
            setattr(self, name, value)
        self.run |= {name: value for name, value in request.run.items() if name in RUN_FIELDS}
        if request.metadata:
            self.metadata = self.run["metadata"] = {**self.metadata, **request.metadata}


async def create(
    resources: Resources, principal: Principal, *, cron_id: UUID, thread_id: UUID | None, request: CronRequest
) -> Cron:
    """Put a run on the clock, on a thread or, without one, on a new thread each time.

    Raises:
        Invalid: it would never run, or no run could be made of it.
        NotFound: no such thread or assistant.
        ServerError: an ordinary run like it would be refused for good.
    """
    tenant_id, assistant = principal.tenant, request.run["assistant_id"]
    draft = _Draft(
        assistant=assistant,
        thread_id=thread_id,
        owner=principal,
        run={"assistant_id": assistant},
        schedule=request.changes["schedule"],
        on_run_completed="delete" if thread_id is None else None,
    )
    draft.apply(request)
    run = _checked(resources, draft, cron_id)
    permitted = await permit(resources, principal, run)
    async with resources.database.transaction() as connection:
        admission = _Admission(resources, principal, connection, permitted)
        if thread_id is not None:
            exists = "create" if request.make_thread else "reject"
            await admission._thread(replace(run, if_not_exists=exists))
        content = await _content(admission, draft, run)
        content = replace(content, next_run_at=await _next_run_at(connection, draft))
        made = await crons.insert(
            connection, tenant_id=tenant_id, cron_id=cron_id, thread_id=thread_id, content=content
        )
    if made is None:
        raise NotFound(NO_THREAD)
    return made


async def change(
    resources: Resources, principal: Principal, *, cron_id: UUID, request: CronRequest, held: Held = None
) -> Cron:
    """Change a cron. Whoever says what it does is its owner from then on: it acts in nobody else's name.

    Raises:
        NotFound: no such cron or assistant.
        Invalid: it would never run, or no run could be made of it.
        Conflicting: somebody else is changing it.
        ServerError: an ordinary run like it would be refused for good.
    """
    key = crons.CronKey(tenant_id=principal.tenant, cron_id=cron_id)
    before = await get(resources, **key, held=held)
    if request.only_stops(before):
        return await _disable(resources, key, held)
    draft = _draft_of(before)
    draft.apply(request)
    if request.is_new_work:
        draft.owner = principal
    if "assistant_id" in request.run:
        draft.assistant = draft.run["assistant_id"] = request.run["assistant_id"]
    run = _checked(resources, draft, cron_id)
    permitted = await permit(resources, draft.owner, run) if request.is_new_work else _any(before)
    async with resources.database.transaction() as connection:
        locked = await crons.get(connection, **key, held=held, lock=True)
        if locked is None:
            _missing(cron_id)
        if (locked.updated_at, locked.enabled) != (before.updated_at, before.enabled):
            raise Conflicting("the cron was changed at this moment; try again")
        content = await _content(_Admission(resources, draft.owner, connection, permitted), draft, run)
        moved = {name for name in _TIMING if getattr(draft, name) != getattr(locked, name)}
        # What is due just now stays due, and a cron that has ended can still be stopped.
        if moved and (draft.enabled or moved != {"enabled"}):
            next_run_at = await _next_run_at(connection, draft)
        else:
            next_run_at = locked.next_run_at if draft.enabled else None
        content = replace(content, next_run_at=next_run_at)
        changed = await crons.change(connection, **key, content=content)
    if changed is None:
        raise NotFound(NO_THREAD)
    return changed


async def _disable(resources: Resources, key: crons.CronKey, held: Held) -> Cron:
    """Stop a cron as it stands: one that could not be made any more need not be mended first."""
    async with resources.database.transaction() as connection:
        disabled = await crons.disable(connection, **key, held=held)
    return disabled or _missing(key["cron_id"])


async def get(resources: Resources, *, tenant_id: str, cron_id: UUID, held: Held = None) -> Cron:
    """Read a cron.

    Raises:
        NotFound: no such cron.
    """
    async with resources.database.connection() as connection:
        found = await crons.get(connection, tenant_id=tenant_id, cron_id=cron_id, held=held)
    return found or _missing(cron_id)


async def delete(resources: Resources, *, tenant_id: str, cron_id: UUID, held: Held = None) -> None:
    """Delete a cron; the runs that it has started stay.

    Raises:
        NotFound: no such cron.
    """
    async with resources.database.transaction() as connection:
        if not await crons.delete(connection, tenant_id=tenant_id, cron_id=cron_id, held=held):
            _missing(cron_id)


# --- what a cron says --------------------------------------------------------------------------


def _draft_of(cron: Cron) -> _Draft:
    return _Draft(
        assistant=str(cron.assistant_id),
        thread_id=cron.thread_id,
        owner=cron.principal,
        run=dict(cron.payload),
        schedule=cron.schedule,
        timezone=cron.timezone,
        end_time=cron.end_time,
        enabled=cron.enabled,
        on_run_completed=cron.on_run_completed,
        metadata=cron.metadata,
    )


def _run_request(draft: _Draft, cron_id: UUID) -> RunRequest:
    """The run that a cron creates."""
    run = {name: value for name, value in draft.run.items() if name in RUN_FIELDS}
    run["metadata"] = {**draft.metadata, "cron_id": str(cron_id)}
    return RunRequest(
        **run,
        assistant_id=draft.assistant,
        thread_id=draft.thread_id,
        cron_id=cron_id,
        on_completion=draft.on_run_completed or "keep",
    )


def _checked(resources: Resources, draft: _Draft, cron_id: UUID) -> RunRequest:
    """The run that a cron creates, if there is sense in it.

    Raises:
        ServerError: there is none, whoever wants it.
    """
    config = draft.run.get("config") or {}
    configurable = {**(config.get("configurable") or {}), "cron_id": str(cron_id)}
    draft.run["config"] = {**config, "configurable": configurable}
    if draft.run.get("input") is None and draft.run.get("command") is None:
        raise Invalid("`input` is required: without it the runs of a cron have nothing to start with")
    if (draft.on_run_completed is None) != (draft.thread_id is not None):
        raise Invalid("`on_run_completed` is for crons without a thread; a thread of its own stays")
    run = _run_request(draft, cron_id)
    require_sense(run)
    require_target(resources, run.webhook)
    require_end(resources.settings, run.config.get("recursion_limit"))
    return run


def _any(cron: Cron) -> Permit:
    """For a change that makes no run: what is run has been asked about before."""
    return Permit(_run_request(_draft_of(cron), cron.cron_id), cron.assistant_id, None, None, None)


async def _content(admission: _Admission, draft: _Draft, run: RunRequest) -> CronContent:
    """What a cron says, once its assistant is found and its budget fits."""
    assistant = await assistant_of(
        admission.resources,
        admission.principal,
        admission.connection,
        run.assistant_id,
        held=admission.permit.assistant,
    )
    admission._budget(run, assistant)
    return CronContent(
        assistant_id=assistant.assistant_id,
        schedule=draft.schedule,
        timezone=draft.timezone,
        end_time=draft.end_time,
        enabled=draft.enabled,
        on_run_completed=draft.on_run_completed,
        payload={**draft.run, "assistant_id": str(assistant.assistant_id)},
        metadata=draft.metadata,
        principal=draft.owner,
    )


async def _next_run_at(connection: Connection, draft: _Draft) -> datetime | None:
    """When a cron is due, counted from now; None while it is disabled."""
    schedule = Schedule(draft.schedule, draft.timezone)
    now = await crons.clock(connection)
    if draft.end_time is not None and draft.end_time <= now:
        raise Invalid(f"`end_time` {draft.end_time.isoformat()} is past")
    following = next_time(schedule, now, draft.end_time)
    if following is None:
        until = f" before {draft.end_time.isoformat()}" if draft.end_time else ""
        raise Invalid(f"schedule: {draft.schedule!r} is never due{until}")
    return following if draft.enabled else None


def _missing(cron_id: UUID) -> NoReturn:
    raise NotFound(f"Cron with ID {cron_id} not found")
