"""The rules of threads: making, copying, pruning and deleting them, and how long they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import structlog

from ...checkpoints import thread_rows
from ...checkpoints.database import Connection
from ...checkpoints.errors import DatabaseError, DatabaseUnavailable
from ...tools.policy.permissions import Principal
from ..domain import Thread, Ttl
from ..errors import Conflicting, NotFound, ServerError
from ..records import deliveries, queue, threads
from ..records.held import Held
from ..records.threads import ThreadKey
from . import state

if TYPE_CHECKING:
    from ..resources import Resources
    from ..settings import Settings

log = structlog.get_logger(__name__)


async def create(
    resources: Resources,
    principal: Principal,
    *,
    thread_id: UUID,
    metadata: Mapping[str, Any],
    held: Held = None,
    keep_existing: bool,
    supersteps: Sequence[Sequence[state.Update]],
    ttl: Ttl | None = None,
) -> Thread:
    """Make a thread; with `keep_existing` one that has the id already, and holds this, is returned as it is.

    Without a time to live of its own it has the default one.

    Raises:
        Conflicting: the id is taken.
        ServerError: the supersteps cannot be applied; then there is no thread either.
    """
    tenant_id = principal.tenant
    async with resources.database.transaction() as connection:
        made = await threads.insert(
            connection,
            tenant_id=tenant_id,
            thread_id=thread_id,
            metadata=metadata,
            ttl=ttl or default_ttl(resources.settings),
        )
        if made is None and keep_existing:
            made = await threads.get(connection, tenant_id=tenant_id, thread_id=thread_id, held=held)
            if made is not None:
                return made
    if made is None:
        raise Conflicting(f"Thread with ID {thread_id} already exists")
    if not supersteps:
        return made
    try:
        return await state.begin(resources, principal, made, supersteps)
    except ServerError:
        await delete(resources, tenant_id=tenant_id, thread_id=thread_id)
        raise


async def get(resources: Resources, *, tenant_id: str, thread_id: UUID, held: Held = None) -> Thread:
    """Read a thread.

    Raises:
        NotFound: no such thread.
    """
    async with resources.database.connection() as connection:
        found = await threads.get(connection, tenant_id=tenant_id, thread_id=thread_id, held=held)
    return found or _missing(thread_id)


async def storage(
    resources: Resources, *, tenant_id: str, thread_id: UUID, held: Held = None
) -> dict[str, Any]:
    """Bytes that the checkpoints of a thread take, as `thread_rows.storage` gives them.

    Raises:
        NotFound: no such thread.
    """
    async with resources.database.connection() as connection:
        if await threads.get(connection, tenant_id=tenant_id, thread_id=thread_id, held=held) is None:
            _missing(thread_id)
        return await thread_rows.storage(connection, tenant_id=tenant_id, thread_id=thread_id)


def default_ttl(settings: Settings) -> Ttl | None:
    """How long a thread is kept for which nobody says so; None: until it is deleted."""
    minutes = settings.thread_ttl.default_ttl
    return None if minutes is None else Ttl(timedelta(minutes=minutes), settings.thread_ttl.strategy)


async def change(
    resources: Resources,
    *,
    tenant_id: str,
    thread_id: UUID,
    metadata: Mapping[str, Any],
    ttl: Ttl | None = None,
    held: Held = None,
) -> Thread:
    """Merge into a thread's metadata, one level deep, and set its time to live if one is given.

    Raises:
        NotFound: no such thread.
    """
    async with resources.database.transaction() as connection:
        changed = await threads.change(
            connection, tenant_id=tenant_id, thread_id=thread_id, metadata=metadata, ttl=ttl, held=held
        )
    return changed or _missing(thread_id)


async def delete(resources: Resources, *, tenant_id: str, thread_id: UUID, held: Held = None) -> None:
    """Delete a thread with all it holds; its runs are stopped wherever they are.

    Raises:
        NotFound: no such thread.
    """
    async with resources.database.transaction() as connection:
        if not await delete_in(connection, tenant_id=tenant_id, thread_id=thread_id, held=held):
            _missing(thread_id)
    resources.event_log.woken(tenant_id, thread_id)


async def delete_in(connection: Connection, *, tenant_id: str, thread_id: UUID, held: Held = None) -> bool:
    """Delete a thread inside the caller's transaction; False when there is none."""
    key = ThreadKey(tenant_id=tenant_id, thread_id=thread_id)
    if await queue.lock_thread(connection, **key, held=held) is None:
        return False
    stopped = await queue.inflight_runs(connection, **key)
    await thread_rows.delete_thread_in(connection, **key)
    await threads.delete(connection, **key)
    await deliveries.delete_of_thread(connection, **key)
    await queue.announce_cancel(connection, [run.run_id for run in stopped])
    return True


async def copy(
    resources: Resources,
    *,
    tenant_id: str,
    thread_id: UUID,
    new_thread_id: UUID,
    metadata: Mapping[str, Any],
    held: Held = None,
) -> Thread:
    """Copy a thread with its checkpoints; runs and events stay with the original.

    Args:
        resources: those of the loop.
        tenant_id: owner of both.
        thread_id: the original.
        new_thread_id: the copy.
        metadata: what stands over the original's metadata in those of the copy.
        held: what the original must hold.

    Raises:
        Conflicting: no such thread.
    """
    async with resources.database.transaction() as connection:
        # The lock keeps a run from writing between the copy of the row and that of the checkpoints.
        if await queue.lock_thread(connection, tenant_id=tenant_id, thread_id=thread_id, held=held) is None:
            raise Conflicting("Conflict")
        copied = await threads.copy(
            connection,
            tenant_id=tenant_id,
            thread_id=thread_id,
            new_thread_id=new_thread_id,
            metadata=metadata,
        )
        await thread_rows.copy_thread_in(
            connection, tenant_id=tenant_id, thread_id=thread_id, new_thread_id=new_thread_id
        )
    assert copied is not None
    return copied


async def prune(
    resources: Resources, *, tenant_id: str, thread_ids: Sequence[UUID], keep_latest: bool, held: Held = None
) -> int:
    """Delete threads, or all of their checkpoints but the latest; returns how many were touched.

    Unknown threads are passed over, and so are busy ones.
    """
    pruned = 0
    for thread_id in dict.fromkeys(thread_ids):
        key = ThreadKey(tenant_id=tenant_id, thread_id=thread_id)
        async with resources.database.transaction() as connection:
            if await queue.lock_thread(connection, **key, held=held) is None:
                continue
            if await queue.inflight_runs(connection, **key):
                continue
            if keep_latest:
                await thread_rows.keep_latest_in(connection, **key)
            else:
                await delete_in(connection, **key)
            pruned += 1
        resources.event_log.woken(tenant_id, thread_id)
    return pruned


async def sweep_expired(resources: Resources) -> int:
    """One round over the threads that have outlived their time; returns how many were dealt with.

    Busy ones, those with a webhook to send, and those that somebody else is changing, are left for a later
    round.
    """
    async with resources.database.connection() as connection:
        keys = await threads.expired(connection, limit=resources.settings.thread_ttl.sweep_limit)
    dealt_with = 0
    for key in keys:
        try:
            dealt_with += await _expire(resources, key)
        except DatabaseUnavailable:
            raise
        except DatabaseError as error:
            # The others, of all tenants, must not be kept for the sake of one.
            log.warning("thread_not_expired", thread_id=str(key["thread_id"]), error=str(error))
    return dealt_with


async def _expire(resources: Resources, key: ThreadKey) -> bool:
    async with resources.database.transaction() as connection:
        thread = await threads.lock_expired(connection, **key)
        if thread is None or await queue.inflight_runs(connection, **key):
            return False
        if thread.ttl_strategy == "delete":
            await delete_in(connection, **key)
        else:
            await threads.keep_from_expiring(connection, **key)
            try:
                await thread_rows.keep_latest_in(connection, **key)
            except NotImplementedError as error:
                # Raised before anything is removed. Until the thread changes there is no use in trying again.
                log.warning("history_not_cut", thread_id=str(thread.thread_id), error=str(error))
    resources.event_log.woken(**key)
    return True


def _missing(thread_id: UUID) -> NoReturn:
    raise NotFound(f"Thread with ID {thread_id} not found")
