"""Drives one attempt of a run: opens its graph, records what it streams, and names the outcome."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, cast

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from ...checkpoints.errors import DatabaseError, DatabaseUnavailable, FenceLost, SealingFailed
from ...checkpoints.saver import ThreadSaver
from ...checkpoints.sealed import seal_for
from ...graphs.context import GraphContext, entered
from ...tools.binding import GovernedRun
from ...tools.context import RunScope
from ...tools.errors import BudgetReached
from ...tools.gateway import Caller
from ...tools.policy.budget import Budget, Limit, Meter, Usage
from ..domain import Run
from ..encoding import encode
from ..protocol.run_events import RunEvents
from ..records.log_reader import END_OF_LOG
from ..records.segments import NewEvent
from ..resources import Resources
from ..runs.acting import Actor, acting_for
from ..runs.lifecycle import Drained, Finished, LeaseLost, Outcome
from .breakpoints import Breakpoints
from .ending import go_to_end, only_ends
from .recorder import Recorder
from .request import graph_config, graph_context, graph_input, with_orphans_answered
from .stop import Stop, outcome_of_stopped
from .translate import Translator, graph_modes, runnable_event

log = structlog.get_logger(__name__)

_OF_THE_GRAPH = (Exception, SystemExit, KeyboardInterrupt)
"""What a node may raise; the exits of a command line parser are no wish of this process."""


async def execute(resources: Resources, run: Run, stop: Stop) -> Outcome:
    """Run one attempt to its end, on the loop of `resources`.

    An exception of the graph is an outcome; one that leaves here is ours or the database's.
    """
    task = asyncio.current_task()
    assert task is not None
    assert run.fence is not None
    seal_for(run.principal.encryption)
    if run.unreadable:
        raise SealingFailed(f"what the run is to do cannot be decrypted: {run.unreadable}")
    saver = ThreadSaver(
        resources.database,
        tenant_id=run.tenant_id,
        thread_id=run.thread_id,
        fence=run.fence,
        run_id=run.run_id,
    )
    attempt = _Attempt(resources, run, stop, saver)
    stop.attach(task)
    try:
        return await attempt.outcome()
    except asyncio.CancelledError:
        if stop.reason is None:
            raise
        task.uncancel()
        return outcome_of_stopped(run, stop)
    except FenceLost:
        return LeaseLost()
    finally:
        stop.detach()
        saver.poison(FenceLost(f"attempt {run.attempt} of run {run.run_id} has ended"))


class _Attempt:
    """One attempt and what it is made of."""

    def __init__(self, resources: Resources, run: Run, stop: Stop, saver: ThreadSaver) -> None:
        assert run.fence is not None
        self.resources = resources
        self.run = run
        self.stop = stop
        self.saver = saver
        self.shown = RunEvents.of(run)
        self.recorder = Recorder(resources.event_log, saver, run, fence=run.fence, shown=self.shown)
        self.translator = Translator(saver.version_of)
        self.store = resources.store(run.tenant_id)
        self.meter = stop.meter = Meter(
            Budget.from_row(run.budget),
            usage=Usage.from_row(run.usage),
            on_reached=lambda _: stop.control.request_drain("budget"),
        )
        self.governed = GovernedRun(
            gateway=resources.gateway,
            caller=Caller(
                principal=run.principal,
                run=RunScope(
                    tenant_id=run.tenant_id,
                    thread_id=run.thread_id,
                    run_id=run.run_id,
                    fence=run.fence,
                    graph_id=run.graph_id,
                    assistant_id=run.assistant_id,
                ),
                meter=self.meter,
            ),
            loop=asyncio.get_running_loop(),
        )

    async def outcome(self) -> Outcome:
        """Record the attempt and drive its graph; everything recorded is stored when this returns."""
        await self._recall()
        started = encode({"run_id": str(self.run.run_id), "attempt": self.run.attempt})
        self.recorder.add(NewEvent("run.started", started))
        recording = asyncio.create_task(self.recorder.run(), name=f"record {self.run.run_id}")
        driving = asyncio.create_task(self._drive(), name=f"drive {self.run.run_id}")
        try:
            await asyncio.wait({recording, driving}, return_when=asyncio.FIRST_COMPLETED)
            if not driving.done():
                # Recording ends first only when it failed: what cannot be stored must not go on.
                driving.cancel()
                await asyncio.wait({driving})
                recording.result()
            self.recorder.close()
            await recording
            return driving.result()
        finally:
            for task in (driving, recording):
                task.cancel()
            await asyncio.wait({driving, recording})

    async def _recall(self) -> None:
        """What earlier attempts recorded decides what the thread event stream shows of this one."""
        if self.run.attempt == 1:
            return
        run = self.run
        earlier = self.resources.event_log.between(
            tenant_id=run.tenant_id,
            thread_id=run.thread_id,
            run_id=run.run_id,
            after=run.first_seq,
            until=END_OF_LOG,
        )
        async for events in earlier:
            for event in events:
                self.shown.feed(event)

    async def _drive(self) -> Outcome:
        context = GraphContext(
            principal=self.run.principal,
            registry=self.resources.gateway.registry,
            meter=self.meter,
            store=self.store,
            model=self.resources.settings.graphs.model,
        )
        run = self.run
        actor = Actor(run.principal, run_id=run.run_id, thread_id=run.thread_id)
        with self.governed.entered(), entered(context), acting_for(actor):
            try:
                async with self._deadline():
                    return await self._run_graph()
            finally:
                await self.governed.close()

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """See to it that a limit of active seconds is noticed while a node is still at work."""
        left = self.meter.seconds_left
        timer = asyncio.get_running_loop().call_later(left, self.meter.check) if left is not None else None
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    async def _run_graph(self) -> Outcome:
        run = self.run
        continues = run.attempt > 1 and await self.saver.has_checkpoint_of(run.run_id)
        config = graph_config(run, callbacks=self.governed.callbacks(), continues=continues)
        try:
            async with self.resources.catalog.open(
                run.graph_id,
                config=config,
                access="threads.create_run",
                principal=run.principal,
                store=self.store,
                context=run.kwargs["context"],
            ) as opened:
                self.saver = self.saver.for_graph(opened)
                graph = opened.copy(update={"checkpointer": self.saver, "store": self.store})
                return await self._stream(graph, config, continues=continues)
        except DatabaseError:
            raise
        except _OF_THE_GRAPH as error:
            log.info("graph_raised", run_id=str(run.run_id), graph_id=run.graph_id, exc_info=error)
            return self._failed(error, None)

    async def _stream(self, graph: Pregel, config: RunnableConfig, *, continues: bool) -> Outcome:
        if continues:
            breakpoints = Breakpoints.of(graph, self.run.kwargs)
            stopped = await breakpoints.stopped_at(graph, self.saver, _head(config))
            if stopped is not None:
                self._tell_breakpoint(stopped)
                return self._ended(stopped)
        given = graph_input(self.run, continues=continues)
        given = with_orphans_answered(given, await self._messages_before(given, config))
        raised: BaseException | None = None
        try:
            if continues or not await self._ends(graph, config, given):
                await self._record(graph, config, given)
        except GraphDrained:
            if self.meter.reached() is None:
                return Drained(usage=self.meter.usage.to_row())
        except BudgetReached:
            pass
        except (DatabaseUnavailable, FenceLost):
            raise
        except _OF_THE_GRAPH as error:
            # Also what the database refused to the graph itself; a refusal of ours ends in `settle`.
            log.info("node_raised", run_id=str(self.run.run_id), graph_id=self.run.graph_id, exc_info=error)
            raised = error
        await self.saver.settle()
        self.saver.serve_head()
        state = await graph.aget_state(_head(config))
        if raised is not None:
            return self._failed(raised, state)
        return self._ended(state)

    async def _ends(self, graph: Pregel, config: RunnableConfig, given: Any) -> bool:
        """Close what waits on the thread, if that is all the run was asked for and there is something."""
        if not only_ends(self.run.kwargs.get("command")):
            return False
        found = await self.saver.aget_tuple(config)
        if found is None:
            return False
        await go_to_end(graph, self.saver, config, found, given.update)
        state = await graph.aget_state(_head(config))
        self.recorder.add(self.translator.event_of(((), "values", state.values)))
        return True

    async def _record(self, graph: Pregel, config: RunnableConfig, given: Any) -> None:
        """Record what the graph streams; with `events` asked for, those of its runnables between it."""
        kwargs = self.run.kwargs
        asked: list[str] = kwargs["stream_mode"]
        subgraphs = bool(kwargs["subgraphs"])
        options: dict[str, Any] = {
            "stream_mode": graph_modes(asked),
            "subgraphs": subgraphs,
            "interrupt_before": kwargs["interrupt_before"],
            "interrupt_after": kwargs["interrupt_after"],
            "durability": kwargs["durability"] or "sync",
            "context": graph_context(graph.context_schema, kwargs["context"]),
            "control": self.stop.control,
        }
        recorder, event_of = self.recorder, self.translator.event_of
        if "events" not in asked:
            async with contextlib.aclosing(_generator(graph.astream(given, config, **options))) as parts:
                async for part in parts:
                    recorder.add(event_of(part if subgraphs else ((), *part)))
                    if recorder.full:
                        await recorder.room()
            return
        root = str(self.run.run_id)
        streamed = graph.astream_events(given, config, version="v2", **options)
        async with contextlib.aclosing(_generator(streamed)) as events:
            async for event in events:
                recorder.add(runnable_event(event))
                if event["event"] == "on_chain_stream" and event["run_id"] == root:
                    part = event["data"]["chunk"]
                    recorder.add(event_of(part if subgraphs else ((), *part)))
                if recorder.full:
                    await recorder.room()

    def _tell_breakpoint(self, state: StateSnapshot) -> None:
        """Record what LangGraph streams at a breakpoint; what an earlier attempt recorded may be lost."""
        asked = graph_modes(self.run.kwargs["stream_mode"])
        for mode, payload in (("values", state.values), ("updates", {"__interrupt__": []})):
            if mode in asked:
                self.recorder.add(self.translator.event_of(((), mode, payload)))

    def _ended(self, state: StateSnapshot) -> Outcome:
        limit = self.meter.reached() if state.next else None
        if limit is not None and self.meter.budget.on_limit == "stop":
            error = {"error": "BudgetExceeded", "message": f"{limit.message}; its state is kept"}
            return self._finished("error", state, error=error)
        return self._finished("success", state, pause=limit)

    def _failed(self, error: BaseException, state: StateSnapshot | None) -> Outcome:
        message = str(error) if isinstance(error, Exception) else f"a node asked to exit: {error!r}"
        named = {"error": type(error).__name__, "message": message}
        return self._finished("error", state, error=named)

    def _finished(
        self,
        status: Any,
        state: StateSnapshot | None,
        *,
        error: dict[str, str] | None = None,
        pause: Limit | None = None,
    ) -> Finished:
        usage = self.meter.usage.to_row()
        if state is None:
            return Finished(status=status, error=error, usage=usage)
        interrupts = {
            task.id: [{"id": i.id, "value": i.value} for i in task.interrupts]
            for task in state.tasks
            if task.interrupts
        }
        return Finished(
            status=status,
            error=error,
            values=encode(state.values),
            interrupts=interrupts,
            next=state.next,
            checkpoint_id=_configurable(state.config).get("checkpoint_id"),
            usage=usage,
            budget_pause=pause,
        )

    async def _messages_before(self, given: Any, config: RunnableConfig) -> Any:
        """The conversation that a new message is added to, if the thread has one."""
        if not isinstance(given, dict) or "messages" not in given:
            return None
        before = await self.saver.preload(config)
        return before.checkpoint["channel_values"].get("messages") if before is not None else None


def _generator(stream: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    """LangGraph's streams are generators, and are to be closed, though they do not say so."""
    return cast("AsyncGenerator[Any]", stream)


def _head(config: RunnableConfig) -> RunnableConfig:
    """The newest checkpoint of the thread, whatever the run was forked from."""
    return {"configurable": {"thread_id": _configurable(config)["thread_id"]}}


def _configurable(config: RunnableConfig) -> Mapping[str, Any]:
    return config.get("configurable", {})
