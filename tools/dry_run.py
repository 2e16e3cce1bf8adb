"""Asks a tool what it would do, before a person is asked whether it may."""

from __future__ import annotations

import asyncio

import structlog
from langgraph.errors import GraphBubbleUp
from pydantic_core import to_json

from ..checkpoints.errors import DatabaseError
from .checks import CheckedCall, Refused
from .errors import RetryTool, ToolFailed
from .tool import DeclaredTool

log = structlog.get_logger(__name__)


async def foreseen(call: CheckedCall, *, deadline_s: float | None) -> bytes | None:
    """What the call would do, as JSON; None for a tool that cannot say so.

    Raises:
        Refused: the dry run fails, and so would the call; nobody needs to be asked.
    """
    tool = call.tool
    if not isinstance(tool, DeclaredTool) or tool.spec.dry_run is None:
        return None
    try:
        async with asyncio.timeout(deadline_s):
            return to_json(await tool.preview(call.request.arguments))
    except (ToolFailed, RetryTool) as error:
        raise Refused("dry_run", str(error)) from error
    except TimeoutError as error:
        raise Refused("dry_run", "the dry run gave no answer in time") from error
    except (GraphBubbleUp, DatabaseError):
        raise
    except Exception as error:
        # Whatever a dry run raises, the model hears of it and the audit has its row.
        log.warning("dry_run_failed", tool=tool.name, exc_info=error)
        raise Refused("dry_run", f"the dry run failed: {type(error).__name__}: {error}") from error
