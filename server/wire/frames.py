"""Frames of Server-Sent Events: the bytes of one event, and the cursor in its id."""

from __future__ import annotations

import re
from typing import NamedTuple

_CURSOR = re.compile(r"(\d{1,18})(?:\.(\d{1,6}))?", re.ASCII)


class Cursor(NamedTuple):
    """Where a reader resumes: strictly after this frame.

    One logged event may show as several frames, so a position is the event's number and the frame's
    place among those of its event.
    """

    seq: int
    part: int = 0

    def __str__(self) -> str:
        return f"{self.seq}.{self.part}" if self.part else str(self.seq)

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Read an id that a frame bore; None when it is none of ours."""
        match = _CURSOR.fullmatch(text)
        return cls(int(match[1]), int(match[2] or 0)) if match else None


class Frame(NamedTuple):
    """One event as the wire shows it."""

    cursor: Cursor
    name: str
    """Event name; a namespace follows the mode after `|`."""
    data: bytes
    """One line of JSON."""

    def to_bytes(self, *, with_id: bool) -> bytes:
        """The frame in the order and with the line ends that clients expect."""
        name = self.name.replace("\r", " ").replace("\n", " ").encode()
        if with_id:
            return b"event: %b\r\ndata: %b\r\nid: %b\r\n\r\n" % (name, self.data, str(self.cursor).encode())
        return b"event: %b\r\ndata: %b\r\n\r\n" % (name, self.data)


HEARTBEAT = b": heartbeat\r\n\r\n"
"""A comment: keeps proxies and clients from taking silence for the end, and is no event to an SDK."""
