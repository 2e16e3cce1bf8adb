"""Reads runs for whoever asks about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

from ..domain import Run, RunStatus
from ..errors import NotFound
from ..records import queue, threads
from ..records.held import Held

if TYPE_CHECKING:
    from ..resources import Resources


async def run(
    resources: Resources, *, tenant_id: str, thread_id: UUID, run_id: UUID, held: Held = None
) -> Run:
    """One run of a thread.

    Raises:
        NotFound: no such run.
    """
    found = await finder(resources, tenant_id=tenant_id, thread_id=thread_id, held=held)(run_id)
    if found is None:
        raise NotFound
    return found


def finder(
    resources: Resources, *, tenant_id: str, thread_id: UUID, held: Held = None
) -> Callable[[UUID], Awaitable[Run | None]]:
    """The function that finds a run of a thread by its id."""

    async def find(run_id: UUID) -> Run | None:
        async with resources.database.connection() as connection:
            return await queue.get_run(
                connection, tenant_id=tenant_id, thread_id=thread_id, run_id=run_id, held=held
            )

    return find


async def runs_of_thread(
    resources: Resources,
    *,
    tenant_id: str,
    thread_id: UUID,
    status: RunStatus | None,
    limit: int,
    offset: int,
    held: Held = None,
) -> list[Run]:
    """Runs of a thread, newest first.

    Raises:
        NotFound: no such thread.
    """
    async with resources.database.connection() as connection:
        if await threads.get(connection, tenant_id=tenant_id, thread_id=thread_id, held=held) is None:
            raise NotFound(f"Thread with ID {thread_id} not found")
        return await queue.list_runs(
            connection,
            tenant_id=tenant_id,
            thread_id=thread_id,
            status=status,
            limit=limit,
            offset=offset,
        )
