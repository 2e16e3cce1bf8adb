"""Whether a run stands at a breakpoint that an attempt before this one reached and could not tell of.

An attempt that goes on from a checkpoint gets no input, which LangGraph takes as the wish to go past
the breakpoint there. Nobody has wished that when only the outcome of the earlier attempt was lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.constants import TAG_HIDDEN
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from ...checkpoints.saver import ThreadSaver

_PASSED = "__interrupt__"
"""Where a checkpoint keeps the versions of its channels at which somebody last went past a breakpoint."""

Nodes = Literal["*"] | Sequence[str]


@dataclass(frozen=True, slots=True)
class Breakpoints:
    """Where a run stops: those it was asked to have, else those that its graph was compiled with."""

    before: Nodes
    after: Nodes

    @classmethod
    def of(cls, graph: Pregel, kwargs: Mapping[str, Any]) -> Breakpoints:
        """The breakpoints of a run, as LangGraph chooses them."""
        return cls(
            before=kwargs["interrupt_before"] or graph.interrupt_before_nodes,
            after=kwargs["interrupt_after"] or graph.interrupt_after_nodes,
        )

    async def stopped_at(
        self, graph: Pregel, saver: ThreadSaver, head: RunnableConfig
    ) -> StateSnapshot | None:
        """The state at the head of the thread, if the run that left it there stopped at a breakpoint."""
        if not self.before and not self.after:
            return None
        found = await saver.preload(head)
        if found is None or _was_passed(found.checkpoint):
            return None
        state = await graph.aget_state(head)
        if _meets(graph, self.before, (task.name for task in state.tasks)):
            return state
        # A checkpoint of an input or a fork is no node's.
        ran = self.after and found.metadata.get("source") == "loop"
        return state if ran and _meets(graph, self.after, await _before(graph, saver, found)) else None


def _was_passed(checkpoint: Checkpoint) -> bool:
    """Whether a run began by going past this very checkpoint: nothing has changed since."""
    passed = checkpoint["versions_seen"].get(_PASSED, {})
    return all(passed.get(channel) == version for channel, version in checkpoint["channel_versions"].items())


def _meets(graph: Pregel, breakpoints: Nodes, names: Iterable[str]) -> bool:
    if breakpoints == "*":
        return any(TAG_HIDDEN not in (graph.nodes[name].tags or ()) for name in names)
    return any(name in breakpoints for name in names)


async def _before(graph: Pregel, saver: ThreadSaver, found: CheckpointTuple) -> set[str]:
    """The nodes that led to a checkpoint: with durability `exit` all that ran since the one before it."""
    parent = await saver.preload(found.parent_config) if found.parent_config is not None else None
    seen = found.checkpoint["versions_seen"]
    if parent is None or found.parent_config is None:
        return set(seen) & set(graph.nodes)
    earlier = parent.checkpoint["versions_seen"]
    ran = {name for name in graph.nodes if seen.get(name) != earlier.get(name)}
    # A node that was sent for reads no channel, so it is not among them.
    return ran | {task.name for task in (await graph.aget_state(found.parent_config)).tasks}
