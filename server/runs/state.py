"""The state of a thread: read at any checkpoint, walked back, and written from outside a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.errors import InvalidUpdateError
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.main import StateUpdate
from langgraph.types import Command, PregelTask, StateSnapshot

from ...checkpoints.errors import DatabaseError, DatabaseUnavailable
from ...checkpoints.saver import ThreadSaver
from ...tools.policy.permissions import Principal
from ..domain import Run, Thread
from ..encoding import encode
from ..errors import BadRequest, Conflicting, NotFound
from ..protocol.thread_entries import SHOWS_OF_STATE
from ..records import assistants, queue, threads
from ..records.event_log import NewEvent, append_in
from ..records.held import Held
from ..records.threads import ThreadKey
from .settling import left_by_run, settled_status, shown

if TYPE_CHECKING:
    from langgraph_sdk.runtime import AccessContext

    from ..resources import Resources

log = structlog.get_logger(__name__)

EMPTY: Mapping[str, Any] = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}
"""The state of a thread that has none yet."""

BUSY = "Thread is busy: a run is in flight. Wait for it to finish, or cancel it, and try again."
_HISTORY_PAGE = 10
_LOOK_S = 5.0
"""How long the end of a run waits for a look at the state it left."""
NO_GRAPH = "Thread has no associated graph: set `metadata.graph_id` on it, or run an assistant on it first."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which checkpoint of a thread; without an id the latest one."""

    checkpoint_id: str | None = None
    checkpoint_ns: str = ""
    checkpoint_map: Mapping[str, Any] | None = None

    def config(self, thread_id: UUID) -> RunnableConfig:
        """As LangGraph names it."""
        configurable: dict[str, Any] = {"thread_id": str(thread_id), "checkpoint_ns": self.checkpoint_ns}
        if self.checkpoint_id:
            configurable["checkpoint_id"] = self.checkpoint_id
        if self.checkpoint_map:
            configurable["checkpoint_map"] = dict(self.checkpoint_map)
        return {"configurable": configurable}


LATEST = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one node would have written, or a command in its place."""

    values: Any = None
    command: Mapping[str, Any] | None = None
    as_node: str | None = None

    def state_update(self, graph: Pregel) -> StateUpdate:
        """As LangGraph takes it: of several updates, each goes through the reducers in turn."""
        values = self.values if self.command is None else Command(**self.command)
        keyed = isinstance(graph, CompiledStateGraph) and "__root__" not in graph.channels
        if keyed and isinstance(values, list):
            values = [Command(update=one) if isinstance(one, dict) else one for one in values]
        # Commands are taken as well, though only dicts are declared.
        return StateUpdate(cast("Any", values), self.as_node)


async def read(
    resources: Resources,
    principal: Principal,
    *,
    thread_id: UUID,
    place: Place = LATEST,
    subgraphs: bool = False,
    held: Held = None,
) -> Mapping[str, Any]:
    """The state at a place, as the wire shows it; `EMPTY` where there is none.

    Raises:
        NotFound: no such thread.
    """
    thread = await _thread(resources, principal, thread_id, held)
    if "graph_id" not in thread.metadata:
        return EMPTY
    async with _graph(resources, principal, thread, access="threads.read", fence=None) as graph:
        shape = _shape(await graph.aget_state(place.config(thread_id), subgraphs=subgraphs))
    if place == LATEST and (pause := thread.interrupts.get("budget")):
        # A spent budget stops a graph from outside, so its checkpoint does not know of the question.
        for waiting in (shape, *shape["tasks"][:1]):
            waiting["interrupts"] = [*waiting["interrupts"], *pause]
    return shape


async def history(
    resources: Resources,
    principal: Principal,
    *,
    thread_id: UUID,
    limit: int,
    before: Place | None = None,
    metadata: Mapping[str, Any] | None = None,
    checkpoint_ns: str = "",
    held: Held = None,
) -> AsyncGenerator[Mapping[str, Any]]:
    """States of a thread, or of the sub-graph at `checkpoint_ns`, newest first.

    Raises:
        NotFound: no such thread.
    """
    thread = await _thread(resources, principal, thread_id, held)
    if "graph_id" not in thread.metadata:
        return
    async with _graph(resources, principal, thread, access="threads.read", fence=None) as graph:
        # Building the messages of a long thread takes the loop: page by page, others get their turn.
        while limit > 0:
            states = graph.aget_state_history(
                Place(checkpoint_ns=checkpoint_ns).config(thread_id),
                filter=dict(metadata) if metadata else None,
                before=before.config(thread_id) if before else None,
                limit=min(limit, _HISTORY_PAGE),
            )
            page = [_shape(state) async for state in states]
            for shape in page:
                yield shape
                await asyncio.sleep(0)
            if len(page) < _HISTORY_PAGE:
                return
            limit -= len(page)
            before = Place(checkpoint_id=page[-1]["checkpoint_id"], checkpoint_ns=checkpoint_ns)


async def update(
    resources: Resources,
    principal: Principal,
    *,
    thread_id: UUID,
    updates: Sequence[Sequence[Update]],
    place: Place = LATEST,
    held: Held = None,
) -> Mapping[str, Any]:
    """Write supersteps into a thread and return the new state, as the wire shows it.

    Raises:
        NotFound: no such thread.
        Conflicting: a run is in flight.
        BadRequest: the thread has no graph, or its graph refuses the update.
    """
    key = ThreadKey(tenant_id=principal.tenant, thread_id=thread_id)
    async with resources.database.transaction() as connection:
        thread = await queue.lock_thread(connection, **key, held=held)
        if thread is None:
            raise NotFound(f"Thread with ID {thread_id} not found")
        if await queue.inflight_runs(connection, **key):
            raise Conflicting(BUSY)
        if "graph_id" not in thread.metadata:
            raise BadRequest(NO_GRAPH)
        fence = await threads.take_fence(connection, **key)
    async with _graph(resources, principal, thread, access="threads.update", fence=fence) as graph:
        written = await _write(graph, place.config(thread_id), updates)
        latest = await graph.aget_state(Place().config(thread_id))
    await _settle(resources, thread, fence=fence, latest=latest)
    return _checkpoint(written) or {}


async def begin(
    resources: Resources, principal: Principal, thread: Thread, updates: Sequence[Sequence[Update]]
) -> Thread:
    """Give a thread that was just made the state it begins with."""
    await update(resources, principal, thread_id=thread.thread_id, updates=updates)
    return await _thread(resources, principal, thread.thread_id)


async def left_by_stop(resources: Resources, run: Run) -> Mapping[str, Any] | None:
    """The state in which a run was stopped that could not tell it; None if there is none to be had.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    try:
        thread = await _thread(resources, run.principal, run.thread_id)
    except NotFound:
        return None  # a stateless run took it along
    try:
        async with (
            asyncio.timeout(_LOOK_S),
            _graph(resources, run.principal, thread, access="threads.read", fence=None) as graph,
        ):
            left = _shape(await graph.aget_state(LATEST.config(run.thread_id)))
    except DatabaseUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - factories and reducers are the user's code
        log.warning("state_not_shown", run_id=str(run.run_id), error=f"{type(error).__name__}: {error}")
        return None
    return left if left["checkpoint"] is not None else None


async def show(resources: Resources, run: Run, *, fence: int) -> None:
    """Let a thread show the state in which its run was ended from outside: its worker is shut out and cannot.

    `fence` is that of the end; with another one the next run is on its way, and will tell.
    """
    left = await left_by_stop(resources, run)
    if left is None:
        return
    key = ThreadKey(tenant_id=run.tenant_id, thread_id=run.thread_id)
    async with resources.database.transaction() as connection:
        thread = await queue.lock_thread(connection, **key)
        if thread is None or thread.fence != fence:
            return
        settlement = shown(
            thread.status,
            values=encode(left["values"]),
            interrupts=interrupts_of(left),
            error=thread.error,
            left_by=replace(left_by_run(run), checkpoint_id=left["checkpoint_id"]),
        )
        await queue.settle_thread(connection, **key, settlement=settlement, new_writer=False)


async def _write(
    graph: Pregel, config: RunnableConfig, updates: Sequence[Sequence[Update]]
) -> RunnableConfig:
    steps = [[update.state_update(graph) for update in step] for step in updates]
    try:
        return await graph.abulk_update_state(config, steps)
    except DatabaseError:
        raise
    except InvalidUpdateError as error:
        raise BadRequest(str(error)) from error
    except (Exception, SystemExit) as error:
        # Reducers and writers are the user's code: what they raise is their answer to these values.
        raise BadRequest(f"the graph refuses the update: {type(error).__name__}: {error}") from error


async def _settle(resources: Resources, thread: Thread, *, fence: int, latest: StateSnapshot) -> None:
    """Show the new state on the thread and tell its readers."""
    state = _shape(latest)
    interrupts = interrupts_of(state)
    status = settled_status("success", waits=bool(state["next"] or interrupts))
    # Whoever writes a state by hand may have written what it goes on to do: nobody's run left it so.
    settlement = shown(
        status, values=encode(state["values"]), interrupts=interrupts, error=None, left_by=None
    )
    key = ThreadKey(tenant_id=thread.tenant_id, thread_id=thread.thread_id)
    event = NewEvent(
        kind="state.updated",
        data=encode({"state": state, "thread_id": str(thread.thread_id)}),
        shows=SHOWS_OF_STATE,
    )
    async with resources.database.transaction() as connection:
        locked = await queue.lock_thread(connection, **key)
        if locked is None or locked.fence != fence:
            raise Conflicting(BUSY)
        await queue.settle_thread(connection, **key, settlement=settlement, new_writer=False)
        await append_in(connection, **key, run_id=None, events=[event])
    resources.event_log.woken(thread.tenant_id, thread.thread_id)


async def _thread(resources: Resources, principal: Principal, thread_id: UUID, held: Held = None) -> Thread:
    async with resources.database.connection() as connection:
        thread = await threads.get(connection, tenant_id=principal.tenant, thread_id=thread_id, held=held)
    if thread is None:
        raise NotFound(f"Thread with ID {thread_id} not found")
    return thread


@asynccontextmanager
async def _graph(
    resources: Resources,
    principal: Principal,
    thread: Thread,
    *,
    access: AccessContext,
    fence: int | None,
) -> AsyncIterator[Pregel]:
    """The graph that ran last on a thread, bound to the thread's checkpoints."""
    saver = ThreadSaver(
        resources.database, tenant_id=thread.tenant_id, thread_id=thread.thread_id, fence=fence
    )
    store = resources.store(thread.tenant_id)
    config = await _assistant_config(resources, thread)
    async with resources.catalog.open(
        thread.metadata["graph_id"], config=config, access=access, principal=principal, store=store
    ) as graph:
        yield graph.copy(update={"checkpointer": saver.for_graph(graph), "store": store})


async def _assistant_config(resources: Resources, thread: Thread) -> RunnableConfig:
    """What a graph factory is asked with: the assistant that ran last may shape the graph."""
    configurable: dict[str, Any] = {"thread_id": str(thread.thread_id)}
    try:
        assistant_id = UUID(str(thread.metadata.get("assistant_id")))
    except ValueError:
        return {"configurable": configurable}
    async with resources.database.connection() as connection:
        assistant = await assistants.get(connection, tenant_id=thread.tenant_id, assistant_id=assistant_id)
    saved = assistant.config.get("configurable") if assistant else None
    return {"configurable": {**(saved or {}), **configurable}}


# --- shapes --------------------------------------------------------------------------------------


def interrupts_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """The pending interrupts of a state as the wire has it, by LangGraph task id."""
    return {task["id"]: task["interrupts"] for task in state["tasks"] if task["interrupts"]}


def _shape(state: StateSnapshot) -> dict[str, Any]:
    if state.created_at is None:
        # No such checkpoint: LangGraph then only says the question again.
        return dict(EMPTY)
    checkpoint = _checkpoint(state.config)
    parent = _checkpoint(state.parent_config)
    return {
        "values": state.values,
        "next": list(state.next),
        "tasks": [_task(task) for task in state.tasks],
        # LangGraph stores it beside the metadata, clients look for it inside.
        "metadata": {**(state.metadata or {}), "thread_id": state.config["configurable"]["thread_id"]},
        "created_at": state.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": [_interrupt(one) for one in state.interrupts],
        "checkpoint_id": checkpoint["checkpoint_id"] if checkpoint else None,
        "parent_checkpoint_id": parent["checkpoint_id"] if parent else None,
    }


def _checkpoint(config: RunnableConfig | None) -> dict[str, Any] | None:
    configurable = (config or {}).get("configurable", {})
    if not configurable.get("checkpoint_id"):
        return None
    shape = {
        "thread_id": configurable["thread_id"],
        "checkpoint_ns": configurable.get("checkpoint_ns", ""),
        "checkpoint_id": configurable["checkpoint_id"],
    }
    if configurable.get("checkpoint_map"):
        shape["checkpoint_map"] = configurable["checkpoint_map"]
    return shape


def _task(task: PregelTask) -> dict[str, Any]:
    nested, checkpoint = None, None
    if isinstance(task.state, StateSnapshot):
        nested = _shape(task.state)
    elif task.state is not None:
        configurable = task.state.get("configurable", {})
        checkpoint = {name: configurable[name] for name in ("thread_id", "checkpoint_ns")}
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": repr(task.error) if isinstance(task.error, BaseException) else task.error,
        "interrupts": [_interrupt(one) for one in task.interrupts],
        "checkpoint": checkpoint,
        "state": nested,
        "result": task.result,
    }


def _interrupt(interrupt: Any) -> dict[str, Any]:
    # Clients rebuild `Interrupt(**item)`, and older ones know these two keys only.
    shape = {"value": interrupt.value, "id": interrupt.id}
    if (schema := getattr(interrupt, "response_schema", None)) is not None:
        shape["response_schema"] = schema
    return shape
