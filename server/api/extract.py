"""Single values out of threads, by path: `values.messages[-1].content`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import Invalid

ROOTS = ("config", "interrupts", "metadata", "values")

Path = tuple[str | int, ...]

_PATH = re.compile(r"^[^.\[\]]+(\.[^.\[\]]+|\[-?\d{1,9}\])*$")
_STEP = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]")


def paths(wanted: Mapping[str, str]) -> dict[str, Path]:
    """Read the paths of a request.

    Raises:
        Invalid: one is malformed, or starts at something else than one of `ROOTS`.
    """
    return {alias: _path(text) for alias, text in wanted.items()}


def extracted(shape: Mapping[str, Any], wanted: Mapping[str, Path]) -> dict[str, Any]:
    """`{"extracted": …}` with what each path leads to, None where it leads nowhere; empty without paths."""
    if not wanted:
        return {}
    return {"extracted": {alias: _follow(shape, path) for alias, path in wanted.items()}}


def _path(text: str) -> Path:
    if not _PATH.match(text):
        raise Invalid(f"extract: {text!r} is not a path such as `values.messages[-1].content`")
    steps = tuple(name or int(index) for name, index in _STEP.findall(text))
    if steps[0] not in ROOTS:
        raise Invalid(f"extract: {text!r} must start with one of {', '.join(ROOTS)}")
    return steps


def _follow(value: Any, path: Path) -> Any:
    for step in path:
        match value, step:
            case dict(), str():
                value = value.get(step)
            case list(), int() if -len(value) <= step < len(value):
                value = value[step]
            case _:
                return None
    return value
