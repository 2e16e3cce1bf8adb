"""What was sent to the webhook of a run, over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from ..encoding import JsonObject
from ..records.deliveries import Delivery
from ..runs import outbox, reading
from .callers import Caller, RunId, ThreadId, may
from .shapes import json_response

router = APIRouter(prefix="/threads/{thread_id}/runs/{run_id}/webhook-deliveries", tags=["webhooks"])


@router.get("")
async def list_deliveries(
    caller: Annotated[Caller, may("threads", "read")], thread_id: ThreadId, run_id: RunId
) -> Response:
    """What the end of a run was, or is to be, sent to, with every attempt; empty without a webhook."""
    await _require(caller, "read", thread_id, run_id)
    found = await outbox.deliveries_of(
        caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, run_id=run_id
    )
    return json_response([delivery_shape(delivery) for delivery in found])


@router.post("/resend", status_code=202)
async def resend_delivery(
    caller: Annotated[Caller, may("threads", "update")], thread_id: ThreadId, run_id: RunId
) -> Response:
    """Send the webhook of a run again, delivered or given up, with the same `webhook-id`."""
    await _require(caller, "update", thread_id, run_id)
    sent = await outbox.send_again(
        caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, run_id=run_id
    )
    return json_response(delivery_shape(sent), status=202)


async def _require(caller: Caller, action: str, thread_id: UUID, run_id: UUID) -> None:
    """See to it that the caller may do this with the thread of a run."""
    answer = await caller.ask("threads", action, thread_id=thread_id, run_id=run_id)
    if answer.held is not None:
        await reading.run(
            caller.resources, tenant_id=caller.tenant_id, thread_id=thread_id, run_id=run_id, held=answer.held
        )


def delivery_shape(delivery: Delivery) -> JsonObject:
    """A delivery, without what it carries."""
    return {
        "webhook_id": delivery.webhook_id,
        "run_id": delivery.run_id,
        "thread_id": delivery.thread_id,
        "url": delivery.url,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.due_at if delivery.status == "pending" else None,
        "created_at": delivery.created_at,
        "ended_at": delivery.ended_at,
    }
