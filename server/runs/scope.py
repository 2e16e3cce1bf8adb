"""What a principal may do through the API. Which rows it may see is the tenant in every statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ...tools.policy.permissions import Principal
from ..errors import Forbidden

Resource = Literal["assistants", "threads", "store", "reviews"]
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
    "user": {
        "assistants": frozenset({"*"}),
        "threads": frozenset({"*"}),
        "store": frozenset({"*"}),
        "reviews": _READS,
    },
    "reviewer": {"assistants": _READS, "threads": _READS | {"create_run"}, "reviews": frozenset({"*"})},
    "viewer": {"assistants": _READS, "threads": _READS, "store": _READS, "reviews": _READS},
}
"""Role → resource → actions; `*` stands for all. A role that is not here grants nothing."""


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
