"""Lines in a file that outlives the process, so that a test can count what really ran."""

from __future__ import annotations

import os

from langchain_core.runnables import RunnableConfig


def note(config: RunnableConfig, text: str) -> None:
    """Add "thread-id text" to the file that `STEP_NOTES` names; nothing without it."""
    path = os.environ.get("STEP_NOTES")
    if path is None:
        return
    line = f"{config.get('configurable', {})['thread_id']} {text}\n".encode()
    # One write on an append-only descriptor: lines of several processes never mix.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
