"""Where a thread rests, and what it shows there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

import orjson

from ...checkpoints.sealed import unreadable
from ..domain import LeftBy, Run, RunStatus, Thread, ThreadStatus
from ..encoding import encode, storable
from ..records.settlement import Settlement


def settled_status(status: RunStatus, *, waits: bool) -> ThreadStatus:
    """Where a thread rests after a run; `waits`: its state has a next node or asks for something."""
    match status:
        case "error" | "timeout":
            return "error"
        case "interrupted":
            return "interrupted"
        case "success":
            return "interrupted" if waits else "idle"
        case "pending" | "running":
            raise ValueError(f"a run that is {status} does not settle its thread")
        case _:
            assert_never(status)


def rest(
    thread: Thread, *, status: ThreadStatus | None = None, error: dict[str, str] | None = None
) -> Settlement:
    """What a thread shows with another status or error, its values untouched."""
    interrupts = {} if status == "interrupted" else thread.interrupts
    error = error if error is not None else thread.error
    if unreadable(interrupts) or unreadable(error) or unreadable(thread.values):
        # What nobody can read stays as it is stored.
        return Settlement(
            status=status or thread.status,
            interrupts=interrupts,
            error=error,
            exact=None,
            left_by=thread.left_by,
        )
    safe_values, exact = storable(encode({"values": thread.values, "interrupts": interrupts, "error": error}))
    return Settlement(
        status=status or thread.status,
        interrupts=safe_values["interrupts"],
        error=safe_values["error"],
        exact=exact,
        left_by=thread.left_by,
    )


def left_by_run(run: Run) -> LeftBy:
    """In whose name what the run asks is answered."""
    return LeftBy(principal=run.principal, assistant_id=run.assistant_id)


def shown(
    status: ThreadStatus,
    *,
    values: bytes | None,
    interrupts: Mapping[str, Any],
    error: dict[str, str] | None,
    left_by: LeftBy | None,
) -> Settlement:
    """A thread at rest; `values` is the state as JSON text, None to keep what is shown."""
    parts = {b"interrupts": encode(interrupts), b"error": encode(error)}
    safe, exact = storable(_object(parts))
    # The state may be large: it is parsed only when jsonb cannot hold it as it is.
    if values is not None and (exact is not None or b"\\u0000" in values):
        safe_values, _ = storable(values)
        exact, values = _object({**parts, b"values": values}), orjson.dumps(safe_values)
    return Settlement(
        status=status,
        values=None if values is None else values.decode(),
        interrupts=safe["interrupts"],
        error=safe["error"],
        exact=exact,
        left_by=left_by,
    )


def _object(parts: Mapping[bytes, bytes]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % part for part in parts.items())
