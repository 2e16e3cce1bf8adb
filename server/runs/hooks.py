"""What a project hooks into the server besides its graphs: objects that langgraph.json names."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from langgraph_sdk import Encryption, Priority

from .modules import ModuleNames
from .project import Project
from .project_auth import ProjectAuth


class NotAHook(TypeError):
    """The object that a key of langgraph.json names cannot serve there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The hooks of one project; what it does not name is None."""

    app: Any = None
    """`http.app`: a Starlette or FastAPI application."""
    priority: Priority | None = None
    """`priority.path`: decides when the runs of a thread are served."""
    encryption: Encryption | None = None
    """`encryption.path`: encrypts what is stored."""
    auth: ProjectAuth | None = None
    """`auth.path`: who calls, and which rows each one touches."""


def load_hook(project: Project, names: ModuleNames, key: str) -> Any:
    """Import what a key names: `./file.py:name`, or `package.module:name`; None when the key is not used.

    Raises:
        NotAHook: there is no such name in it. Whatever the project's code raises passes through.
    """
    spec = project.hooks.get(key)
    if spec is None:
        return None
    location, _, attribute = spec.rpartition(":")
    is_file = "/" in location or "\\" in location or location.endswith(".py")
    value: Any = (
        names.load_file(project.directory / location) if is_file else importlib.import_module(location)
    )
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise NotAHook(f"there is no `{attribute}` in it")
        value = getattr(value, part)
    return value


def checked_app(value: Any) -> Any:
    """The value of `http.app`, if it is an application whose routes can be told apart.

    Raises:
        NotAHook: it is something else.
    """
    if value is None or all(hasattr(value, part) for part in ("router", "user_middleware")):
        return value
    raise NotAHook(f"it is a {type(value).__name__}, neither a Starlette nor a FastAPI application")


def checked_priority(value: Any) -> Any:
    """The value of `priority.path`, if it can decide.

    Raises:
        NotAHook: it is something else, or has no function.
    """
    if value is None:
        return None
    if not isinstance(value, Priority):
        raise NotAHook(f"it is a {type(value).__name__}, not a `langgraph_sdk.Priority`")
    if value._assign_handler is None:
        raise NotAHook("it has no function; register one with `@priority.assign`")
    return value
