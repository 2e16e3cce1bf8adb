"""What a thread waits for, and answers to it that come in the form of another protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ..api.callers import Caller
from ..domain import Thread
from ..errors import Invalid
from ..records import threads
from ..runs.continuing import by_interrupt_id

_DECIDE = (
    "the run waits for a decision: say `approve`, `reject`, or `reject: why`, or send data such as "
    '{"decisions": [{"type": "approve"}]}'
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a thread at rest waits for."""

    interrupts: list[dict[str, Any]]
    """What is asked, each `{"id", "value"}`. Empty at a breakpoint: it only has to go on."""

    @classmethod
    def of(cls, thread: Thread | None) -> Waiting | None:
        """None when a thread waits for nobody, does not exist, or is busy.

        Raises:
            Conflicting: what it waits for cannot be decrypted.
        """
        if thread is None or thread.status == "busy":
            return None
        interrupts = thread.asked
        # A thread whose run was stopped has a next node too, and says so in its error.
        at_breakpoint = thread.status == "interrupted" and thread.error is None
        return cls(interrupts) if interrupts or at_breakpoint else None

    @property
    def ids(self) -> list[str]:
        """Of all that is asked."""
        return [one["id"] for one in self.interrupts]

    def value(self, interrupt_id: str) -> Any:
        """What is asked by one of them."""
        return next(one.get("value") for one in self.interrupts if one["id"] == interrupt_id)

    def answered(self, answer: Any) -> dict[str, Any]:
        """An answer as `resume`, by interrupt id; it may be by id already.

        Raises:
            Invalid: it is not clear what it answers, or it is words where a decision is wanted.
        """
        answers = by_interrupt_id(answer, self.ids)
        if answers is None:
            raise Invalid(f"{len(self.ids)} interrupts wait; answer by interrupt id: {', '.join(self.ids)}")
        if isinstance(answer, str):
            return {one: decided(self.value(one), answer) for one in answers}
        return answers


async def thread_of(caller: Caller, thread_id: UUID) -> Thread | None:
    """A thread, if there is one that the caller may read."""
    held = (await caller.ask("threads", "read", thread_id=thread_id)).held
    async with caller.database.connection() as connection:
        return await threads.get(connection, tenant_id=caller.tenant_id, thread_id=thread_id, held=held)


def actions_of(asked: Any) -> list[Any]:
    """The actions that a review asks about; none when it is a question of another kind."""
    requests = asked.get("action_requests") if isinstance(asked, Mapping) else None
    return requests if isinstance(requests, list) else []


def decisions(asked: Any, decision: Mapping[str, Any]) -> dict[str, Any]:
    """The same decision on every action of a review."""
    return {"decisions": [dict(decision) for _ in actions_of(asked)]}


def decided(asked: Any, words: str) -> Any:
    """Words as an answer: to a review they are a decision.

    Raises:
        Invalid: they are none.
    """
    if not actions_of(asked):
        return words
    said, _, why = (part.strip() for part in words.partition(":"))
    match said.casefold():
        case "approve" if not why:
            return decisions(asked, {"type": "approve"})
        case "reject":
            return decisions(asked, {"type": "reject", **({"message": why} if why else {})})
        case _:
            raise Invalid(_DECIDE)
