"""A task as it goes on: what its last run says and comes to, as events of A2A."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

from ...domain import Event
from ...encoding import JsonObject
from .. import calls
from ..calls import Call
from ..speech import AI, spoken, text_of
from .shapes import status, text_part
from .tasks import Task, told_of


async def progress(
    call: Call, task: Task, *, history: Iterable[JsonObject] = ()
) -> AsyncIterator[JsonObject]:
    """The task, then each change to it until nothing more happens by itself."""
    if task.ended:
        yield told_of(task, await calls.outcome_of(call), length=None)
        return
    yield task.begun(history)
    growing = _Growing(task)
    async with call.events(whole=False) as following:
        async for events in following:
            if (working := growing.working(events)) is not None:
                yield working
    state, artifacts = task.came_to(await calls.outcome_of(call))
    for artifact in artifacts:
        yield {
            "kind": "artifact-update",
            **task.place,
            "artifact": artifact,
            "append": False,
            "lastChunk": True,
        }
    yield _update(task, state, final=True)


class _Growing:
    """What a run has said so far of the message that it is at.

    A status replaces the one before, so each holds all of the message. Events come in batches: a reader
    gets one status for each, not one for each word.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._speaker = ""
        self._text = ""

    def working(self, events: Iterable[Event]) -> JsonObject | None:
        """The status after some events, if they change it."""
        before, begins = (self._speaker, self._text), False
        for event in events:
            if event.kind == "run.started":
                # Another attempt asks its models again.
                begins, self._speaker, self._text = True, "", ""
            self._take(event)
        if not begins and (self._speaker, self._text) == before:
            return None
        said = None
        if self._text:
            said = self._task.says([text_part(self._text)], message_id=self._speaker)
        return _update(self._task, status("working", at=datetime.now(UTC), said=said), final=False)

    def _take(self, event: Event) -> None:
        piece = spoken(event)
        if piece is None or piece.get("type") not in AI or not (text := text_of(piece.get("content"))):
            return
        speaker = str(piece.get("id") or self._task.last.run_id)
        self._text = self._text + text if speaker == self._speaker else text
        self._speaker = speaker


def _update(task: Task, state: JsonObject, *, final: bool) -> JsonObject:
    return {"kind": "status-update", **task.place, "status": state, "final": final}
