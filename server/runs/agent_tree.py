"""A run and the sub-graphs it has entered, as a tree with their status, read from the event log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from ..domain import Run
from ..protocol.run_events import RunEvents
from ..records.log_reader import END_OF_LOG

if TYPE_CHECKING:
    from ..resources import Resources

_STATUS: Mapping[str, str] = {
    "pending": "started",
    "running": "running",
    "success": "completed",
    "error": "failed",
    "timeout": "failed",
    "interrupted": "interrupted",
}
"""What is told of a run whose events are past their retention."""


async def tree_of(resources: Resources, run: Run) -> dict[str, Any]:
    """The tree of a run; each node has `namespace`, `status`, `graph_name` and, with any, `children`."""
    root: dict[str, Any] = {"namespace": [], "status": _STATUS[run.status], "graph_name": run.graph_id}
    nodes: dict[tuple[str, ...], dict[str, Any]] = {(): root}
    events = RunEvents.of(run)
    logged = resources.event_log.between(
        tenant_id=run.tenant_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        after=run.first_seq,
        until=END_OF_LOG,
    )
    async for entries in logged:
        for entry in entries:
            if entry.run_id != run.run_id:
                continue
            for shown in events.feed(entry):
                if shown.method == "lifecycle":
                    _note(nodes, shown.namespace, orjson.loads(shown.text()))
    return root


def _note(
    nodes: dict[tuple[str, ...], dict[str, Any]], path: tuple[str, ...], told: Mapping[str, Any]
) -> None:
    node = nodes.get(path)
    if node is None:
        node = nodes[path] = {"namespace": list(path), "graph_name": told["graph_name"]}
        nodes[path[:-1]].setdefault("children", []).append(node)
    node["status"] = told["event"]
