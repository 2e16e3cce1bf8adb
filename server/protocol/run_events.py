"""A run's entries of the event log as events of the thread event stream. Pure: the same log, the same events.

An entry may show as none, one or several events, depending on the entries of its run before it. How many
is counted when it is written, by this very code, and kept beside it; the numbers of the stream (`seq`) are
sums of these counts, so that every process gives every event the same number, also when earlier entries
have been deleted meanwhile. What ends a run from outside need not know all this: each segment tells how many
events an end after it would show (`closing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from ..domain import Event, EventKind, Run
from ..encoding import encode
from .blocks import Messages
from .payloads import checkpoint_text, custom_text, node_of, state_shown, update_text
from .shown import Shown, object_text

_INTERRUPT = b'"__interrupt__"'
_STOPPED_UPDATE = b'{"__interrupt__"'
_MESSAGE_MODES = frozenset({"messages", "messages-tuple"})


def created_data(*, run_id: UUID, graph_id: str, modes: Sequence[str]) -> bytes:
    """Data of `run.created`: all that the stream has to know of a run beforehand."""
    return encode({"run_id": str(run_id), "graph_id": graph_id, "modes": list(modes)})


class RunEvents:
    """What the entries of one run show as; feed it every one from the run's first."""

    def __init__(self, created: bytes) -> None:
        told = orjson.loads(created)
        self._run_id: str = told["run_id"]
        self._graph: str = told["graph_id"]
        self._modes = frozenset[str](told["modes"])
        self._messages = Messages()
        self._running = False
        self._ended = False
        self._asked: dict[str, Shown] = {}
        """Questions by interrupt id. They are shown when the run ends: only then they can be answered."""
        self._open: dict[tuple[str, ...], None] = {}
        self._seen: set[tuple[str, ...]] = set()
        self.held: dict[tuple[str, ...], Event] = {}
        """By namespace, the state that waits for its checkpoint to be shown first."""

    @classmethod
    def of(cls, run: Run) -> RunEvents:
        """Before the first entry of a run that is about to start."""
        modes: list[str] = run.kwargs["stream_mode"]
        return cls(created_data(run_id=run.run_id, graph_id=run.graph_id, modes=modes))

    @property
    def closing(self) -> int:
        """How many events an end of the run would show now."""
        if self._ended:
            return 0
        still_open = len(self.held) + len(self._asked) + len(self._open)
        return self._messages.closing + still_open + (1 if self._running else 2)

    def feed(self, event: Event) -> list[Shown]:
        """What an entry shows as, in order."""
        shown: list[Shown] = []
        if event.namespace:
            shown += self._entered(event)
        # A state that asks something may be written by who ends the run, and counts for itself alone.
        follows = event.kind == "checkpoints" or (event.kind == "values" and not _asks(event))
        if follows and event.namespace in self.held:
            held = self.held.pop(event.namespace)
            if event.kind == "checkpoints":
                shown.append(self._checkpoint(event))
                return [*shown, *self._values(held)]
            shown += self._values(held)
        return [*shown, *self._shown(event)]

    def _shown(self, event: Event) -> Sequence[Shown]:
        match event.kind:
            case "run.started":
                return self._started(event)
            case "run.ended":
                return list(self._end(event))
            case "values":
                return self._state(event)
            case "messages":
                return self._message(event) if self._modes & _MESSAGE_MODES else ()
            case "updates" | "checkpoints" | "custom" | "tasks" | "tools":
                return self._plain(event) if event.kind in self._modes else ()
            case _:
                return ()

    # --- lifecycle -----------------------------------------------------------------------------

    def _started(self, event: Event) -> list[Shown]:
        if not self._running:
            self._running = True
            return [self._lifecycle(event, (), "running", graph_name=self._graph)]
        # Another attempt asks its models again: what the last one left half said is never finished.
        return self._messages_closed(event, "the attempt broke off")

    def _messages_closed(self, event: Event, error: str | None) -> list[Shown]:
        return [
            self._data(event, "messages", namespace, partial(encode, frame), part)
            for part, (namespace, frame) in enumerate(self._messages.close(error=error))
        ]

    def _entered(self, event: Event) -> list[Shown]:
        """That sub-graphs have started, the first time that something comes from them."""
        shown: list[Shown] = []
        for depth in range(1, len(event.namespace) + 1):
            path = event.namespace[:depth]
            if path in self._seen:
                continue
            self._seen.add(path)
            self._open[path] = None
            name, _, task_id = path[-1].partition(":")
            more = {"graph_name": name, "trigger_call_id": task_id or None}
            shown.append(self._lifecycle(event, path, "started", **more))
        return shown

    def _left(self, event: Event) -> list[Shown]:
        """That sub-graphs have ended, when the task that ran them has."""
        children = [path for path in self._open if path[:-1] == event.namespace]
        if not children:
            return []
        task = orjson.loads(event.data)
        if "result" not in task:
            return []
        mine = [path for path in children if path[-1].partition(":")[2] == task["id"]]
        status = "interrupted" if task.get("interrupts") else "failed" if task.get("error") else "completed"
        error = str(task["error"]) if status == "failed" else None
        inner = [path for path in self._open if any(path[: len(top)] == top for top in mine)]
        return list(self._ended_paths(event, inner, status, error))

    def _ended_paths(
        self, event: Event, paths: Sequence[tuple[str, ...]], status: str, error: str | None
    ) -> Iterator[Shown]:
        for path in sorted(paths, key=len, reverse=True):
            del self._open[path]
            name, _, task_id = path[-1].partition(":")
            more = {"graph_name": name, "trigger_call_id": task_id or None, "error": error}
            yield self._lifecycle(event, path, status, **more)

    def _end(self, event: Event) -> Iterator[Shown]:
        """All that an end closes; as many events as `closing` said, whatever the end is like."""
        if self._ended:
            return
        ended = orjson.loads(event.data)
        status, error = _outcome(ended)
        cause = None if status == "completed" or ended.get("waits") else error or "the run was stopped"
        for namespace in list(self.held):
            yield from self._values(self.held.pop(namespace))
        yield from self._messages_closed(event, cause)
        yield from self._asked.values()
        yield from self._ended_paths(event, list(self._open), status, error)
        if not self._running:
            yield self._lifecycle(event, (), "running", graph_name=self._graph)
        self._ended = True
        yield self._lifecycle(event, (), status, graph_name=self._graph, error=error)

    def _lifecycle(self, event: Event, path: tuple[str, ...], status: str, **more: Any) -> Shown:
        place = {"namespace": list(path)} if path else {}
        return Shown(
            f"synth:{self._run_id}:lc|{'|'.join(path)}|{status}",
            "lifecycle",
            path,
            event.at_ms,
            object_text(event=status, **place, **more),
        )

    # --- data ----------------------------------------------------------------------------------

    def _state(self, event: Event) -> list[Shown]:
        asks = _asks(event)
        if asks:
            self._ask(event)
        if "values" not in self._modes:
            return []
        if asks or "checkpoints" not in self._modes:
            return self._values(event)
        self.held[event.namespace] = event
        return []

    def _ask(self, event: Event) -> None:
        for interrupt in orjson.loads(event.data)["__interrupt__"]:
            identity: str = interrupt["id"]
            value = interrupt.get("value")
            shown = Shown(
                f"synth:{self._run_id}:input|{'|'.join(event.namespace)}|{identity}",
                "input.requested",
                event.namespace,
                event.at_ms,
                encode({"interrupt_id": identity, "payload": value, "value": value}),
            )
            self._asked.setdefault(identity, shown)

    def _values(self, event: Event) -> list[Shown]:
        return [self._data(event, "values", event.namespace, lambda: state_shown(event.data))]

    def _checkpoint(self, event: Event) -> Shown:
        return self._data(event, "checkpoints", event.namespace, lambda: checkpoint_text(event.data))

    def _message(self, event: Event) -> list[Shown]:
        message, metadata = orjson.loads(event.data)
        spare = f"message-{event.seq}"
        frames = self._messages.feed(event.namespace, message, metadata, spare_id=spare)
        node = metadata.get("langgraph_node")
        return [
            self._data(event, "messages", event.namespace, partial(encode, frame), part, node=node)
            for part, frame in enumerate(frames)
        ]

    def _plain(self, event: Event) -> list[Shown]:
        kind: EventKind = event.kind
        match kind:
            case "updates":
                if event.data.startswith(_STOPPED_UPDATE):
                    return []
                node = node_of(event.data)
                return [self._data(event, kind, event.namespace, lambda: update_text(event.data), node=node)]
            case "checkpoints":
                return [self._checkpoint(event)]
            case "custom":
                return [self._data(event, kind, event.namespace, custom_text(event.data))]
            case "tasks":
                return [self._data(event, kind, event.namespace, event.data), *self._left(event)]
            case _:
                return [self._data(event, kind, event.namespace, event.data)]

    def _data(
        self,
        event: Event,
        method: str,
        namespace: tuple[str, ...],
        data: Any,
        part: int = 0,
        *,
        node: str | None = None,
    ) -> Shown:
        identity = f"{event.at_ms}-{event.seq}" + (f".{part}" if part else "")
        return Shown(identity, method, namespace, event.at_ms, data, node)


def _asks(state: Event) -> bool:
    """Whether a state asks something; what the log holds instead of a large one never does.

    It is told alike by the state and by what stands for it, since one is counted and the other is read.
    """
    # The words alone may be anywhere, as in a message that a client wrote.
    maybe = state.data.startswith(b"{") and _INTERRUPT in state.data
    return maybe and "__interrupt__" in orjson.loads(state.data)


def _outcome(ended: dict[str, Any]) -> tuple[str, str | None]:
    """How the wire names an end, and what went wrong."""
    match ended["status"]:
        case "success":
            return ("interrupted" if ended.get("waits") else "completed"), None
        case "interrupted":
            return "interrupted", None
        case _:
            error = ended.get("error") or {}
            return "failed", error.get("message") or error.get("error") or str(ended["status"])
