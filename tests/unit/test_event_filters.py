"""Which events a filter of the thread event stream lets pass, and that many of them hold up nobody."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from interlock.server.protocol.shown import Shown
from interlock.server.wire.thread_events import Filter, Numbered, wanted_of

PARTS = st.sampled_from(["a", "b", "a:1", "a:2", "b:1", ":", "a:"])
PATHS = st.lists(PARTS, max_size=4).map(tuple)
ALL = frozenset({"lifecycle"})


def event(*namespace: str, number: int = 1) -> Numbered:
    return Numbered(number, Shown(f"e{number}", "lifecycle", namespace, 0, b"{}"))


@given(PATHS, st.lists(PATHS, min_size=1, max_size=6).map(tuple), st.none() | st.integers(0, 3))
def test_a_namespace_passes_that_one_of_the_paths_begins(
    namespace: tuple[str, ...], paths: tuple[tuple[str, ...], ...], depth: int | None
) -> None:
    def begins(path: tuple[str, ...]) -> bool:
        return len(path) <= len(namespace) and all(
            have == want or (":" not in want and have.split(":")[0] == want)
            for have, want in zip(namespace, path, strict=False)
        )

    expected = any(begins(path) and (depth is None or len(namespace) <= len(path) + depth) for path in paths)
    wanted = Filter(channels=ALL, namespaces=paths, depth=depth)
    assert wanted.wants(event(*namespace).shown) is expected


async def test_others_get_their_turn_while_many_events_are_held_against_filters() -> None:
    turns, over = 0, False

    async def other() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    events = [event("a:1", number=number) for number in range(5000)]
    found = await wanted_of(events, [Filter(channels=ALL, namespaces=(("b",),)), Filter(channels=ALL)])
    over = True
    await beside
    assert found == events
    assert turns > 10
