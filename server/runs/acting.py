"""For whom the code of a project is executing here: what its calls to this server act as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from ...tools.policy.permissions import Principal


@dataclass(frozen=True, slots=True)
class Actor:
    """A principal, and the run that executes for it."""

    principal: Principal
    run_id: UUID | None = None
    """None: no run, such as a route of the project, or a factory that is only looked at."""
    thread_id: UUID | None = None


_current: ContextVar[Actor | None] = ContextVar("interlock_actor", default=None)


def current_actor() -> Actor | None:
    """Whose code is executing here; None where it cannot be told, such as in a thread that a node made."""
    return _current.get()


@contextmanager
def acting_for(actor: Actor | None) -> Iterator[None]:
    """Let the code inside, and all that it starts, act for somebody, or for nobody."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)
