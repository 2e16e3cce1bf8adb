"""The order of checkpoints is that of their commits: two workers' clocks need not agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from operator import add
from types import SimpleNamespace
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base import id as ids
from langgraph.graph import END, START, StateGraph

from interlock.checkpoints.database import Database
from interlock.checkpoints.saver import ThreadSaver
from interlock.checkpoints.thread_rows import copy_thread_in, keep_latest_in

TENANT = "acme"


class State(TypedDict, total=False):
    turns: Annotated[list[int], add]


def join(turns: list[int], more: list[list[int]]) -> list[int]:
    return [*turns, *(turn for some in more for turn in some)]


class DeltaState(TypedDict, total=False):
    turns: Annotated[list[int], DeltaChannel(join)]


def talk(schema: Any = State) -> Any:
    builder = StateGraph(schema)
    builder.add_node("listen", lambda state: {"turns": []})
    builder.add_edge(START, "listen")
    builder.add_edge("listen", END)
    return builder.compile()


async def make_thread(database: Database) -> UUID:
    thread_id = uuid4()
    await database.execute(
        b"INSERT INTO interlock.threads (tenant_id, thread_id) VALUES (%s, %s)", (TENANT, thread_id)
    )
    return thread_id


def saver_of(database: Database, thread_id: UUID) -> ThreadSaver:
    return ThreadSaver(database, tenant_id=TENANT, thread_id=thread_id, fence=0)


def place(thread_id: UUID) -> Any:
    return {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": ""}}


async def speak(database: Database, graph: Any, monkeypatch: pytest.MonkeyPatch) -> UUID:
    """A thread with three turns; the clock of the worker that took the second one is an hour behind."""
    thread_id = await make_thread(database)
    for turn, behind_s in ((1, 0), (2, 3600), (3, 0)):
        with monkeypatch.context() as elsewhere:
            clock = SimpleNamespace(time_ns=lambda behind_s=behind_s: time.time_ns() - behind_s * 10**9)
            elsewhere.setattr(ids, "time", clock)
            elsewhere.setattr(ids, "_last_v6_timestamp", None)
            bound = graph.copy(update={"checkpointer": saver_of(database, thread_id)})
            await bound.ainvoke({"turns": [turn]}, place(thread_id), durability="sync")
    return thread_id


@pytest.fixture
async def spoken(database: Database, monkeypatch: pytest.MonkeyPatch) -> UUID:
    return await speak(database, talk(), monkeypatch)


async def listed(database: Database, thread_id: UUID, **options: Any) -> list[CheckpointTuple]:
    return [found async for found in saver_of(database, thread_id).alist(place(thread_id), **options)]


def ancestry(found: list[CheckpointTuple]) -> Iterator[tuple[str, str | None]]:
    for one in found:
        parent = one.parent_config
        yield (
            one.config["configurable"]["checkpoint_id"],
            parent["configurable"]["checkpoint_id"] if parent else None,
        )


def assert_newest_first(found: list[CheckpointTuple]) -> None:
    """Each one's parent follows it."""
    places = list(ancestry(found))
    assert [parent for _, parent in places[:-1]] == [checkpoint_id for checkpoint_id, _ in places[1:]]


@pytest.mark.parametrize("schema", [State, DeltaState])
async def test_a_turn_taken_on_a_slower_clock_is_built_on_and_not_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch, schema: Any
) -> None:
    graph = talk(schema)
    thread_id = await speak(database, graph, monkeypatch)
    reader = graph.copy(update={"checkpointer": saver_of(database, thread_id)})
    states = [state.values async for state in reader.aget_state_history(place(thread_id))]
    assert states[::3] == [{"turns": [1, 2, 3]}, {"turns": [1, 2]}, {"turns": [1]}]


async def test_the_history_is_newest_first_in_one_piece_and_in_pages(
    database: Database, spoken: UUID
) -> None:
    whole = await listed(database, spoken)
    assert len(whole) == 9
    assert_newest_first(whole)
    paged: list[CheckpointTuple] = []
    while page := await listed(database, spoken, limit=2, before=paged[-1].config if paged else None):
        paged += page
    assert list(ancestry(paged)) == list(ancestry(whole))
    inputs = await listed(database, spoken, filter={"source": "input"})
    assert [found.metadata["step"] for found in inputs] == [5, 2, -1]
    assert await listed(database, spoken, before={"configurable": {"checkpoint_id": "0"}}) == []


async def test_a_copy_keeps_the_order(database: Database, spoken: UUID) -> None:
    copied = await make_thread(database)
    async with database.transaction() as connection:
        await copy_thread_in(connection, tenant_id=TENANT, thread_id=spoken, new_thread_id=copied)
    found = await listed(database, copied)
    assert list(ancestry(found)) == list(ancestry(await listed(database, spoken)))


@pytest.mark.parametrize("by_saver", [False, True])
async def test_pruning_keeps_the_newest(database: Database, spoken: UUID, by_saver: bool) -> None:
    # After a turn on the slower clock the newest checkpoint has the smallest id.
    await database.execute(
        b"DELETE FROM checkpoints WHERE (metadata ->> 'step')::int > 4 AND thread_id = %s",
        (f"{TENANT}/{spoken}",),
    )
    if by_saver:
        await saver_of(database, spoken).aprune([str(spoken)])
    else:
        async with database.transaction() as connection:
            await keep_latest_in(connection, tenant_id=TENANT, thread_id=spoken)
    [kept] = await listed(database, spoken)
    assert kept.checkpoint["channel_values"]["turns"] == [1, 2]
