"""The tools that come with the server; one file each."""

from .calculator import calculator
from .current_time import current_time
from .http_fetch import http_fetch
from .notes import note_read, note_write
from .order_desk import order_lookup, order_refund

BUILTIN = (calculator, current_time, http_fetch, note_read, note_write, order_lookup, order_refund)

__all__ = [
    "BUILTIN",
    "calculator",
    "current_time",
    "http_fetch",
    "note_read",
    "note_write",
    "order_lookup",
    "order_refund",
]
