"""The review inbox over HTTP; it is answered by a run with `command.resume`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from ...tools.policy.review import Review
from ..encoding import JsonObject
from ..records import reviews
from ..records.held import both
from .callers import Caller, may
from .schemas import Limit
from .shapes import json_response

router = APIRouter(prefix="/reviews", tags=["reviews"])


@router.get("")
async def list_reviews(
    caller: Annotated[Caller, may("reviews", "search")],
    thread_id: Annotated[UUID | None, Query()] = None,
    limit: Annotated[Limit, Query()] = 100,
) -> Response:
    """Reviews that wait for a person, oldest first."""
    # A review is part of its thread: whoever may read the one may read the other.
    answer = await caller.ask("threads", "read" if thread_id else "search", thread_id=thread_id, limit=limit)
    # A handler of searches may add to the metadata that are searched for.
    held = both(answer.held, answer.metadata or None)
    async with caller.database.connection() as connection:
        found = await reviews.pending(
            connection, tenant_id=caller.tenant_id, thread_id=thread_id, limit=limit, held=held
        )
    return json_response([review_shape(review) for review in found])


def review_shape(review: Review) -> JsonObject:
    """A review, with the id of the interrupt that shows it."""
    shape = asdict(review) | {"interrupt_id": review.interrupt_id}
    del shape["tenant_id"]
    return shape
