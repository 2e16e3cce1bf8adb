"""Which headers of a request go on: into a run's `configurable`, and into the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from ..settings import HeaderSettings

SECRET = frozenset(
    {"authorization", "cookie", "x-api-key", "x-encryption-context", "x-service-key", "x-tenant-id"}
)
"""Headers that no pattern reaches, only their own name."""


def chosen(headers: Iterable[tuple[str, str]], settings: HeaderSettings) -> dict[str, str]:
    """The headers that settings ask for, by their name in lower case; of one given twice the last counts."""
    return {
        name: value
        for name, value in ((name.lower(), value) for name, value in headers)
        if _named(name, settings.includes) and not _matches(name, settings.excludes)
    }


def for_configurable(headers: Mapping[str, str], settings: HeaderSettings) -> dict[str, str]:
    """The headers that a run finds in `configurable`; what the server itself says there is not theirs."""
    return {
        name: value
        for name, value in chosen(headers.items(), settings).items()
        if name not in _OURS and not name.startswith(("__", "langgraph_"))
    }


_OURS = frozenset(
    {
        "thread_id",
        "run_id",
        "graph_id",
        "assistant_id",
        "user_id",
        "checkpoint_id",
        "checkpoint_ns",
        "checkpoint_map",
    }
)


def _named(name: str, patterns: Iterable[str]) -> bool:
    if name in SECRET:
        return any(name == pattern.lower() for pattern in patterns)
    return _matches(name, patterns)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns)
