"""What a saver can answer without the database: what it has just written, or was just asked for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple, writes_sort_key

from .thread_writer import CheckpointRow, TaskWrite


class Memory:
    """The newest root checkpoint that was written, and one that was loaded ahead.

    It holds no copies: the values are those of the graph, which owns them.
    """

    def __init__(self) -> None:
        self.preloaded: tuple[Mapping[str, Any], CheckpointTuple | None] | None = None
        self.serves_head = False
        self._head: tuple[CheckpointRow, Checkpoint] | None = None
        self._writes: dict[tuple[str, int], tuple[TaskWrite, Any]] = {}

    def saved(self, row: CheckpointRow, checkpoint: Checkpoint) -> None:
        """A checkpoint was written."""
        if not row.ns:
            self._head = (row, checkpoint)
            self._writes = {}

    def written(self, rows: Sequence[TaskWrite], values: Sequence[Any], *, replaces: bool) -> None:
        """A task has written on top of a checkpoint."""
        if self._head is None:
            return
        head = self._head[0]
        for row, value in zip(rows, values, strict=True):
            key = (row.task_id, row.idx)
            on_head = (row.ns, row.checkpoint_id) == (head.ns, head.checkpoint_id)
            if on_head and (replaces or key not in self._writes):
                # An exception is stored as text.
                self._writes[key] = (row, repr(value) if isinstance(value, BaseException) else value)

    def version_of(self, channel: str, value: Any) -> str | None:
        """The version of a channel in the newest checkpoint, if this very object is its value there."""
        if self._head is None:
            return None
        checkpoint = self._head[1]
        if checkpoint["channel_values"].get(channel) is not value:
            return None
        return str(checkpoint["channel_versions"][channel])

    def recall(self, place: Mapping[str, Any]) -> tuple[bool, CheckpointTuple | None]:
        """The checkpoint at a place, if it is remembered: whether it is, and what it is."""
        if self.preloaded is not None:
            (loaded_at, found), self.preloaded = self.preloaded, None
            if all(loaded_at.get(key) == place.get(key) for key in ("checkpoint_ns", "checkpoint_id")):
                return True, found
        if self.serves_head and not place["checkpoint_ns"] and not place.get("checkpoint_id"):
            found = self._newest(place["thread_id"])
            return found is not None, found
        return False, None

    def _newest(self, thread_id: str) -> CheckpointTuple | None:
        if self._head is None:
            return None
        row, checkpoint = self._head
        at = {"thread_id": thread_id, "checkpoint_ns": ""}
        writes = sorted(
            self._writes.values(), key=lambda w: writes_sort_key(w[0].task_path, w[0].task_id, w[0].idx)
        )
        # A reader applies writes to what it gets; the graph's own dicts must not change.
        shown = {
            **checkpoint,
            "channel_values": dict(checkpoint["channel_values"]),
            "channel_versions": dict(checkpoint["channel_versions"]),
            "versions_seen": copy.deepcopy(checkpoint["versions_seen"]),
        }
        return CheckpointTuple(
            {"configurable": {**at, "checkpoint_id": row.checkpoint_id}},
            cast("Checkpoint", shown),
            cast("CheckpointMetadata", row.metadata),
            {"configurable": {**at, "checkpoint_id": row.parent_id}} if row.parent_id else None,
            [(write.task_id, write.channel, value) for write, value in writes],
        )
