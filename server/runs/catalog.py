"""The graphs of the project: loaded once at start, opened for each run."""

from __future__ import annotations

import importlib
import os
import site
import traceback
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph_sdk.auth.types import BaseUser
from langgraph_sdk.runtime import AccessContext

from ...checkpoints.embedding import StoreIndex
from ...tools.policy.permissions import Principal
from ..errors import NotFound, ServerError
from ..records.assistants import Content
from .acting import Actor, acting_for, current_actor
from .encryption import checked_encryption
from .factory import GraphForm, NotAGraph, Opening, graph_form
from .hooks import Hooks, checked_app, checked_priority, load_hook
from .modules import ModuleNames, add_import_paths, foreign_environment
from .project import GraphSource, Project
from .project_auth import ProjectAuth, checked_auth
from .user import RunUser

log = structlog.get_logger(__name__)

EXECUTION_KEY = "__is_for_execution__"
"""Key of `configurable` that tells a factory whether a run follows, or only a look at the graph."""


class GraphNotFound(NotFound):
    """No graph has this id."""


class GraphFailed(ServerError):
    """The graph cannot be used."""

    code = "graph_failed"


class CatalogError(Exception):
    """Graphs failed to load and the setting `graphs.on_failure` is to refuse that."""


@dataclass(frozen=True, slots=True)
class GraphFailure:
    """Why a graph could not be loaded."""

    graph_id: str
    file: str
    """The file or module, as langgraph.json names it."""
    cause: str
    """The exception, and where in the project it arose."""

    def __str__(self) -> str:
        return f"graph {self.graph_id!r} ({self.file}): {self.cause}"


class Catalog:
    """The graphs that can run. Thread-safe: nothing changes after loading."""

    def __init__(
        self,
        sources: Mapping[str, GraphSource],
        forms: Mapping[str, GraphForm],
        failures: Mapping[str, GraphFailure],
        hooks: Hooks | None = None,
        *,
        index: StoreIndex | None = None,
    ) -> None:
        self._sources = sources
        self._forms = forms
        self.failures = failures
        self.hooks = hooks or Hooks()
        self.index = index
        """How their store searches by meaning, if it does."""
        self.graph_ids: tuple[str, ...] = tuple(forms)

    @property
    def auth(self) -> ProjectAuth | None:
        """The project's own `Auth` object; None when it has none."""
        return self.hooks.auth

    def indexed(self, index: StoreIndex | None) -> Catalog:
        """The same graphs with an index of their store."""
        return Catalog(self._sources, self._forms, self.failures, self.hooks, index=index)

    def default_content(self, graph_id: str) -> Content:
        """What the assistant holds that a graph has by itself."""
        source = self._sources[graph_id]
        config = {key: value for key, value in source.config.items() if key != "context"}
        context = source.config.get("context") or config.get("configurable") or {}
        if context:
            config["configurable"] = context
        return Content(
            graph_id=graph_id,
            name=graph_id,
            description=source.description,
            config=config,
            context=context,
            metadata={"created_by": "system"},
        )

    @asynccontextmanager
    async def open(
        self,
        graph_id: str,
        *,
        config: RunnableConfig,
        access: AccessContext,
        principal: Principal,
        store: BaseStore | None = None,
        context: Any = None,
    ) -> AsyncGenerator[Pregel]:
        """The graph for one run or one look at it; what its factory opened is closed on leaving.

        Raises:
            GraphNotFound: no graph has this id.
            GraphFailed: it could not be loaded, or its factory failed when asked for a look.
        """
        form = self._form(graph_id)
        user = user_of(principal)
        actor = current_actor() if access == "threads.create_run" else None
        opening = Opening(
            config=_told(config, access, user), access=access, user=user, store=store, context=context
        )
        async with AsyncExitStack() as stack:
            try:
                with acting_for(actor or Actor(principal)):
                    graph = await stack.enter_async_context(form.open(opening))
            except Exception as error:
                if access == "threads.create_run":
                    raise
                raise GraphFailed(f"the factory of graph {graph_id!r} failed: {describe(error)}") from error
            yield graph

    def _form(self, graph_id: str) -> GraphForm:
        if (form := self._forms.get(graph_id)) is not None:
            return form
        if (failure := self.failures.get(graph_id)) is not None:
            raise GraphFailed(str(failure))
        raise GraphNotFound(f"Graph {graph_id!r} not found. Expected one of: {sorted(self.graph_ids)}")


def load_catalog(project: Project, *, on_failure: str = "refuse") -> Catalog:
    """Import every graph of a project.

    Raises:
        CatalogError: some failed and `on_failure` is "refuse", or a hook of the project failed; the
            message names each with its cause.
    """
    add_import_paths(project.import_paths)
    _add_environment(project)
    names = ModuleNames(project.directory)
    forms: dict[str, GraphForm] = {}
    failures: dict[str, GraphFailure] = {}
    for graph_id, source in project.graphs.items():
        try:
            forms[graph_id] = graph_form(value_of(source, project, names), graph_id)
        # Importing runs the project's own code, which may raise anything, or call `sys.exit`.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            failures[graph_id] = GraphFailure(graph_id, source.location, describe(error, project.directory))
    hooks = _load_hooks(project, names)
    if names.ambiguous:
        log.warning(
            "modules_with_the_same_name", names=sorted(names.ambiguous), advice="import them relatively"
        )
    if failures and (on_failure == "refuse" or not forms):
        raise CatalogError("\n".join(str(failure) for failure in failures.values()))
    for failure in failures.values():
        log.error("graph_failed_to_load", graph=failure.graph_id, file=failure.file, cause=failure.cause)
    return Catalog(project.graphs, forms, failures, hooks)


def _load_hooks(project: Project, names: ModuleNames) -> Hooks:
    """Import what the project hooks into the server; it would not be the same server without."""
    checks = {
        "auth.path": partial(checked_auth, project.auth),
        "encryption.path": checked_encryption,
        "http.app": checked_app,
        "priority.path": checked_priority,
    }
    values: dict[str, Any] = {}
    for key, check in checks.items():
        try:
            values[key] = check(load_hook(project, names, key))
        except (Exception, SystemExit) as error:
            cause = describe(error, project.directory)
            raise CatalogError(f"`{key}` ({project.hooks[key]}): {cause}") from error
    return Hooks(
        app=values["http.app"],
        auth=values["auth.path"],
        encryption=values["encryption.path"],
        priority=values["priority.path"],
    )


def _add_environment(project: Project) -> None:
    """Find the packages of the project's virtual environment when we run from another; ours come first."""
    try:
        packages = foreign_environment(os.environ, project.directory)
    except ImportError as error:
        log.warning("environment_not_usable", problem=str(error))
        return
    if packages is not None:
        site.addsitedir(str(packages))


def value_of(source: GraphSource, project: Project, names: ModuleNames) -> Any:
    """What a source names, imported."""
    if source.location.endswith((".js", ".ts", ".mjs", ".mts", ".tsx", ".jsx")):
        raise NotAGraph("graphs in JavaScript are not supported")
    if source.is_file:
        module = names.load_file(project.directory / source.location)
    else:
        module = importlib.import_module(source.location)
    value: Any = module
    for part in source.attribute.split("."):
        if not hasattr(value, part):
            raise NotAGraph(f"there is no `{source.attribute}` in it{_offer(module)}")
        value = getattr(value, part)
    return value


def _offer(module: ModuleType) -> str:
    graphs = [name for name, value in vars(module).items() if isinstance(value, Pregel)]
    return f"; it has {', '.join(f'`{name}`' for name in graphs)}" if graphs else ""


def describe(error: BaseException, directory: Path | None = None) -> str:
    """An exception in one line, with the innermost place in the project that it passed."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if directory is None:
        return text
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(directory)
    ]
    own = [f for f in frames if "site-packages" not in f.filename]
    if isinstance(error, SyntaxError) or not own:
        return text
    return f"{text} (at {Path(own[-1].filename).relative_to(directory)}:{own[-1].lineno})"


def _told(config: RunnableConfig, access: AccessContext, user: BaseUser | None) -> RunnableConfig:
    """The config with what factories and nodes expect in `configurable`; only who asks is replaced there."""
    told: dict[str, Any] = {EXECUTION_KEY: access == "threads.create_run"}
    who: dict[str, Any] = {}
    if user is not None:
        who = {
            "langgraph_auth_user": user,
            "langgraph_auth_user_id": user.identity,
            "langgraph_auth_permissions": list(user.permissions),
        }
    return {**config, "configurable": {**told, **config.get("configurable", {}), **who}}


def user_of(principal: Principal) -> BaseUser | None:
    """Who a graph is told it works for; None when the server asks for no credentials."""
    unasked = principal.subject == "anonymous" and not principal.attributes
    return None if unasked else cast("BaseUser", RunUser(principal))
