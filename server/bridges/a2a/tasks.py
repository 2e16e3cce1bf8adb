"""Tasks of A2A: a run, and the runs that went on with what it asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ...api.callers import Caller
from ...domain import INFLIGHT, Run
from ...encoding import JsonObject
from ...records import queue
from .. import calls
from ..calls import Call, Outcome
from ..jsonrpc import Fault
from ..speech import AI, Turn, last_turn, messages_of, text_of, waits_for
from ..waiting import actions_of, thread_of
from .shapes import data_part, message, status, text_part

TASK_NOT_FOUND = -32001
_PAGE = 20
GO_ON = "continue"
"""What to say at a breakpoint where nothing is to be added."""
_ANSWER = "Answer with a message to this task."
_DECIDE = "Answer with a message to this task: `approve`, `reject`, or `reject: why`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task."""

    first: Run
    """The run that began it."""
    last: Run
    """The last that went on with what it asked; `first` when none did."""

    @property
    def task_id(self) -> str:
        """Its name: that of the thread and that of the run."""
        return f"{self.first.thread_id}:{self.first.run_id}"

    @property
    def context_id(self) -> str:
        """The thread."""
        return str(self.first.thread_id)

    @property
    def place(self) -> dict[str, str]:
        """Where its messages belong."""
        return {"contextId": self.context_id, "taskId": self.task_id}

    @property
    def ended(self) -> bool:
        """Whether no run of it is under way."""
        return self.last.status not in INFLIGHT

    def shape(self, status: JsonObject, *, artifacts: Any = (), history: Any = ()) -> JsonObject:
        """The task as it is told."""
        return {
            "kind": "task",
            "id": self.task_id,
            "contextId": self.context_id,
            "status": status,
            "artifacts": list(artifacts),
            "history": list(history),
        }

    def begun(self, history: Any = ()) -> JsonObject:
        """The task while a run of it is under way."""
        state = "submitted" if self.last.status == "pending" else "working"
        return self.shape(status(state, at=self.last.started_at or self.last.created_at), history=history)

    def came_to(self, outcome: Outcome) -> tuple[JsonObject, list[JsonObject]]:
        """How the task stands after its last run, and its artifacts."""
        at = self.last.ended_at or datetime.now(UTC)
        match outcome.status:
            case "finished":
                return status("completed", at=at), [self._artifact(outcome.values)]
            case "waiting":
                return status("input-required", at=at, said=self._question(outcome)), []
            case "failed":
                return status("failed", at=at, said=self.says([text_part(outcome.failure)])), []
            case "cancelled":
                return status("canceled", at=at, said=self.says([text_part(outcome.failure)])), []

    def says(self, parts: list[JsonObject], *, message_id: str | None = None) -> JsonObject:
        """A message of the agent about the task."""
        named = message_id or f"{self.last.run_id}-status"
        return message("agent", parts, message_id=named, place=self.place)

    def history(self, values: Any, length: int | None) -> list[JsonObject]:
        """What was said in the last turn of a state, the last `length` messages of it."""
        said = [
            message(
                "agent" if one.get("type") in AI else "user",
                [text_part(text)],
                message_id=str(one.get("id") or f"{self.last.run_id}-{place}"),
                place=self.place,
            )
            for place, one in enumerate(last_turn(values))
            if one.get("type") in (*AI, "human") and (text := text_of(one.get("content")))
        ]
        return said if length is None else said[len(said) - min(length, len(said)) :]

    def _artifact(self, values: Any) -> JsonObject:
        text = Turn.of(values).text
        state = values if isinstance(values, dict) else {"value": values}
        if messages_of(values):
            state = {name: value for name, value in state.items() if name != "messages"}
        parts = [text_part(text)] if text else [data_part(state)]
        return {"artifactId": str(self.last.run_id), "name": "answer", "parts": parts}

    def _question(self, outcome: Outcome) -> JsonObject:
        hint = _ANSWER if outcome.interrupts else f"Say `{GO_ON}` in a message to this task."
        if any(actions_of(one.get("value")) for one in outcome.interrupts):
            hint = _DECIDE
        parts = [text_part(f"{waits_for(outcome.interrupts)}\n{hint}")]
        if outcome.interrupts:
            parts.append(data_part({"interrupts": outcome.interrupts}))
        return self.says(parts)


async def told(caller: Caller, task: Task, *, length: int | None) -> JsonObject:
    """A task as it stands now."""
    if not task.ended:
        return task.begun()
    return told_of(task, await calls.outcome_of(Call(caller, task.last, passing=False)), length=length)


def told_of(task: Task, outcome: Outcome, *, length: int | None) -> JsonObject:
    """A task as its last run left it."""
    state, artifacts = task.came_to(outcome)
    return task.shape(state, artifacts=artifacts, history=task.history(outcome.values, length))


async def task_named(caller: Caller, task_id: str, *, assistant_id: UUID) -> Task:
    """A task of an agent.

    Raises:
        Fault: there is none that the caller may see.
    """
    thread_text, _, run_text = task_id.partition(":")
    try:
        thread_id, run_id = UUID(thread_text), UUID(run_text)
    except ValueError:
        raise missing(task_id) from None
    task = None
    if await thread_of(caller, thread_id) is not None:
        task = await newest_task(caller, thread_id, run_id=run_id)
    if task is None or task.first.assistant_id != assistant_id:
        raise missing(task_id)
    return task


def missing(task_id: str) -> Fault:
    """There is no such task."""
    return Fault(TASK_NOT_FOUND, f"task {task_id!r} not found", {"code": "not_found"})


async def newest_task(caller: Caller, thread_id: UUID, *, run_id: UUID | None = None) -> Task | None:
    """The task that a thread is at, or the one that began with a run."""
    last: Run | None = None
    async for run in _newest_first(caller, thread_id):
        last = last or run
        if run.kwargs["input"] is not None and not run.kwargs["command"]:
            if run_id in (None, run.run_id):
                return Task(first=run, last=last)
            last = None
    return None


async def _newest_first(caller: Caller, thread_id: UUID) -> AsyncIterator[Run]:
    offset = 0
    while True:
        async with caller.database.connection() as connection:
            runs = await queue.list_runs(
                connection, tenant_id=caller.tenant_id, thread_id=thread_id, limit=_PAGE, offset=offset
            )
        for run in runs:
            yield run
        if len(runs) < _PAGE:
            return
        offset += _PAGE
