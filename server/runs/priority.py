"""The priority hook of a project, `langgraph_sdk.Priority`: when the runs of a thread are served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import structlog
from langgraph_sdk.auth.types import BaseUser
from langgraph_sdk.priority.types import PriorityContext

from ...tools.policy.permissions import Principal
from ..domain import Assistant, Thread
from ..errors import NotFound
from ..records import threads
from .acting import Actor, acting_for
from .naming import NO_THREAD, assistant_of
from .user import RunUser

if TYPE_CHECKING:
    from uuid import UUID

    from ..resources import Resources
    from .admission import RunRequest
    from .permitting import Permit

log = structlog.get_logger(__name__)

_DEADLINE_S = 10.0
_RANGE = range(-5, 6)
_LONGEST_GROUP = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPriority:
    """What a thread keeps of the decision."""

    priority: int = 0
    """Lower is served first."""
    fairness_group: str = "default"
    """Groups of a tenant take turns among runs of one priority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The run for whose thread a decision is wanted."""

    principal: Principal
    thread_id: UUID | None
    thread: Thread | None
    assistant: Assistant
    run_metadata: Mapping[str, Any]
    cron_id: UUID | None
    """The cron that starts the run."""


async def decide(hook: Any, asked: Asked) -> ThreadPriority | None:
    """Ask the hook; None when it failed. That is logged, and the next run of the thread asks again."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            with acting_for(Actor(asked.principal)):
                return _settings(await hook._assign_handler(_context(asked)))
    # The hook is the project's code; a run is worth more than its place in the line.
    except Exception as error:
        log.error(
            "priority_hook_failed",
            thread_id=str(asked.thread_id),
            graph_id=asked.assistant.graph_id,
            advice="the run has the default priority",
            exc_info=error,
        )
        return None


async def decided_for(resources: Resources, principal: Principal, permit: Permit) -> ThreadPriority | None:
    """What the hook says of the thread of a run that has no settings yet; asked while nothing is locked.

    Raises:
        ServerError: there is no such thread or assistant.
    """
    hook, request = resources.catalog.hooks.priority, permit.request
    if hook is None:
        return None
    thread = None
    async with resources.database.transaction() as connection:
        if request.thread_id is not None:
            key: threads.ThreadKey = {"tenant_id": principal.tenant, "thread_id": request.thread_id}
            if await threads.has_priority(connection, **key):
                return None
            thread = await threads.get(connection, **key, held=permit.thread)
            if thread is None and request.if_not_exists == "reject":
                raise NotFound(NO_THREAD)
        assistant = await assistant_of(
            resources, principal, connection, request.assistant_id, held=permit.assistant
        )
    return await decide(
        hook,
        Asked(
            principal=principal,
            thread_id=request.thread_id,
            thread=thread,
            assistant=assistant,
            run_metadata=run_metadata(request, assistant),
            cron_id=request.cron_id,
        ),
    )


def run_metadata(request: RunRequest, assistant: Assistant) -> dict[str, Any]:
    """The metadata of a run: that of its assistant below its own."""
    return {**assistant.metadata, **(request.config.get("metadata") or {}), **request.metadata}


def _context(asked: Asked) -> PriorityContext:
    known = asked.principal.subject != "anonymous"
    user = RunUser(asked.principal if known else Principal(tenant=asked.principal.tenant, subject=""))
    return PriorityContext(
        user=cast("BaseUser", user),
        permissions=user.permissions,
        thread_id=None if asked.thread_id is None else str(asked.thread_id),
        thread_metadata=dict(asked.thread.metadata) if asked.thread else {},
        assistant_id=str(asked.assistant.assistant_id),
        graph_id=asked.assistant.graph_id,
        assistant_metadata=dict(asked.assistant.metadata),
        run_metadata=dict(asked.run_metadata),
        cron_id=None if asked.cron_id is None else str(asked.cron_id),
    )


def _settings(given: Any) -> ThreadPriority:
    if given is None:
        return ThreadPriority()
    if not isinstance(given, Mapping) or given.keys() - {"priority", "fairness_group"}:
        raise ValueError(
            f"the hook returned {given!r}; it must be None, or have `priority` and `fairness_group`"
        )
    priority = 0 if given.get("priority") is None else given["priority"]
    if type(priority) is not int or priority not in _RANGE:
        raise ValueError(f"`priority` is {priority!r}; it must be a whole number from -5 to 5")
    group = given.get("fairness_group") or ThreadPriority().fairness_group
    if not isinstance(group, str) or len(group) > _LONGEST_GROUP or "\0" in group:
        raise ValueError(f"`fairness_group` is {group!r:.300}; it must be a text of at most 256 characters")
    return ThreadPriority(priority=priority, fairness_group=group)
