"""A command that goes to the end: what waits on the thread is over, and no node runs.

LangGraph has no such node to go to: it ignores the wish, runs what was open again, and asks again. Chat
frontends send it where a person marks a thread as resolved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.constants import END
from langgraph.pregel import Pregel

from ...checkpoints.saver import ThreadSaver

# Whose writes are nobody's task: LangGraph applies them to a checkpoint before anything else.
_NO_TASK = "00000000-0000-0000-0000-000000000000"


def only_ends(command: Mapping[str, Any] | None) -> bool:
    """Whether a command answers nothing and goes nowhere but to the end."""
    if command is None or command.get("resume") is not None:
        return False
    goto = command.get("goto")
    targets = goto if isinstance(goto, list) else [goto]
    return bool(targets) and all(target == END for target in targets)


async def go_to_end(
    graph: Pregel, saver: ThreadSaver, config: RunnableConfig, found: CheckpointTuple, update: Any
) -> None:
    """Write what the command brings along and close every task that was open at the checkpoint `found`."""
    if update:
        writes = list(update.items()) if isinstance(update, dict) else update
        await saver.aput_writes(found.config, writes, _NO_TASK)
    await graph.aupdate_state(config, None, as_node=END)
