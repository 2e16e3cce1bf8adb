"""Runs that go on with what a thread left open: in whose name, and not past a spent budget.

An answer does not change who acts. What a run asked is its own business, and goes on with the rights of
whoever started it; the person who answers only says what to do. So the answer of somebody else may bring
nothing along by which it would say more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from ...tools.policy.budget import DIMENSIONS
from ...tools.policy.permissions import Principal
from ..domain import Assistant, LeftBy, Run, Thread
from ..errors import Conflicting, Forbidden, NoSuchInterrupt
from .settling import left_by_run

if TYPE_CHECKING:
    from .admission import RunRequest
    from .reviews import ResumePlan


def acting_principal(
    caller: Principal,
    request: RunRequest,
    assistant: Assistant,
    *,
    thread: Thread,
    in_line: Sequence[Run],
    decides: bool,
) -> Principal:
    """In whose name a run acts: the caller's, unless it goes on with what somebody else's run asked.

    Args:
        caller: who sent the request.
        request: the request.
        assistant: what it runs.
        thread: its thread, which is locked.
        in_line: the runs in flight there.
        decides: whether the request answers reviews.

    Raises:
        Conflicting: whose answer it is will only be known when the runs in flight have ended.
        Forbidden: somebody else's run waits, and the request says more than an answer to it.
    """
    waits = thread.left_by if thread.interrupts else None
    if not request.resumes and (waits is None or not request.only_continues):
        return caller
    asked = [*([waits] if waits else []), *(left_by_run(run) for run in in_line)]
    owner = next((one.principal for one in asked if one.principal != caller), None)
    if owner is None:
        return caller
    if not decides and _forks(request, waits):
        return caller
    if any(one.principal != owner for one in asked) or not (waits or decides):
        raise Conflicting("runs of somebody else are in flight on this thread; answer it once it waits")
    if more := ", ".join(_beside_the_answer(request, assistant, asked)):
        raise Forbidden(
            f"the thread waits in the name of {owner.subject!r}; send the answer alone, without {more}, "
            f"for the assistant {asked[0].assistant_id}"
        )
    return owner


def require_budget(
    request: RunRequest, *, thread: Thread, in_line: Sequence[Run], plan: ResumePlan | None
) -> None:
    """Refuse to go on past a spent budget: its review is answered, or a new input starts a new one.

    Raises:
        Conflicting: the request would go on with a fresh budget.
    """
    if not request.continues or (plan is not None and plan.budget is not None):
        return
    if "budget" in thread.interrupts:
        raise Conflicting("the thread waits at its budget: answer that review, or send a new input")
    if thread.error is not None and thread.error.get("error") == "BudgetExceeded":
        raise Conflicting("the thread was stopped at its budget: send a new input, which starts a new one")
    decides = plan is not None and bool(plan.answered)
    limited = any(run.budget.get(dimension) is not None for run in in_line for dimension in DIMENSIONS)
    if limited and not decides:
        raise Conflicting("a run with a budget is in flight on this thread; go on from it once it has ended")


def require_waiting(answers: Sequence[str], *, thread: Thread, in_line: Sequence[Run]) -> None:
    """Refuse answers to interrupts that do not wait, also since somebody has answered them just now.

    Raises:
        NoSuchInterrupt: one of them does not wait.
        Conflicting: what waits cannot be decrypted.
    """
    if not answers:
        return
    waiting = {one["id"] for one in thread.asked}
    for run in in_line:
        resume = (run.kwargs.get("command") or {}).get("resume")
        # Whoever starts anew leaves what waited behind.
        waiting = waiting - resume.keys() if isinstance(resume, dict) else set[str]()
    if unknown := [answer for answer in answers if answer not in waiting]:
        raise NoSuchInterrupt(
            f"no interrupt {unknown[0]!r} waits on this thread; read its state and try again"
        )


def by_interrupt_id(answer: Any, waiting: Sequence[str]) -> dict[str, Any] | None:
    """An answer as `resume`, by the id of what waits; it may be by id already.

    None when several wait and it does not say which of them it answers.
    """
    if isinstance(answer, dict) and answer and answer.keys() <= set(waiting):
        return cast("dict[str, Any]", answer)
    return {waiting[0]: answer} if len(waiting) == 1 else None


def _forks(request: RunRequest, waits: LeftBy | None) -> bool:
    """Whether a request starts elsewhere than where the thread waits."""
    place = request.place
    where = place.pop("checkpoint_id", None)
    return any(place.values()) or (where is not None and (waits is None or where != waits.checkpoint_id))


def _beside_the_answer(request: RunRequest, assistant: Assistant, asked: Sequence[LeftBy]) -> Iterator[str]:
    yield from (f"`command.{name}`" for name in ("update", "goto") if name in (request.parts or {}))
    if _forks(request, asked[0]):
        yield "`checkpoint`"
    if request.settings:
        yield "`config.configurable`"
    if request.context:
        yield "`context`"
    if request.after_seconds:
        yield "`after_seconds`"
    if any(one.assistant_id != assistant.assistant_id for one in asked):
        yield "another assistant"
