"""Records as the wire shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

from ..domain import Assistant, Cron, Run, Thread
from ..encoding import JsonObject


def json_response(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer; dates, UUIDs and prepared fragments may be inside."""
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return Response(body, status_code=status, headers=dict(headers or {}), media_type="application/json")


def page_response(items: list[JsonObject], *, total: int, offset: int) -> Response:
    """A page of a search, with the headers that clients page by."""
    headers = {"x-pagination-total": str(total)}
    if offset + len(items) < total and items:
        headers["x-pagination-next"] = str(offset + len(items))
    return json_response(items, headers=headers)


def nothing(status: int = 204) -> Response:
    """An answer without a body."""
    return Response(status_code=status)


def selected(shape: Mapping[str, Any], fields: Collection[str] | None) -> JsonObject:
    """Only the named fields; all of them when none is named."""
    return {name: shape[name] for name in fields if name in shape} if fields else dict(shape)


def assistant_shape(assistant: Assistant) -> JsonObject:
    """An assistant."""
    return {
        "assistant_id": assistant.assistant_id,
        "graph_id": assistant.graph_id,
        "name": assistant.name,
        "description": assistant.description,
        "version": assistant.version,
        "config": assistant.config,
        "context": assistant.context,
        "metadata": assistant.metadata,
        "created_at": assistant.created_at,
        "updated_at": assistant.updated_at,
    }


def version_shape(version: Assistant) -> JsonObject:
    """One version of an assistant: it never changes, so it has no time of change."""
    shape = assistant_shape(version)
    del shape["updated_at"]
    return shape


def thread_shape(thread: Thread, *, with_ttl: bool = False) -> JsonObject:
    """A thread. `interrupts` is always there: inboxes read it unasked."""
    shape = {
        "thread_id": thread.thread_id,
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
        "state_updated_at": thread.state_updated_at,
        "metadata": thread.metadata,
        "status": thread.status,
        "config": thread.config,
        "values": thread.values,
        "interrupts": thread.interrupts,
        "error": thread.error,
    }
    if with_ttl:
        shape["ttl"] = thread.ttl and {
            "strategy": thread.ttl_strategy,
            "ttl_minutes": thread.ttl.total_seconds() / 60,
            "expires_at": thread.expires_at,
        }
    return shape


def cron_shape(cron: Cron) -> JsonObject:
    """A cron, with the run that it creates as `payload`."""
    return {
        "cron_id": cron.cron_id,
        "assistant_id": cron.assistant_id,
        "thread_id": cron.thread_id,
        "user_id": cron.principal.subject,
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "end_time": _utc(cron.end_time),
        "enabled": cron.enabled,
        "next_run_date": _utc(cron.next_run_at),
        "on_run_completed": cron.on_run_completed,
        "payload": _with_clock(cron),
        "metadata": cron.metadata,
        "failure_count": cron.failure_count,
        "last_failure": cron.last_failure,
        "created_at": cron.created_at,
        "updated_at": cron.updated_at,
    }


def _with_clock(cron: Cron) -> JsonObject:
    """The request of a cron as it was given: the run, and what says when."""
    clock = {"schedule": cron.schedule, "timezone": cron.timezone, "end_time": _utc(cron.end_time)}
    return {**cron.payload, **{name: value for name, value in clock.items() if value is not None}}


def _utc(moment: datetime | None) -> datetime | None:
    """In UTC, whatever zone the session of the database has."""
    return None if moment is None else moment.astimezone(UTC)


def run_shape(run: Run) -> JsonObject:
    """A run, with the request that made it as `kwargs`."""
    return run.shape()
