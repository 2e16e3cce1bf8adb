"""The forms in which a project may give a graph, each turned into "open it for this run"."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import typing
from collections.abc import AsyncGenerator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.auth.types import BaseUser
from langgraph_sdk.runtime import AccessContext, ServerRuntime, _ExecutionRuntime, _ReadRuntime
from pydantic import BaseModel

Argument = Literal["config", "runtime"]
_RUNTIME_FORMS = (ServerRuntime, _ExecutionRuntime, _ReadRuntime)
_CONFIG_FORMS = (RunnableConfig, dict)


class NotAGraph(TypeError):
    """The value is none of the forms in which a graph may be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a factory may be told about the reason it is called."""

    config: RunnableConfig
    access: AccessContext
    user: BaseUser | None
    store: BaseStore | None
    context: Any = None
    """The run's `context`, as the request gave it."""


class CompiledGraph:
    """A graph that is the same object for every run."""

    def __init__(self, graph: Pregel, graph_id: str) -> None:
        self.graph = _named(graph, graph_id)

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncGenerator[Pregel]:  # noqa: ARG002 - the form of a factory
        """The graph itself."""
        yield self.graph


class GraphFactory:
    """A function that makes the graph of one run: sync or async, returning or yielding it."""

    def __init__(self, function: Callable[..., Any], graph_id: str) -> None:
        self._graph_id = graph_id
        self._arguments, self._context_type = _arguments(function)
        if inspect.isasyncgenfunction(function):
            function = asynccontextmanager(function)
        elif inspect.isgeneratorfunction(function):
            function = contextmanager(function)
        inner = inspect.unwrap(function)
        self._on_loop = (
            inspect.iscoroutinefunction(inner)
            or inspect.isasyncgenfunction(inner)
            or inspect.isgeneratorfunction(inner)
        )
        self._function = function

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncGenerator[Pregel]:
        """Make the graph; what the factory opened is closed on leaving, however that happens."""
        async with AsyncExitStack() as stack:
            made = await self._call(opening)
            if isinstance(made, AbstractAsyncContextManager):
                made = await stack.enter_async_context(made)
            elif isinstance(made, AbstractContextManager):
                made = stack.enter_context(made)
            yield _named(_compiled(made), self._graph_id)

    async def _call(self, opening: Opening) -> Any:
        given = {name: self._given(kind, opening) for name, kind in self._arguments.items()}
        if self._on_loop:
            made = self._function(**given)
        else:
            # A plain function may read files or call `asyncio.run`; neither may happen on our loop.
            made = await asyncio.to_thread(self._function, **given)
        return await made if inspect.isawaitable(made) else made

    def _given(self, kind: Argument, opening: Opening) -> Any:
        if kind == "config":
            return {**opening.config}
        # The runtime wants a store; a project that needs one says so, and without one it is None.
        shared: dict[str, Any] = {
            "access_context": opening.access,
            "user": opening.user,
            "store": opening.store,
        }
        if opening.access != "threads.create_run":
            return _ReadRuntime(**shared)
        return _ExecutionRuntime(**shared, context=self._typed(opening.context))

    def _typed(self, context: Any) -> Any:
        schema: Any = self._context_type
        if not isinstance(context, dict) or not inspect.isclass(schema):
            return context
        structured = dataclasses.is_dataclass(schema) or issubclass(schema, BaseModel)
        return schema(**context) if structured else context


GraphForm = CompiledGraph | GraphFactory


def graph_form(value: Any, graph_id: str) -> GraphForm:
    """Recognise the form of a graph value.

    Raises:
        NotAGraph: it is none, or a factory wants arguments that nobody can give.
    """
    if isinstance(value, Pregel | StateGraph):
        return CompiledGraph(_compiled(value), graph_id)
    if callable(value):
        return GraphFactory(value, graph_id)
    raise NotAGraph(f"it is a {type(value).__name__}, neither a graph nor a function that makes one")


def _compiled(value: Any) -> Pregel:
    if isinstance(value, StateGraph):
        return value.compile()
    if isinstance(value, Pregel):
        return value
    raise NotAGraph(f"the factory made a {type(value).__name__}, not a graph")


def _named(graph: Pregel, graph_id: str) -> Pregel:
    if graph.name == "LangGraph":
        graph.name = graph_id
    return graph


def _arguments(function: Callable[..., Any]) -> tuple[dict[str, Argument], Any]:
    """Which parameter takes what, by its type, else by its name; and the type of the run's context."""
    arguments: dict[str, Argument] = {}
    context_type: Any = None
    hints = _hints(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(parameter.name, parameter.annotation)
        kind = _kind(parameter.name, hint)
        if kind is None:
            if parameter.default is not parameter.empty:
                continue
            kind = "config" if hint is parameter.empty and not arguments else None
        if kind is None or parameter.kind is parameter.POSITIONAL_ONLY:
            raise NotAGraph(
                f"parameter `{parameter.name}` of the factory is neither `RunnableConfig` nor `ServerRuntime`"
            )
        arguments[parameter.name] = kind
        if kind == "runtime" and typing.get_origin(hint) is not None:
            context_type = typing.get_args(hint)[0]
    return arguments, context_type


def _kind(name: str, hint: Any) -> Argument | None:
    origin = typing.get_origin(hint) or hint
    if any(origin is form for form in _RUNTIME_FORMS) or (isinstance(hint, str) and "ServerRuntime" in hint):
        return "runtime"
    if any(origin is form for form in _CONFIG_FORMS) or (isinstance(hint, str) and "RunnableConfig" in hint):
        return "config"
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if len(options) == 1 and len(typing.get_args(hint)) == 2:
        return _kind(name, options[0])
    if hint is inspect.Parameter.empty and name in ("config", "runtime"):
        return name
    return None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = inspect.unwrap(function)
    if not (inspect.isroutine(target) or inspect.isclass(target)):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError, AttributeError):
        # A name that only type checkers see; the text of the annotation has to do.
        return {}
