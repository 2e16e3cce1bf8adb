"""The decorator that declares a tool. What it makes is a LangChain tool: any graph can use it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Set
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import orjson
from langchain_core.tools import StructuredTool
from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from typing_extensions import TypedDict, Unpack

from .context import BoundField, Leave, ToolContext, leave
from .errors import ResultInvalid, ToolBypassed, ToolError, ToolFailed, ToolInvalid
from .schemas import closed
from .spec import DryRun, Effect, Risk, ToolSpec

ToolFunction = Callable[..., Awaitable[Any]]
BoundFunction = Callable[[ToolContext, dict[str, Any]], Coroutine[Any, Any, Any]]

T = TypeVar("T")

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Bound:
    """Marks a parameter that the server fills in and the model never sees.

    `tenant: Annotated[str, Bound("tenant")]`
    """

    field: BoundField


class DeclaredTool(StructuredTool):
    """A LangChain tool that carries its declaration. It runs only behind the gateway."""

    spec: ToolSpec

    async def preview(self, arguments: dict[str, Any]) -> Any:
        """What the tool would do with these arguments, as JSON; only for a tool with a dry run."""
        if self.spec.dry_run is None:
            raise ToolInvalid(f"tool {self.name!r} has no dry run")
        model = self.args_schema
        if not isinstance(model, type) or not issubclass(model, BaseModel):
            raise ToolInvalid(f"tool {self.name!r} has no model of its arguments")
        context = self.entered()
        parsed = model.model_validate(arguments)
        return await self.spec.dry_run(context, {name: getattr(parsed, name) for name in model.model_fields})

    def entered(self) -> ToolContext:
        """The context of the one execution, or dry run, that the gateway let through.

        Raises:
            ToolFailed: there is no gateway here.
            ToolBypassed: the gateway let another tool through, which calls this one by itself.
        """
        held = _leave()
        if not held.enter(self):
            raise ToolBypassed(bypass_message(self.name))
        return held.context


class Facts(TypedDict, total=False):
    """What else a tool may declare; see `ToolSpec`."""

    permissions: Set[str]
    version: str
    review: bool
    timeout_s: float
    idempotent: bool
    untrusted: bool


def tool(
    *,
    effect: Effect,
    risk: Risk,
    name: str | None = None,
    dry_run: DryRun | None = None,
    **facts: Unpack[Facts],
) -> Callable[[ToolFunction], DeclaredTool]:
    """Declare an async function as a tool.

    Its parameters are what the model fills in, with two exceptions: one annotated `ToolContext`
    receives the server's side of the call, and those marked `Bound` are filled in by the server. The
    docstring is the description, the return annotation the schema of the result, which is text or
    JSON. `dry_run` takes the same parameters.

    Raises:
        ToolInvalid: no docstring, not async, or a signature that has no schema.
    """

    def declare(function: ToolFunction) -> DeclaredTool:
        called = name or function.__name__
        description = _described(function, called)
        signature = _Signature.of(function, called)
        facts.setdefault("timeout_s", _TIMEOUT_S)
        spec = ToolSpec(
            name=called,
            description=description,
            arguments_schema=closed(signature.model.model_json_schema()),
            result_schema=signature.result_schema,
            effect=effect,
            risk=risk,
            server_fields=frozenset(signature.bound),
            dry_run=None if dry_run is None else signature.bind(dry_run),
            **facts,
        )
        # Compiled now, so that a bad declaration fails where it is written.
        _ = spec.schema, spec.result
        declared = DeclaredTool(name=called, description=description, args_schema=signature.model, spec=spec)
        declared.coroutine = _checked(signature.bind(function), declared)
        declared.func = _from_thread(declared.coroutine)
        return declared

    return declare


def _described(function: ToolFunction, called: str) -> str:
    if not inspect.iscoroutinefunction(function):
        raise ToolInvalid(f"tool {called!r} must be an `async def`; use `asyncio.to_thread` inside")
    description = inspect.getdoc(function)
    if not description:
        raise ToolInvalid(f"tool {called!r} needs a docstring: it is what the model reads")
    return description


@dataclass(frozen=True, slots=True)
class _Signature:
    """What a tool function takes from whom."""

    model: type[BaseModel]
    context: str | None
    bound: dict[str, BoundField]
    result_schema: dict[str, Any] | None

    @classmethod
    def of(cls, function: ToolFunction, called: str) -> _Signature:
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        context: str | None = None
        bound: dict[str, BoundField] = {}
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name not in hints:
                raise ToolInvalid(f"parameter `{parameter.name}` of tool {called!r} has no type")
            hint = hints[parameter.name]
            if hint is ToolContext:
                context = parameter.name
            elif marker := _marker(hint):
                bound[parameter.name] = marker.field
            else:
                default = ... if parameter.default is inspect.Parameter.empty else parameter.default
                fields[parameter.name] = (hint, default)
        model = create_model(f"{called}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
        returns = hints.get("return")
        result_schema = None
        if returns is not None and returns is not str:
            result_schema = closed(TypeAdapter(returns).json_schema(mode="serialization"))
        return cls(model, context, bound, result_schema)

    def bind(self, function: ToolFunction) -> BoundFunction:
        """The function with what the server fills in taken from the context."""

        async def call(context: ToolContext, arguments: dict[str, Any]) -> Any:
            filled = {name: context.bound(source) for name, source in self.bound.items()}
            if self.context is not None:
                filled[self.context] = context
            return await function(**{**arguments, **filled})

        return call


def _checked(call: BoundFunction, tool: DeclaredTool) -> ToolFunction:
    """The tool with its result checked and written as JSON text, or as the plain text that it is."""

    async def run(**arguments: Any) -> str:
        context, expected = tool.entered(), tool.spec.result
        try:
            result = await on_loop(context.loop, call(context, arguments))
            if expected is not None and (problem := expected.problem(result)):
                raise ResultInvalid(f"the result of {tool.name!r} is not what it declares: {problem}")
        except ToolError as error:
            context.raised.append(error)
            raise
        return result if isinstance(result, str) else orjson.dumps(result).decode()

    return run


def _from_thread(call: ToolFunction) -> Callable[..., Any]:
    """The tool for a synchronous node: it waits in its thread, the tool itself runs on the run's loop."""

    def wait(**arguments: Any) -> Any:
        async def run() -> Any:
            return await call(**arguments)

        return asyncio.run_coroutine_threadsafe(run(), _leave().context.loop).result()

    return wait


def _leave() -> Leave:
    held = leave.get()
    if held is None:
        raise ToolFailed("this tool runs only inside a run of the server, behind its gateway")
    return held


async def on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` on the loop that it belongs to, from whichever loop this is."""
    if asyncio.get_running_loop() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def bypass_message(name: str) -> str:
    """What is wrong when a tool is called past the gateway, and what to do."""
    return (
        f"tool {name!r} was called past the gateway, by a node or by another tool; "
        "run it from a `ToolNode` or `create_agent`"
    )


def _marker(hint: Any) -> Bound | None:
    if get_origin(hint) is not Annotated:
        return None
    return next((a for a in get_args(hint)[1:] if isinstance(a, Bound)), None)
