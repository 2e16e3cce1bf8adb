"""The tools of this server, by name."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator

from langchain_core.tools import BaseTool

from .builtin import BUILTIN
from .errors import ToolInvalid
from .policy.permissions import Principal
from .spec import ToolSpec, derived_spec
from .tool import DeclaredTool


class Registry:
    """Looks tools up: declared ones by name, and the declaration behind any tool of a graph."""

    def __init__(self, tools: Iterable[DeclaredTool] = ()) -> None:
        self._tools: dict[str, DeclaredTool] = {}
        self._derived: dict[int, tuple[weakref.ref[BaseTool], ToolSpec]] = {}
        self._lock = threading.Lock()
        for tool in tools:
            self.add(tool)

    def __iter__(self) -> Iterator[DeclaredTool]:
        return iter(self._tools.values())

    def add(self, tool: DeclaredTool) -> None:
        """Register a declared tool.

        Raises:
            ToolInvalid: the name is taken.
        """
        with self._lock:
            if tool.name in self._tools:
                raise ToolInvalid(f"there are two tools named {tool.name!r}")
            self._tools[tool.name] = tool

    def spec_of(self, tool: BaseTool) -> ToolSpec:
        """The declaration of a tool found in a graph; derived once for a plain LangChain tool."""
        if isinstance(tool, DeclaredTool):
            return tool.spec
        key = id(tool)
        known = self._derived.get(key)
        if known is not None and known[0]() is tool:
            return known[1]
        spec = derived_spec(tool)
        self._derived[key] = (weakref.ref(tool, lambda _: self._derived.pop(key, None)), spec)
        return spec

    def langchain_tools(
        self, principal: Principal | None = None, *, names: Iterable[str] | None = None
    ) -> list[BaseTool]:
        """Tools for a graph: those that the principal holds every permission for, or all of them.

        What is offered to a model is a courtesy; the gateway decides each call.

        Raises:
            KeyError: a name in `names` is not registered.
        """
        wanted = list(self) if names is None else [self._tools[name] for name in names]
        return [t for t in wanted if principal is None or may_hold(principal, t.spec)]


def may_hold(principal: Principal, spec: ToolSpec) -> bool:
    """Whether the principal holds what the tool requires; policies may still refuse the call."""
    return "admin" in principal.roles or spec.permissions <= principal.permissions


def builtin_registry() -> Registry:
    """A registry of the tools that come with the server."""
    return Registry(BUILTIN)
