"""Puts the gateway around the tool nodes of any graph, and watches for tools that run past it."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import structlog
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langgraph._internal._runnable import RunnableCallable, RunnableSeq
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.pregel import Pregel
from langgraph.pregel._utils import get_function_nonlocals

from .audit import Attempt
from .checks import CallRequest
from .context import executing
from .errors import ToolBypassed
from .gateway import Caller, Gateway
from .ledger import ToolResult
from .metering import UsageCallback
from .pauses import PAUSES, PausableCall, gathered

log = structlog.get_logger(__name__)

_SyncExecute = Callable[[ToolCallRequest], Any]
_AsyncExecute = Callable[[ToolCallRequest], Awaitable[Any]]


@dataclass(slots=True, kw_only=True)
class GovernedRun:
    """The run whose tool calls go through the gateway."""

    gateway: Gateway
    caller: Caller
    loop: asyncio.AbstractEventLoop
    """Where the graph and the gateway's database live."""
    bypassed: list[Attempt] = field(default_factory=list)
    """Tools that were seen outside the gateway; written by `close`."""

    def callbacks(self) -> list[BaseCallbackHandler]:
        """Handlers for the run's config: they count what it spends and see what bypasses the gateway."""
        return [Watch(self), UsageCallback(self.caller.meter)]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make this the run of the code inside."""
        token = current.set(self)
        try:
            yield
        finally:
            current.reset(token)

    async def close(self) -> None:
        """Write what was seen outside the gateway."""
        seen, self.bypassed = self.bypassed, []
        for attempt in seen:
            await self.gateway.record(attempt)

    async def call(self, request: ToolCallRequest, execute: _AsyncExecute) -> ToolResult:
        """One call of a tool node, through the gateway."""
        call = request.tool_call

        async def run(arguments: dict[str, Any]) -> ToolResult:
            return await execute(request.override(tool_call={**call, "args": arguments}))

        configurable = request.runtime.config.get("configurable", {})
        made = CallRequest(
            name=call["name"],
            tool=request.tool,
            arguments=call["args"],
            tool_call_id=call["id"] or "",
            checkpoint_ns=configurable.get("checkpoint_ns", ""),
            store=request.runtime.store,
            offered=tuple(tool.name for tool in request.runtime.tools),
        )
        return await self.gateway.call(made, caller=self.caller, execute=run)


current: ContextVar[GovernedRun | None] = ContextVar("interlock_governed_run", default=None)
"""The run that executes here; None outside one, where a governed tool node works as it always did."""


class Watch(BaseCallbackHandler):
    """Sees every tool that starts, and refuses or notes those that did not come through the gateway."""

    raise_error = True
    run_inline = True

    def __init__(self, run: GovernedRun) -> None:
        self._run = run

    @property
    def ignore_llm(self) -> bool:
        """Models are not its concern, and it would be asked at each token."""
        return True

    def on_tool_start(
        self, serialized: dict[str, Any] | None, input_str: str, *, tool_call_id: str | None = None, **_: Any
    ) -> None:
        """A tool is about to run."""
        name = (serialized or {}).get("name", "")
        if executing.get() == name:
            return
        run = self._run
        refused = run.gateway.options.mode == "enforce"
        log.info("tool_bypassed", tool=name, refused=refused, run_id=str(run.caller.run.run_id))
        run.bypassed.append(
            run.gateway.bypass(run.caller, name, input_str, tool_call_id or "", refused=refused)
        )
        if refused:
            raise ToolBypassed(
                f'tool {name!r} was called past the gateway, which `tools.mode = "enforce"` does not allow; '
                "run it from a `ToolNode` or `create_agent`"
            )


def govern(graph: Pregel) -> None:
    """Put the gateway around every tool node of a graph and of its sub-graphs; once for each object.

    Outside a run the nodes work as before.
    """
    with _lock:
        if graph in _governed:
            return
        for node in _tool_nodes(graph):
            if node not in _governed:
                _wrap(node)
                _governed.add(node)
        _governed.add(graph)


_governed: WeakSet[Pregel | ToolNode] = WeakSet()
_lock = threading.Lock()


def _tool_nodes(graph: Pregel) -> Iterator[ToolNode]:
    seen: set[int] = set()
    waiting: list[Any] = [node.bound for node in graph.nodes.values()]
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, ToolNode):
            yield found
        elif isinstance(found, Pregel):
            waiting += [node.bound for node in found.nodes.values()]
        else:
            waiting += _inside(found)


def _inside(found: Any) -> list[Any]:
    """Runnables that another one is made of, or that its function refers to."""
    if isinstance(found, RunnableSequence | RunnableSeq):
        return list(found.steps)
    if isinstance(found, RunnableLambda):
        return list(found.deps)
    if isinstance(found, RunnableCallable):
        functions = [f for f in (found.func, found.afunc) if f is not None]
        named = [value for f in functions for value in get_function_nonlocals(f)]
        return [v for value in named if isinstance(v := getattr(value, "__self__", value), Runnable)]
    bound = getattr(found, "bound", None)
    return [bound] if isinstance(bound, Runnable) else []


def _wrap(node: ToolNode) -> None:
    own_sync, own_async = node._wrap_tool_call, node._awrap_tool_call
    func, afunc = node.func, node.afunc
    if func is None or afunc is None:
        raise TypeError("a tool node without its functions; langgraph has changed")

    async def awrapped(request: ToolCallRequest, execute: _AsyncExecute) -> Any:
        run = current.get()
        if run is not None:
            call = PausableCall(request.tool_call["id"] or "")
            try:
                return await _chain(run, request, execute, own_sync, own_async)
            except PAUSES as pause:
                return call.hold(pause)
        if own_async is not None:
            return await own_async(request, execute)
        if own_sync is not None:
            return await _in_thread(own_sync, request, execute, asyncio.get_running_loop())
        return await execute(request)

    def wrapped(request: ToolCallRequest, execute: _SyncExecute) -> Any:
        run = current.get()
        if run is None:
            return own_sync(request, execute) if own_sync is not None else execute(request)
        return _from_thread(run, request, execute, own_sync)

    @functools.wraps(afunc)
    async def held_afunc(*args: Any, **kwargs: Any) -> Any:
        with gathered():
            return await afunc(*args, **kwargs)

    @functools.wraps(func)
    def held_func(*args: Any, **kwargs: Any) -> Any:
        with gathered():
            return func(*args, **kwargs)

    node._awrap_tool_call, node._wrap_tool_call = awrapped, wrapped
    node.afunc, node.func = held_afunc, held_func


async def _chain(
    run: GovernedRun,
    request: ToolCallRequest,
    execute: _AsyncExecute,
    own_sync: Callable[..., Any] | None,
    own_async: Callable[..., Awaitable[Any]] | None,
) -> Any:
    """The graph's own wrapper first: the gateway decides the call as it is really made."""

    async def governed(inner: ToolCallRequest) -> Any:
        return await run.call(inner, execute)

    if own_async is not None:
        return await own_async(request, governed)
    if own_sync is not None:
        return await _in_thread(own_sync, request, governed, run.loop)
    return await governed(request)


def _from_thread(
    run: GovernedRun, request: ToolCallRequest, execute: _SyncExecute, own_sync: Callable[..., Any] | None
) -> Any:
    """A tool node that a synchronous node calls: it waits in its thread, the gateway works on the loop."""
    if _on_loop(run.loop):
        raise RuntimeError(
            f"tool {request.tool_call['name']!r} was called synchronously on the event loop, which it would "
            "block; use `await tool_node.ainvoke(…)`"
        )

    async def in_thread(inner: ToolCallRequest) -> Any:
        return await asyncio.to_thread(execute, inner)

    def governed(inner: ToolCallRequest) -> Any:
        return asyncio.run_coroutine_threadsafe(run.call(inner, in_thread), run.loop).result()

    call = PausableCall(request.tool_call["id"] or "")
    try:
        return own_sync(request, governed) if own_sync is not None else governed(request)
    except PAUSES as pause:
        return call.hold(pause)


async def _in_thread(
    wrapper: Callable[..., Any],
    request: ToolCallRequest,
    execute: _AsyncExecute,
    loop: asyncio.AbstractEventLoop,
) -> Any:
    """Run a synchronous wrapper beside the loop; what it executes comes back to the loop."""

    async def run(inner: ToolCallRequest) -> Any:
        return await execute(inner)

    def back(inner: ToolCallRequest) -> Any:
        return asyncio.run_coroutine_threadsafe(run(inner), loop).result()

    return await asyncio.to_thread(wrapper, request, back)


def _on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
