"""What the end of a run tells its webhook: queued with the end itself, so no crash can part the two."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from ...checkpoints.database import Connection
from ...checkpoints.errors import DatabaseError
from ..domain import Run, RunStatus
from ..encoding import encode
from ..errors import Conflicting, NotFound
from ..records import deliveries, queue, threads
from ..records.deliveries import Delivery
from . import state

if TYPE_CHECKING:
    from ..resources import Resources
    from ..settings import Settings

log = structlog.get_logger(__name__)

_LOOK_S = 5.0


async def announce_end(
    connection: Connection, settings: Settings, run: Run, *, values: bytes | None = None
) -> None:
    """Queue the webhook of a run, if it has one, in the transaction that ends it.

    `run` is as it has ended. Without `values`, JSON text of the state it left, somebody looks later.
    """
    url = run.kwargs.get("webhook")
    if not url or settings.http.disable_webhooks:
        return
    await deliveries.add(
        connection,
        tenant_id=run.tenant_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        url=url,
        principal=run.principal,
        body=_body(run),
        values=values,
        span_s=settings.webhooks.retry_span_s,
    )


async def announce_finish(
    connection: Connection, settings: Settings, run: Run, *, values: bytes | None
) -> None:
    """The same for a run that has just been ended in its row."""
    if not run.kwargs.get("webhook") or settings.http.disable_webhooks:
        return
    ended = await queue.get_run(connection, tenant_id=run.tenant_id, run_id=run.run_id)
    assert ended is not None
    # Its row no longer tells all of its user; the state may still have to be looked up for the webhook.
    await announce_end(connection, settings, replace(ended, principal=run.principal), values=values)


async def announce_removal(connection: Connection, settings: Settings, run: Run, *, reason: str) -> None:
    """The same for a run in flight whose row goes: whoever waits for its end must hear of it."""
    ended_at = datetime.now(UTC)
    status: RunStatus = "interrupted"
    gone = replace(run, status=status, cancel_reason=reason, ended_at=ended_at, updated_at=ended_at)
    await announce_end(connection, settings, gone)


def _body(run: Run) -> bytes:
    fields: dict[str, Any] = run.shape() | {"run_started_at": run.started_at, "run_ended_at": run.ended_at}
    if run.error is not None:
        fields["error"] = run.error
    return encode(fields)


async def values_left(resources: Resources, delivery: Delivery) -> bytes:
    """The state that a run left, as JSON text: its own last one, else what its thread shows.

    Raises:
        DatabaseError: the database does not answer.
    """
    own = state.history(
        resources,
        delivery.principal,
        thread_id=delivery.thread_id,
        limit=1,
        metadata={"run_id": str(delivery.run_id)},
    )
    try:
        async with asyncio.timeout(_LOOK_S), contextlib.aclosing(own):
            async for found in own:
                return encode(found["values"])
    except NotFound:
        pass  # its thread went with it
    except DatabaseError:
        raise
    except Exception as error:  # noqa: BLE001 - factories and reducers are the user's code
        log.warning("state_not_told", run_id=str(delivery.run_id), error=f"{type(error).__name__}: {error}")
    async with resources.database.connection() as connection:
        thread = await threads.get(connection, tenant_id=delivery.tenant_id, thread_id=delivery.thread_id)
    return encode((thread.values if thread else None) or {})


async def deliveries_of(
    resources: Resources, *, tenant_id: str, thread_id: UUID, run_id: UUID
) -> list[Delivery]:
    """What was, or is to be, sent for a run.

    Raises:
        NotFound: no such run.
    """
    key: dict[str, Any] = {"tenant_id": tenant_id, "thread_id": thread_id, "run_id": run_id}
    async with resources.database.connection() as connection:
        delivery = await deliveries.of_run(connection, **key)
        if delivery is None and await queue.get_run(connection, **key) is None:
            raise NotFound("Run not found")
    return [delivery] if delivery else []


async def send_again(resources: Resources, *, tenant_id: str, thread_id: UUID, run_id: UUID) -> Delivery:
    """Make the webhook of a run due at once, whatever became of it.

    Raises:
        NotFound: no such run, or nothing was to be sent for it.
        Conflicting: it is being sent, or this server sends none.
    """
    key: dict[str, Any] = {"tenant_id": tenant_id, "thread_id": thread_id, "run_id": run_id}
    if not await deliveries_of(resources, **key):
        raise NotFound("the run has no webhook, or has not ended yet")
    if resources.settings.http.disable_webhooks:
        raise Conflicting("this server sends no webhooks (`http.disable_webhooks`)")
    async with resources.database.connection() as connection:
        sent = await deliveries.send_again(connection, **key, span_s=resources.settings.webhooks.retry_span_s)
    if sent is None:
        raise Conflicting("the webhook is being sent at this moment; look again in a few seconds")
    return sent
