"""The saver of a thread: bound, fenced, complete, and equal to the stock one where that is right."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from interlock.checkpoints.database import Database
from interlock.checkpoints.errors import FenceLost
from interlock.checkpoints.saver import ThreadSaver, WrongThread
from interlock.checkpoints.serde import UnknownType
from interlock.checkpoints.thread_rows import (
    copy_thread_in,
    delete_runs_in,
    delete_thread_in,
    keep_latest_in,
)

TENANT = "acme/eu"
FENCE = 3


async def make_thread(database: Database, thread_id: UUID | None = None, *, fence: int = FENCE) -> UUID:
    thread_id = thread_id or uuid4()
    await database.execute(
        b"INSERT INTO interlock.threads (tenant_id, thread_id, fence) VALUES (%s, %s, %s)",
        (TENANT, thread_id, fence),
    )
    return thread_id


def saver_of(
    database: Database, thread_id: UUID, *, fence: int | None = FENCE, run_id: UUID | None = None
) -> ThreadSaver:
    return ThreadSaver(database, tenant_id=TENANT, thread_id=thread_id, fence=fence, run_id=run_id)


async def take_over(database: Database, thread_id: UUID) -> None:
    await database.execute(
        b"UPDATE interlock.threads SET fence = fence + 1 WHERE thread_id = %s", (thread_id,)
    )


def place(thread_id: UUID, **more: Any) -> Any:
    return {"configurable": {"thread_id": str(thread_id), "checkpoint_ns": "", **more}}


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    answer: Any
    steps: int


def ask_graph() -> Any:
    """Two steps, the second of which asks twice."""

    def first(state: State) -> State:
        return {"messages": [AIMessage(content="one", id="a1")], "steps": 1}

    def ask(state: State) -> State:
        return {"answer": [interrupt("first?"), interrupt("second?")]}

    builder = StateGraph(State)
    builder.add_node("first", first)
    builder.add_node("ask", ask)
    builder.add_edge(START, "first")
    builder.add_edge("first", "ask")
    builder.add_edge("ask", END)
    return builder.compile()


async def run(graph: Any, saver: ThreadSaver, thread_id: UUID, given: Any, run_id: UUID) -> Any:
    config = {"configurable": {"thread_id": str(thread_id)}, "metadata": {"run_id": str(run_id)}}
    bound = graph.copy(update={"checkpointer": saver.for_graph(graph)})
    return await bound.ainvoke(given, config, durability="sync")


async def rows(database: Database, table: bytes) -> int:
    row = await database.fetch_one(b"SELECT count(*) AS n FROM " + table)
    return row["n"]


# --- the conformance suite of LangGraph -----------------------------------------------------------


class AnyThread(BaseCheckpointSaver[str]):
    """What the suite asks for, which invents threads and runs: one bound saver for each of them."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._ids: dict[str, UUID] = {}

    async def _bound(self, name: str) -> ThreadSaver:
        if name not in self._ids:
            self._ids[name] = await make_thread(self._database)
        return saver_of(self._database, self._ids[name])

    def _inward(self, config: Any) -> Any:
        configurable = config["configurable"]
        return {
            **config,
            "configurable": {**configurable, "thread_id": str(self._ids[configurable["thread_id"]])},
        }

    def _outward(self, config: Any, name: str) -> Any:
        return {**config, "configurable": {**config["configurable"], "thread_id": name}} if config else config

    def _tuple(self, found: Any, name: str) -> Any:
        return found._replace(
            config=self._outward(found.config, name), parent_config=self._outward(found.parent_config, name)
        )

    def get_next_version(self, current: str | None, channel: None) -> str:
        number = int(current.split(".")[0]) if current else 0
        return f"{number + 1:032}.{uuid4().int % 10**16:016}"

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        name = config["configurable"]["thread_id"]
        saver = await self._bound(name)
        return self._outward(await saver.aput(self._inward(config), checkpoint, metadata, new_versions), name)

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        saver = await self._bound(config["configurable"]["thread_id"])
        await saver.aput_writes(self._inward(config), writes, task_id, task_path)

    async def aget_tuple(self, config: Any) -> Any:
        name = config["configurable"]["thread_id"]
        saver = await self._bound(name)
        found = await saver.aget_tuple(self._inward(config))
        return self._tuple(found, name) if found else None

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[Any]:
        names = [config["configurable"]["thread_id"]] if config else list(self._ids)
        for name in names:
            saver = await self._bound(name)
            here = self._inward(config or {"configurable": {"thread_id": name}})
            async for found in saver.alist(here, **options):
                yield self._tuple(found, name)

    async def adelete_thread(self, thread_id: str) -> None:
        saver = await self._bound(thread_id)
        await saver.adelete_thread(str(self._ids[thread_id]))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        # The suite names runs `run1`; ours are UUIDs, so those of the suite only match metadata.
        async with self._database.transaction() as connection:
            for thread_id in self._ids.values():
                runs: Any = run_ids
                await delete_runs_in(connection, tenant_id=TENANT, thread_id=thread_id, run_ids=runs)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._bound(source_thread_id)
        await self._bound(target_thread_id)
        async with self._database.transaction() as connection:
            await copy_thread_in(
                connection,
                tenant_id=TENANT,
                thread_id=self._ids[source_thread_id],
                new_thread_id=self._ids[target_thread_id],
            )

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        async with self._database.transaction() as connection:
            for name in thread_ids:
                await self._bound(name)
                key: Any = {"tenant_id": TENANT, "thread_id": self._ids[name]}
                await (keep_latest_in if strategy == "keep_latest" else delete_thread_in)(connection, **key)


async def test_it_passes_the_conformance_suite(database: Database) -> None:
    @checkpointer_test(name="thread saver")
    async def make() -> AsyncGenerator[AnyThread, None]:
        yield AnyThread(database)

    report = await validate(make)

    failed = {
        name: result.failures
        for name, result in report.results.items()
        if result.detected and not result.passed
    }
    assert failed == {}
    assert all(result.detected for result in report.results.values())


# --- binding and fence ----------------------------------------------------------------------------


async def test_another_thread_is_refused_in_every_call(database: Database) -> None:
    mine, other = await make_thread(database), await make_thread(database)
    saver = saver_of(database, mine)
    with pytest.raises(WrongThread):
        await saver.aget_tuple(place(other))
    with pytest.raises(WrongThread):
        await saver.aput(place(other), empty_checkpoint(), {}, {})
    with pytest.raises(WrongThread):
        await saver.aput_writes(place(other, checkpoint_id="1"), [("a", 1)], "t")
    with pytest.raises(WrongThread):
        [_ async for _ in saver.alist(place(other))]
    with pytest.raises(WrongThread):
        [_ async for _ in saver.alist(None)]
    with pytest.raises(WrongThread):
        await saver.adelete_thread(f"{TENANT}/{other}")
    with pytest.raises(WrongThread):
        await saver.aprune([str(other)])
    with pytest.raises(WrongThread):
        await saver.aget_delta_channel_history(config=place(other), channels=["a"])


async def test_a_reader_writes_nothing(database: Database) -> None:
    thread_id = await make_thread(database)
    reader = saver_of(database, thread_id, fence=None)
    with pytest.raises(WrongThread):
        await reader.aput(place(thread_id), empty_checkpoint(), {}, {})
    assert await reader.aget_tuple(place(thread_id)) is None


async def test_a_writer_that_lost_the_thread_writes_nothing_more(database: Database) -> None:
    thread_id = await make_thread(database)
    saver = saver_of(database, thread_id)
    await saver.aput(place(thread_id), empty_checkpoint(), {}, {})
    await take_over(database, thread_id)
    with pytest.raises(FenceLost):
        await saver.aput_writes(place(thread_id, checkpoint_id="1"), [("a", [1])], "t")
    with pytest.raises(FenceLost):
        await saver.aput(place(thread_id), empty_checkpoint(), {}, {})
    with pytest.raises(FenceLost):
        await saver.settle()
    with pytest.raises(FenceLost):
        await saver.adelete_thread(str(thread_id))
    assert await rows(database, b"checkpoints") == 1
    assert await rows(database, b"checkpoint_writes") == 0


async def test_a_graph_stops_at_the_first_write_that_is_refused(database: Database) -> None:
    thread_id = await make_thread(database)
    ran: list[int] = []

    async def node(state: State) -> State:
        steps = state.get("steps", 0) + 1
        ran.append(steps)
        if steps == 2:
            await take_over(database, thread_id)
        return {"steps": steps}

    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_conditional_edges("node", lambda state: END if state["steps"] == 6 else "node")

    with pytest.raises(FenceLost):
        await run(builder.compile(), saver_of(database, thread_id), thread_id, {"steps": 0}, uuid4())
    assert ran == [1, 2]


async def test_a_takeover_waits_for_a_write_under_way_and_no_later_one_passes(database: Database) -> None:
    """Sixty races between a writer and one that takes its thread: never does a write land after."""
    for _ in range(60):
        thread_id = await make_thread(database)
        saver = saver_of(database, thread_id)

        async def write(saver: ThreadSaver = saver, thread_id: UUID = thread_id) -> None:
            for _ in range(20):
                await saver.aput(place(thread_id), empty_checkpoint(), {}, {})

        async def take(thread_id: UUID = thread_id) -> int:
            await asyncio.sleep(0)
            await take_over(database, thread_id)
            return len([_ async for _ in saver_of(database, thread_id, fence=None).alist(place(thread_id))])

        writing, seen = await asyncio.gather(write(), take(), return_exceptions=True)
        after = len([_ async for _ in saver_of(database, thread_id, fence=None).alist(place(thread_id))])
        assert after == seen
        assert writing is None or isinstance(writing, FenceLost)


async def test_a_poisoned_saver_writes_nothing(database: Database) -> None:
    thread_id = await make_thread(database)
    saver = saver_of(database, thread_id)
    saver.with_allowlist({("a", "b")}).poison(FenceLost("ended"))
    with pytest.raises(FenceLost, match="ended"):
        await saver.aput(place(thread_id), empty_checkpoint(), {}, {})


# --- order and commit -----------------------------------------------------------------------------


async def test_settle_waits_for_what_was_begun(
    database: Database, until: Callable[..., Awaitable[Any]]
) -> None:
    thread_id = await make_thread(database)
    saver = saver_of(database, thread_id)
    blocked = (
        b"SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with database.transaction() as connection:
        await connection.execute(b"SELECT FROM interlock.threads FOR UPDATE")
        writing = asyncio.ensure_future(
            saver.aput_writes(place(thread_id, checkpoint_id="1"), [("a", [1])], "t")
        )
        await until(lambda: database.fetch_one(blocked))
        settling = asyncio.ensure_future(saver.settle())
        saving = asyncio.ensure_future(saver.aput(place(thread_id), empty_checkpoint(), {}, {}))
        await asyncio.sleep(0)
        assert not settling.done()
        assert await rows(database, b"checkpoints") == 0
    await asyncio.gather(settling, saving, writing)
    assert await rows(database, b"checkpoint_writes") == 1
    assert await rows(database, b"checkpoints") == 1


async def test_writes_survive_a_database_that_drops_every_connection(
    database: Database, admin: psycopg.Connection[Any]
) -> None:
    thread_id = await make_thread(database)
    name = (await database.fetch_one(b"SELECT current_database() AS name"))["name"]

    def cut(state: State) -> State:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        return {"steps": state.get("steps", 0) + 1}

    builder = StateGraph(State)
    builder.add_node("cut", cut)
    builder.add_edge(START, "cut")
    builder.add_conditional_edges("cut", lambda state: END if state["steps"] == 3 else "cut")

    assert await run(builder.compile(), saver_of(database, thread_id), thread_id, {"steps": 0}, uuid4()) == {
        "messages": [],
        "steps": 3,
    }


async def test_the_newest_checkpoint_from_memory_is_the_one_that_is_stored(database: Database) -> None:
    """At an interrupt, after an answer to the first of two questions, at the end, after an error."""
    thread_id = await make_thread(database)
    graph = ask_graph()

    async def fail(state: State) -> State:
        raise ValueError("boom")

    builder = StateGraph(State)
    builder.add_node("step", lambda state: {"steps": 1})
    builder.add_node("fail", fail)
    builder.add_edge(START, "step")
    builder.add_edge("step", "fail")
    failing = builder.compile()
    for running, given in (
        (graph, {"messages": [("user", "hi\0")]}),
        (graph, Command(resume="one")),
        (graph, Command(resume="two")),
        (failing, {"steps": 0}),
    ):
        saver = saver_of(database, thread_id)
        with contextlib.suppress(ValueError):
            await run(running, saver, thread_id, given, uuid4())
        await saver.settle()
        reader = saver_of(database, thread_id, fence=None)
        saver.serve_head()
        from_memory, stored = [
            await running.copy(update={"checkpointer": s.for_graph(running)}).aget_state(place(thread_id))
            for s in (saver, reader)
        ]
        assert from_memory == stored


async def test_the_writes_of_a_step_go_along_with_its_checkpoint(database: Database) -> None:
    thread_id = await make_thread(database)
    builder = StateGraph(State)

    async def count(state: State) -> State:
        return {"steps": state.get("steps", 0) + 1}

    builder.add_node("node", count)
    builder.add_edge(START, "node")
    builder.add_conditional_edges("node", lambda state: END if state["steps"] == 10 else "node")
    before = await database.fetch_one(b"SELECT pg_current_xact_id()::text::int AS n")

    await run(builder.compile(), saver_of(database, thread_id), thread_id, {"steps": 0}, uuid4())

    after = await database.fetch_one(b"SELECT pg_current_xact_id()::text::int AS n")
    # Twelve checkpoints, and one more transaction for each of the two that count.
    assert after["n"] - before["n"] <= 14


async def test_a_checkpoint_that_was_loaded_ahead_is_given_once_and_only_for_its_place(
    database: Database,
) -> None:
    thread_id = await make_thread(database)
    await run(ask_graph(), saver_of(database, thread_id), thread_id, {"steps": 0}, uuid4())
    saver = saver_of(database, thread_id)
    ahead = await saver.preload(place(thread_id))
    assert await saver.aget_tuple(place(thread_id)) is ahead
    assert await saver.aget_tuple(place(thread_id)) is not ahead
    await saver.preload(place(thread_id))
    parent = ahead.parent_config["configurable"]["checkpoint_id"]
    other = await saver.aget_tuple(place(thread_id, checkpoint_id=parent))
    assert other.config["configurable"]["checkpoint_id"] == parent


# --- values ---------------------------------------------------------------------------------------

ODD = {
    "nul": "a\0b",
    "surrogate": "left \ud83d",
    "long": "x" * 5_000,
    "lines": "a\nb",
    "big": 2**80,
    "infinite": math.inf,
    "decimal": Decimal("1.1"),
    "none": None,
    "truth": True,
    "small": -1,
    "half": 0.5,
    "text": "plain",
}


async def test_values_that_jsonb_cannot_hold_come_back(database: Database) -> None:
    thread_id = await make_thread(database)
    saver = saver_of(database, thread_id)
    checkpoint = empty_checkpoint()
    versions: Any = dict.fromkeys(ODD, "1")
    checkpoint["channel_values"] = dict(ODD)
    checkpoint["channel_versions"] = versions
    metadata: Any = {"source": "input", "step": -1, "note": "a\0b\ud83d", "nan": math.nan}

    await saver.aput(place(thread_id), checkpoint, metadata, versions)

    found = await saver.aget_tuple(place(thread_id))
    assert found.checkpoint["channel_values"] == ODD
    assert found.metadata == {"source": "input", "step": -1, "note": "ab\ufffd", "nan": None}


async def test_a_value_that_may_not_be_stored_names_its_channel_and_stops_the_run(database: Database) -> None:
    thread_id = await make_thread(database)
    ran: list[str] = []

    class Opaque:
        pass

    def bad(state: State) -> State:
        ran.append("bad")
        return {"answer": Opaque()}

    def after(state: State) -> State:
        ran.append("after")
        return {}

    builder = StateGraph(State)
    builder.add_node("bad", bad)
    builder.add_node("after", after)
    builder.add_edge(START, "bad")
    builder.add_edge("bad", "after")

    with pytest.raises(UnknownType, match=r"channel 'answer'.*Opaque"):
        await run(builder.compile(), saver_of(database, thread_id), thread_id, {"steps": 0}, uuid4())
    assert ran == ["bad"]


async def test_who_asks_is_not_written_into_the_metadata(database: Database) -> None:
    thread_id = await make_thread(database)
    graph = ask_graph()
    bound = graph.copy(update={"checkpointer": saver_of(database, thread_id)})
    config = {
        "configurable": {
            "thread_id": str(thread_id),
            "colour": "red",
            "langgraph_auth_user_id": "secret",
            "langgraph_auth_permissions": "secret",
        }
    }
    await bound.ainvoke({"steps": 0}, config)
    found = await saver_of(database, thread_id).aget_tuple(place(thread_id))
    assert dict(found.metadata)["colour"] == "red"
    assert "secret" not in str(found.metadata)


# --- whole threads --------------------------------------------------------------------------------


async def test_a_run_that_is_rolled_back_leaves_the_state_as_it_was(database: Database) -> None:
    thread_id = await make_thread(database)
    graph, first, second = ask_graph(), uuid4(), uuid4()
    await run(graph, saver_of(database, thread_id, run_id=first), thread_id, {"steps": 0}, first)
    reader = graph.copy(update={"checkpointer": saver_of(database, thread_id, fence=None).for_graph(graph)})
    before = await reader.aget_state(place(thread_id))
    counts = [await rows(database, table) for table in (b"checkpoints", b"checkpoint_blobs")]
    assert [i.value for i in before.interrupts] == ["first?"]

    saver = saver_of(database, thread_id, run_id=second)
    assert not await saver.has_checkpoint_of(second)
    await run(graph, saver, thread_id, {"messages": [("user", "again")]}, second)
    assert await saver.has_checkpoint_of(second)
    async with database.transaction() as connection:
        await delete_runs_in(connection, tenant_id=TENANT, thread_id=thread_id, run_ids=[second])

    assert await reader.aget_state(place(thread_id)) == before
    assert [await rows(database, table) for table in (b"checkpoints", b"checkpoint_blobs")] == counts
    assert await run(graph, saver_of(database, thread_id), thread_id, Command(resume="yes"), first)


async def test_an_answer_of_a_run_that_is_rolled_back_is_forgotten(database: Database) -> None:
    thread_id = await make_thread(database)
    graph, first, second = ask_graph(), uuid4(), uuid4()
    await run(graph, saver_of(database, thread_id, run_id=first), thread_id, {"steps": 0}, first)
    await run(graph, saver_of(database, thread_id, run_id=second), thread_id, Command(resume="yes"), second)
    async with database.transaction() as connection:
        await delete_runs_in(connection, tenant_id=TENANT, thread_id=thread_id, run_ids=[second])
    left = await database.fetch_all(b"SELECT channel FROM checkpoint_writes WHERE channel = '__resume__'")
    assert left == []


async def test_a_copy_is_complete_and_independent(database: Database) -> None:
    thread_id, copied = await make_thread(database), await make_thread(database)
    graph, run_id = ask_graph(), uuid4()
    await run(graph, saver_of(database, thread_id), thread_id, {"steps": 0}, run_id)
    async with database.transaction() as connection:
        await copy_thread_in(connection, tenant_id=TENANT, thread_id=thread_id, new_thread_id=copied)
        await delete_thread_in(connection, tenant_id=TENANT, thread_id=thread_id)

    state = await run(graph, saver_of(database, copied), copied, Command(resume="yes"), run_id)

    assert state["__interrupt__"][0].value == "second?"
    history = [_ async for _ in saver_of(database, copied).alist(place(copied))]
    assert {t.metadata["thread_id"] for t in history if "thread_id" in t.metadata} <= {str(copied)}
    assert len(history) == 3
    assert [_ async for _ in saver_of(database, thread_id).alist(place(thread_id))] == []
