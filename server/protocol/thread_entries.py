"""Entries of a thread's log that belong to no run, as events of the thread event stream. Pure."""

from __future__ import annotations

import orjson

from ..domain import Event
from ..encoding import encode
from .payloads import state_checkpoint_text
from .shown import Shown, object_text

SHOWS_OF_ROLLED_BACK = 1
"""What the end of a run shows whose events are gone: only that it has ended."""
SHOWS_OF_STATE = 2
"""What a state shows that was written from outside: its checkpoint and its values."""


def entry_shown(event: Event) -> list[Shown]:
    """What an entry without a run shows as."""
    if event.kind == "run.ended":
        run_id = orjson.loads(event.data)["run_id"]
        identity = f"synth:{run_id}:lc||interrupted"
        return [Shown(identity, "lifecycle", (), event.at_ms, object_text(event="interrupted"))]
    if event.kind != "state.updated":
        return []
    state = orjson.loads(event.data)["state"]
    identity = f"{event.at_ms}-{event.seq}"
    return [
        Shown(identity, "checkpoints", (), event.at_ms, state_checkpoint_text(state)),
        Shown(f"{identity}.1", "values", (), event.at_ms, encode(state["values"])),
    ]
