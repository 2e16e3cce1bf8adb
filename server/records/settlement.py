"""Where a thread rests: what a step that ends or moves a run leaves on its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...checkpoints.sealed import sealed_json, sealed_json_bytes, sealed_json_text
from ..domain import LeftBy, ThreadStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Where a thread rests."""

    status: ThreadStatus
    values: str | None = None
    """JSON text that jsonb can hold; None keeps the values that are there."""
    interrupts: Mapping[str, Any]
    error: Any
    exact: bytes | None
    left_by: LeftBy | None = None
    """Whose run left it there; None when nobody answers for it."""

    def parameters(self) -> dict[str, Any]:
        """Parameters of the statements that settle a thread.

        What was told of a user beyond the name and the rights may be secret. It stays while the thread waits
        for an answer, which goes on in the name of that user.
        """
        left_by = self.left_by
        if left_by is not None and not self.interrupts:
            left_by = replace(left_by, principal=replace(left_by.principal, attributes={}))
        return {
            "settled_status": self.status,
            "values": None if self.values is None else sealed_json_text("thread", "values", self.values),
            "interrupts": sealed_json("thread", "interrupts", self.interrupts),
            "thread_error": None if self.error is None else sealed_json("thread", "error", self.error),
            "exact": None if self.exact is None else sealed_json_bytes("thread", "exact", self.exact),
            "left_by": None if left_by is None else sealed_json("thread", "left_by", left_by.to_row()),
        }
