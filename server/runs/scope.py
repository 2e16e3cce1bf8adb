"""What a principal may do through the API, and which rows of its tenant it may touch.

A new operation asks twice, both in its route: `may("threads", "read")` in the annotation of its caller
holds the roles against a rule, and `answer = await caller.ask("threads", "read", thread_id=thread_id)`
asks the project's own handlers, if it has any. `answer.held` then goes down into the statement (as
`held`), so that a row that does not match is as missing as one that does not exist; `answer.value` and
`answer.metadata` are what the handlers made of the values, and `answer.stamped` are the metadata of a
row to be made, with its owner. Runs that are not admitted by a route are asked about in `admission`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...checkpoints.sealed import require_plain
from ...tools.policy.permissions import Principal
from ..errors import Forbidden
from ..records.held import Held, stamped
from .project_auth import SERVER_ROLE, STUDIO_ROLE

if TYPE_CHECKING:
    from ..resources import Resources

Resource = Literal["assistants", "threads", "crons", "store", "reviews"]
Action = Literal["create", "read", "update", "delete", "search", "create_run"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route asks for: an action on a kind of resource."""

    resource: Resource
    action: Action

    def __str__(self) -> str:
        return f"{self.resource}.{self.action}"


_READS = frozenset({"read", "search"})

ROLES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "admin": {"*": frozenset({"*"})},
    "member": {"*": frozenset({"*"})},
    SERVER_ROLE: {"*": frozenset({"*"})},
    STUDIO_ROLE: {"*": frozenset({"*"})},
    "user": {
        "assistants": frozenset({"*"}),
        "threads": frozenset({"*"}),
        "crons": frozenset({"*"}),
        "store": frozenset({"*"}),
        "reviews": _READS,
    },
    "reviewer": {"assistants": _READS, "threads": _READS | {"create_run"}, "reviews": frozenset({"*"})},
    "viewer": {
        "assistants": _READS,
        "threads": _READS,
        "crons": _READS,
        "store": _READS,
        "reviews": _READS,
    },
}
"""Role → resource → actions; `*` stands for all. A role that is not here grants nothing.

A member is whoever the project's `Auth` object lets in: its handlers limit the API. Unlike an admin it has
no right to tools that it was not given.
"""


def permitted(principal: Principal, rule: Rule) -> bool:
    """Whether a role or a permission of the principal grants what a rule asks for."""
    if str(rule) in principal.permissions or f"{rule.resource}.*" in principal.permissions:
        return True
    granted = [ROLES.get(role, {}) for role in principal.roles]
    return any(
        actions.get(resource, frozenset()) & {"*", rule.action}
        for actions in granted
        for resource in ("*", rule.resource)
    )


def allow(principal: Principal, rule: Rule) -> None:
    """Let a principal pass, or not.

    Raises:
        Forbidden: nothing grants it.
    """
    if not permitted(principal, rule):
        raise Forbidden


@dataclass(frozen=True, slots=True)
class Answer:
    """What the project's handlers say about one operation."""

    value: Mapping[str, Any]
    """What is wanted, as they changed it."""
    held: Held
    """What the rows it touches must hold."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata in `value`, which they may have changed or set."""
        return dict(self.value.get("metadata") or {})

    @property
    def stamped(self) -> dict[str, Any]:
        """The metadata of a row to be made: what it must hold stands over what the client says."""
        return stamped(self.metadata, self.held)


async def ask(
    resources: Resources, principal: Principal, resource: str, action: str, value: dict[str, Any]
) -> Answer:
    """Ask the project's handlers, by LangGraph's names of resource and action, about one operation.

    Raises:
        Forbidden: they say no.
        ServerError: they refuse with an answer of their own, or fail.
    """
    auth = resources.catalog.auth
    if auth is None:
        return Answer(value, None)
    timeout_s = resources.settings.auth.handler_timeout_s
    held = await auth.ask(principal, resource, action, value, timeout_s=timeout_s)
    if held:
        require_plain(frozenset(held))
    return Answer(value, held)
