"""Which rows of a tenant an operation may touch, beyond the tenant: those whose metadata hold this.

The condition is part of every statement (`held`), so nothing happens between a look and an act.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ...checkpoints.database import jsonb

Held = Mapping[str, Any] | Literal[False] | None
"""A mapping: rows whose metadata contain it, in the sense of jsonb's `@>`. None: all. False: none."""


def held_parameter(held: Held) -> Any:
    """As a statement takes it. No object contains the JSON value `false`, so that matches nothing."""
    return None if held is None else jsonb(held if held is False else dict(held))


def both(one: Held, other: Held) -> Held:
    """Rows that match both."""
    if one is None or other is None:
        return other if one is None else one
    if one is False or other is False:
        return False
    merged = dict(one)
    for name, wanted in other.items():
        present = merged.get(name, wanted)
        if isinstance(present, list) and isinstance(wanted, list):
            merged[name] = [*present, *(item for item in wanted if item not in present)]
        elif present != wanted or isinstance(present, bool) != isinstance(wanted, bool):
            return False
        else:
            merged[name] = wanted
    return merged


def stamped(metadata: Mapping[str, Any], held: Held, *, changed_only: bool = False) -> dict[str, Any]:
    """Metadata of a client with what its row must hold written over it.

    With `changed_only` the metadata are a change to those of a row that holds it already.
    """
    result = dict(metadata)
    for name, wanted in (held or {}).items():
        if changed_only and name not in metadata:
            continue
        present = result.get(name)
        if isinstance(wanted, list):
            kept = present if isinstance(present, list) else []
            result[name] = [*kept, *(item for item in wanted if item not in kept)]
        else:
            result[name] = wanted
    return result
