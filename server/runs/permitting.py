"""Asks the project's handlers about runs, before anything is locked for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ...tools.policy.permissions import Principal
from ..domain import default_assistant_id
from ..errors import Forbidden
from ..records.held import Held, both
from .naming import assistant_named
from .scope import ask

if TYPE_CHECKING:
    from ..resources import Resources
    from .admission import RunRequest

_CHANGEABLE = ("input", "command", "context", "config")
"""What of a run's `kwargs` a handler may change."""


class Permit(NamedTuple):
    """A run as the handlers let it in."""

    request: RunRequest
    assistant_id: UUID
    thread: Held
    """What its thread must hold."""
    made: Held
    """What the thread is made to hold, if it is made."""
    assistant: Held
    """What its assistant must hold."""


async def permit(
    resources: Resources, principal: Principal, request: RunRequest, *, held: Held = None
) -> Permit:
    """Ask whether a run may be made, and with which assistant.

    Args:
        resources: those of the loop.
        principal: whose run it is.
        request: the run.
        held: what its thread must hold besides, as an earlier answer says.

    Raises:
        ServerError: the handlers refuse it.
    """
    assistant_id = assistant_named(resources.catalog, request.assistant_id)
    if resources.catalog.auth is None:
        return Permit(request, assistant_id, held, None, None)
    answer = await ask(resources, principal, "threads", "create_run", _value(request, assistant_id))
    kwargs = answer.value.get("kwargs") or {}
    changed = {name: kwargs[name] for name in _CHANGEABLE if name in kwargs}
    permitted = replace(request, **changed, metadata=answer.metadata)
    assistant = await assistant_held(resources, principal, assistant_id)
    return Permit(permitted, assistant_id, both(held, answer.held), answer.held, assistant)


def _value(request: RunRequest, assistant_id: UUID) -> dict[str, Any]:
    return {
        "thread_id": request.thread_id,
        "assistant_id": assistant_id,
        "run_id": request.run_id,
        "status": "pending",
        "metadata": dict(request.metadata),
        "prevent_insert_if_inflight": request.multitask_strategy == "reject",
        "multitask_strategy": request.multitask_strategy,
        "if_not_exists": request.if_not_exists,
        "after_seconds": request.after_seconds,
        "kwargs": {
            "input": request.input,
            "command": _copied(request.command),
            "config": dict(request.config),
            "context": _copied(request.context),
            "stream_mode": list(request.stream_mode) or ["values"],
            "interrupt_before": request.interrupt_before,
            "interrupt_after": request.interrupt_after,
            "webhook": request.webhook,
            "subgraphs": request.stream_subgraphs,
            "resumable": request.stream_resumable,
            "durability": request.durability,
            "checkpoint_during": request.checkpoint_during,
            "feedback_keys": request.feedback_keys,
            "temporary": request.temporary,
        },
    }


async def assistant_held(resources: Resources, principal: Principal, assistant_id: UUID) -> Held:
    """What an assistant must hold to be run. The one that each graph has by itself is everybody's."""
    catalog = resources.catalog
    if any(assistant_id == default_assistant_id(name) for name in (*catalog.graph_ids, *catalog.failures)):
        return None
    try:
        answer = await ask(
            resources, principal, "assistants", "read", {"assistant_id": assistant_id, "metadata": {}}
        )
    except Forbidden:
        # Whoever may read none is told of none.
        return False
    return answer.held


def _copied(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if given is None else dict(given)
