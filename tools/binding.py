"""Puts the gateway around every tool node that runs in a run, and watches for tools that run past it.

The nodes of a graph can be listed, but not what those nodes and the tools in them run in their turn: a
sub-agent made in a function, an agent behind a closure. So it is not the nodes of one graph that are
wrapped but the methods of LangChain's classes, once for the process; each call then asks in which run it is.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager, Callbacks
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph._internal._constants import CONFIG_KEY_SCRATCHPAD
from langgraph._internal._scratchpad import PregelScratchpad
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolCallRequest

from .audit import Attempt
from .checks import CallRequest
from .context import leave
from .errors import BudgetReached, ToolBypassed
from .gateway import Caller, Gateway
from .ledger import ToolResult
from .metering import UsageCallback
from .pauses import PAUSES, PausableCall, gathered
from .tool import DeclaredTool, bypass_message, on_loop

log = structlog.get_logger(__name__)

_Execute = Callable[[ToolCallRequest], Awaitable[Any]]

_OUTER_CALL = "__interlock_outer_call"
"""In the config that a tool runs with: names its call, for the calls that it makes in its turn."""
_LOOP_DEADLINE_S = 10.0
"""When the event loop of a run does not answer a thread for so long, something blocks it."""


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
        """Handlers for the run's config: they count what it spends."""
        return [RunCallback(self)]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make this the run of the code inside."""
        _install()
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

    async def call(self, request: ToolCallRequest, execute: _Execute) -> ToolResult:
        """One call of a tool node, through the gateway."""
        call = request.tool_call

        async def run(arguments: dict[str, Any]) -> ToolResult:
            return await execute(_inner(request, arguments))

        made = CallRequest(
            name=call["name"],
            tool=request.tool,
            arguments=call["args"],
            tool_call_id=call["id"] or "",
            checkpoint_ns=_namespace(request.runtime.config),
            store=request.runtime.store,
            offered=tuple(tool.name for tool in request.runtime.tools),
            can_wait=_thread(request.runtime.config) == str(self.caller.run.thread_id),
        )
        with self.entered():
            return await self.gateway.call(made, caller=self.caller, execute=run)

    def bypass(self, tool: BaseTool, arguments: str, tool_call_id: str) -> None:
        """Note a tool that starts without leave of the gateway; it is paid for like any other.

        Raises:
            ToolBypassed: it must not run: it is a declared tool, or the mode is `enforce`.
            BudgetReached: the run has no tool call left.
        """
        refused = self.gateway.options.mode == "enforce" or isinstance(tool, DeclaredTool)
        limit = None if refused else self.caller.meter.take_tool_call()
        stopped = refused or limit is not None
        log.info("tool_bypassed", tool=tool.name, refused=stopped, run_id=str(self.caller.run.run_id))
        self.bypassed.append(
            self.gateway.bypass(self.caller, tool.name, arguments, tool_call_id, refused=stopped)
        )
        if limit is not None:
            raise BudgetReached(limit)
        if refused:
            raise ToolBypassed(bypass_message(tool.name))


current: ContextVar[GovernedRun | None] = ContextVar("interlock_governed_run", default=None)
"""The run that executes here; None outside one, where tools and tool nodes work as they always did."""


class RunCallback(UsageCallback):
    """Takes the run along with a config, to where the context does not go: a thread of the graph's own."""

    def __init__(self, run: GovernedRun) -> None:
        super().__init__(run.caller.meter)
        self.run = run


def run_of(callbacks: Callbacks) -> GovernedRun | None:
    """The run that executes here, by the context or else by the callbacks of a config."""
    if (run := current.get()) is not None:
        return run
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or ()
    return next((handler.run for handler in handlers if isinstance(handler, RunCallback)), None)


def _install() -> None:
    """Have all tools and tool nodes of the process ask for their run; once."""
    with _lock:
        if getattr(BaseTool, _INSTALLED, False):
            return
        _around(ToolNode, "invoke", _invoke)
        _around(ToolNode, "ainvoke", _ainvoke)
        _around(ToolNode, "_run_one", _run_one)
        _around(ToolNode, "_arun_one", _arun_one)
        _around(ToolNode, "_execute_tool_sync", _execute)
        _around(ToolNode, "_execute_tool_async", _aexecute)
        _around(BaseTool, "run", _run_tool)
        _around(BaseTool, "arun", _arun_tool)
        setattr(BaseTool, _INSTALLED, True)


_INSTALLED = "__interlock__"
_lock = threading.Lock()


def _around(owner: type, name: str, hook: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        return hook(original, *args, **kwargs)

    @functools.wraps(original)
    async def amethod(*args: Any, **kwargs: Any) -> Any:
        return await hook(original, *args, **kwargs)

    setattr(owner, name, amethod if inspect.iscoroutinefunction(original) else method)


def _invoke(
    original: Callable[..., Any],
    node: ToolNode,
    given: Any,
    config: RunnableConfig | None = None,
    **kwargs: Any,
) -> Any:
    run = run_of((config or {}).get("callbacks"))
    if run is not None and _on(run.loop):
        raise RuntimeError(
            f"tool node {node.name!r} was called synchronously on the event loop, which it would block; use "
            "`await tool_node.ainvoke(…)`"
        )
    with gathered():
        return original(node, given, config, **kwargs)


async def _ainvoke(original: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    with gathered():
        return await original(*args, **kwargs)


def _run_one(original: Callable[..., Any], node: ToolNode, call: Any, kind: Any, runtime: Any) -> Any:
    if run_of(runtime.config.get("callbacks")) is None:
        return original(node, call, kind, runtime)
    pausable = PausableCall(call["id"] or "")
    try:
        return original(node, call, kind, runtime)
    except PAUSES as pause:
        return pausable.hold(pause)


async def _arun_one(
    original: Callable[..., Awaitable[Any]], node: ToolNode, call: Any, kind: Any, runtime: Any
) -> Any:
    if run_of(runtime.config.get("callbacks")) is None:
        return await original(node, call, kind, runtime)
    if node._awrap_tool_call is None and node._wrap_tool_call is not None:
        node._awrap_tool_call = _beside_the_loop(node._wrap_tool_call)
    pausable = PausableCall(call["id"] or "")
    try:
        return await original(node, call, kind, runtime)
    except PAUSES as pause:
        return pausable.hold(pause)


def _beside_the_loop(wrapper: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """A graph's synchronous wrapper in a thread; what it executes comes back to the loop."""

    async def awrapper(request: ToolCallRequest, execute: Callable[..., Any]) -> Any:
        loop = asyncio.get_running_loop()

        def back(inner: ToolCallRequest) -> Any:
            return asyncio.run_coroutine_threadsafe(execute(inner), loop).result()

        return await asyncio.to_thread(wrapper, request, back)

    return awrapper


def _execute(
    original: Callable[..., Any], node: ToolNode, request: ToolCallRequest, kind: Any, config: RunnableConfig
) -> Any:
    """A call of a synchronous tool node: it waits in its thread, the gateway works on the loop."""
    run = run_of(config.get("callbacks"))
    if run is None:
        return original(node, request, kind, config)

    async def in_thread(inner: ToolCallRequest) -> Any:
        return await asyncio.to_thread(original, node, inner, kind, inner.runtime.config)

    _reach(run.loop)
    return asyncio.run_coroutine_threadsafe(run.call(request, in_thread), run.loop).result()


async def _aexecute(
    original: Callable[..., Any], node: ToolNode, request: ToolCallRequest, kind: Any, config: RunnableConfig
) -> Any:
    run = run_of(config.get("callbacks"))
    if run is None:
        return await original(node, request, kind, config)
    here = asyncio.get_running_loop()

    async def execute(inner: ToolCallRequest) -> Any:
        return await on_loop(here, original(node, inner, kind, inner.runtime.config))

    if here is not run.loop:
        await asyncio.to_thread(_reach, run.loop)
    return await on_loop(run.loop, run.call(request, execute))


def _run_tool(original: Callable[..., Any], tool: BaseTool, given: Any, *args: Any, **kwargs: Any) -> Any:
    _see(tool, given, kwargs)
    return original(tool, given, *args, **kwargs)


async def _arun_tool(
    original: Callable[..., Awaitable[Any]], tool: BaseTool, given: Any, *args: Any, **kwargs: Any
) -> Any:
    _see(tool, given, kwargs)
    return await original(tool, given, *args, **kwargs)


def _see(tool: BaseTool, given: Any, options: dict[str, Any]) -> None:
    """Refuse or note a tool that starts without leave of the gateway."""
    run = run_of(options.get("callbacks"))
    held = leave.get()
    if run is None or (held is not None and held.start(tool)):
        return
    arguments = tool._filter_injected_args(given) if isinstance(given, dict) else given
    run.bypass(tool, str(arguments), options.get("tool_call_id") or "")


def _inner(request: ToolCallRequest, arguments: dict[str, Any]) -> ToolCallRequest:
    """The request as the gateway lets it through, with a config that names this call.

    LangGraph numbers the graphs that one task runs in turn. A call that is answered from the ledger runs
    none, so each call counts from a number of its own: its sub-agent finds its own checkpoint again.
    """
    held = leave.get()
    if held is None:
        raise TypeError("the gateway executes a call without leave")
    config = request.runtime.config
    name = hashlib.sha256(held.context.idempotency_key.encode()).hexdigest()[:16]
    configurable = {**config.get("configurable", {}), _OUTER_CALL: name}
    if isinstance(scratchpad := configurable.get(CONFIG_KEY_SCRATCHPAD), PregelScratchpad):
        numbers = itertools.count(int(name, 16))
        configurable[CONFIG_KEY_SCRATCHPAD] = replace(scratchpad, subgraph_counter=numbers.__next__)
    runtime = replace(request.runtime, config={**config, "configurable": configurable})
    return replace(request, tool_call={**request.tool_call, "args": arguments}, runtime=runtime)


def _namespace(config: RunnableConfig) -> str:
    """Where in the run a call is made: the step, and the call that makes it, if that is one of a tool."""
    configurable = config.get("configurable", {})
    step, outer = configurable.get("checkpoint_ns", ""), configurable.get(_OUTER_CALL)
    return f"{step}|{outer}" if outer else step


def _thread(config: RunnableConfig) -> str:
    """The thread of the graph that makes a call; an agent that a tool runs may be given another one."""
    return str(config.get("configurable", {}).get("thread_id"))


def _reach(loop: asyncio.AbstractEventLoop) -> None:
    """See from a thread that the loop of a run answers, instead of waiting for it for ever."""
    answered = threading.Event()
    loop.call_soon_threadsafe(answered.set)
    if not answered.wait(_LOOP_DEADLINE_S):
        raise RuntimeError(
            "a synchronous call blocks the event loop of this run, and its tool calls are decided there; "
            "await the agent (`ainvoke`), or call it in a thread (`asyncio.to_thread`)"
        )


def _on(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
