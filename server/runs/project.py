"""Reads langgraph.json: which graphs there are, what they need, and which keys we cannot honour."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from .auth_config import AuthConfig, auth_config

FILE_NAME = "langgraph.json"

BUILD_TIME_KEYS = frozenset(
    {
        "$schema",
        "_INTERNAL_docker_tag",
        "api_version",
        "base_image",
        "dockerfile_lines",
        "image_distro",
        "internal_docker_tag",
        "keep_pkg_tools",
        "node_version",
        "pip_config_file",
        "pip_installer",
        "python_version",
        "source",
    }
)
"""Keys that say how to build an image; they mean nothing to a server that runs."""

UNSUPPORTED_KEYS: Mapping[str, str] = {
    "checkpointer.path": "checkpoints always go to our own Postgres",
    "checkpointer.serde": "checkpoints hold LangGraph's and LangChain's own types and those of your state",
    "ui": "no generative interface bundles are served",
}
"""Documented keys that this release does not honour, and what happens instead."""

_SECTIONS: Mapping[str, frozenset[str]] = {
    "auth": frozenset({"path", "disable_studio_auth", "openapi", "cache"}),
    "checkpointer": frozenset({"path", "ttl", "serde"}),
    "http": frozenset(
        {
            "app",
            "configurable_headers",
            "cors",
            "disable_a2a",
            "disable_assistants",
            "disable_mcp",
            "disable_meta",
            "disable_runs",
            "disable_store",
            "disable_threads",
            "disable_ui",
            "disable_webhooks",
            "enable_custom_route_auth",
            "logging_headers",
            "middleware_order",
            "mount_prefix",
        }
    ),
    "encryption": frozenset({"path"}),
    "priority": frozenset({"path"}),
    "store": frozenset({"index", "ttl"}),
    "webhooks": frozenset({"env_prefix", "headers", "url"}),
    "checkpointer.ttl": frozenset({"default_ttl", "strategy", "sweep_interval_minutes", "sweep_limit"}),
}
_KEYS = frozenset({"graphs", "dependencies", "env", "ui"} | {name for name in _SECTIONS if "." not in name})
_OUR_HTTP_KEYS = _SECTIONS["http"] - {"app", "disable_ui"}
_HOOKS = ("auth.path", "encryption.path", "http.app", "priority.path")
"""Keys that name an object of the project's code, `./file.py:name`."""

CONFIG_VARIABLE = "LANGGRAPH_CONFIG"
"""Holds a whole langgraph.json, or what the assistants of its graphs begin with, by graph id."""

AES_VARIABLE = "LANGGRAPH_AES_KEY"
"""Makes LangGraph's server encrypt checkpoints; to pass it over would open what it means to close."""

INJECTED: Mapping[str, str] = {
    "LANGSERVE_GRAPHS": "graphs",
    "LANGGRAPH_AUTH": "auth",
    "LANGGRAPH_CHECKPOINTER": "checkpointer",
    "LANGGRAPH_ENCRYPTION": "encryption",
    "LANGGRAPH_HTTP": "http",
    "LANGGRAPH_STORE": "store",
    "LANGGRAPH_WEBHOOKS": "webhooks",
}
"""Variables whose JSON replaces a key of the file, for containers without one."""


class ProjectError(Exception):
    """langgraph.json cannot be used; the message lists every problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSource:
    """Where one graph comes from: `./agent.py:graph`, or `package.module:graph`."""

    graph_id: str
    spec: str
    description: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """What its own assistant begins with: keys of a run's `config`, and `context`."""

    @property
    def location(self) -> str:
        """The file or the module."""
        return self.spec.rpartition(":")[0]

    @property
    def attribute(self) -> str:
        """The name in it."""
        return self.spec.rpartition(":")[2]

    @property
    def is_file(self) -> bool:
        """Whether `location` is a path."""
        return "/" in self.location or "\\" in self.location or self.location.endswith(".py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a langgraph.json says."""

    directory: Path
    """The folder that its paths are relative to."""
    graphs: Mapping[str, GraphSource]
    import_paths: tuple[Path, ...] = ()
    """Folders of its `dependencies`."""
    environment: Mapping[str, str]
    """Its `env`; a variable of the real environment wins."""
    settings: Mapping[str, Any]
    """Those of its keys that are settings of ours, by our names."""
    hooks: Mapping[str, str] = field(default_factory=dict)
    """Where the objects are that keys other than `graphs` name, by key."""
    auth: AuthConfig = field(default_factory=AuthConfig)
    """Its `auth`."""
    unsupported: tuple[str, ...] = ()
    """Documented keys in use that we do not honour."""
    warnings: tuple[str, ...] = ()

    def refuse_unsupported(self, policy: str) -> tuple[str, ...]:
        """The warnings that are left when unsupported keys are only warned about.

        Raises:
            ProjectError: `policy` is "refuse".
        """
        lines = tuple(
            f"`{key}` in {FILE_NAME} is not supported: {UNSUPPORTED_KEYS[key]}" for key in self.unsupported
        )
        if lines and policy == "refuse":
            advice = 'to start without them, set `unsupported_keys = "warn"` in interlock.toml'
            raise ProjectError("\n".join([*lines, advice]))
        return lines


def load_project(path: Path, environ: Mapping[str, str]) -> Project:
    """Read a langgraph.json, or what the environment gives in its place.

    Raises:
        ProjectError: no such file, or a key or value in it is wrong.
    """
    path = path.expanduser().resolve()
    config = _read(path, environ)
    problems = _unknown_keys(config)
    for name in _SECTIONS:
        if name in config or _value(config, name) is not None:
            problems += _unknown_keys(_value(config, name), name)
    graphs = _graphs(config.get("graphs"), problems)
    paths, warnings = _import_paths(config.get("dependencies", []), path.parent, problems)
    environment = _environment(config.get("env", {}), path.parent, problems, warnings)
    hooks = _hooks(config, problems)
    if AES_VARIABLE in {**environment, **environ} and "encryption.path" not in hooks:
        problems.append(
            f"{AES_VARIABLE} is set, and this server has no cipher of its own: name handlers that use it in "
            "`encryption.path`, or unset it"
        )
    graphs = _configured(graphs, {**environment, **environ}.get(CONFIG_VARIABLE, ""), problems)
    auth = auth_config(config.get("auth"), [] if problems else problems)
    if problems:
        raise ProjectError("\n".join(f"{path.name}: {problem}" for problem in problems))
    return Project(
        directory=path.parent,
        graphs=graphs,
        import_paths=tuple(paths),
        environment=environment,
        settings=_settings(config),
        hooks=hooks,
        auth=auth,
        unsupported=tuple(key for key in UNSUPPORTED_KEYS if _value(config, key)),
        warnings=tuple(warnings),
    )


def _read(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    if "graphs" in (injected := _parsed(CONFIG_VARIABLE, environ.get(CONFIG_VARIABLE) or "{}")):
        config = injected
    elif path.exists():
        config = _parsed(path.name, path.read_text(encoding="utf-8"))
    elif "LANGSERVE_GRAPHS" in environ:
        config = {}
    else:
        raise ProjectError(f"there is no {path}; name another with `--config`")
    for variable, key in INJECTED.items():
        if value := environ.get(variable):
            config[key] = _parsed(variable, value)
    return config


def _parsed(source: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ProjectError(f"{source} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProjectError(f"{source} must hold a JSON object")
    return value


def _unknown_keys(values: Any, section: str = "") -> list[str]:
    if not isinstance(values, dict):
        return [f"`{section}` must be an object"]
    known = _SECTIONS[section] if section else _KEYS | BUILD_TIME_KEYS
    prefix = f"{section}." if section else ""
    found: list[str] = []
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            found.append(
                f"unknown key `{prefix}{key}`" + (f"; did you mean `{prefix}{close[0]}`?" if close else "")
            )
    return found


def _graphs(value: Any, problems: list[str]) -> dict[str, GraphSource]:
    if not isinstance(value, dict) or not value:
        problems.append("`graphs` must name at least one graph")
        return {}
    graphs: dict[str, GraphSource] = {}
    for graph_id, given in value.items():
        details = {"path": given} if isinstance(given, str) else given
        if not isinstance(details, dict) or not isinstance(details.get("path"), str):
            problems.append(f"graph {graph_id!r} must be `path.py:name` or an object with `path`")
            continue
        if unknown := sorted(details.keys() - {"path", "description"}):
            problems.append(f"graph {graph_id!r} has the unknown key `{unknown[0]}`")
        source = GraphSource(graph_id=graph_id, spec=details["path"], description=details.get("description"))
        if not source.location or not source.attribute:
            problems.append(f"graph {graph_id!r} is {source.spec!r}; it must end with `:name` of the graph")
        graphs[graph_id] = source
    return graphs


def _configured(
    graphs: Mapping[str, GraphSource], injected: str, problems: list[str]
) -> dict[str, GraphSource]:
    """The graphs, each with what `LANGGRAPH_CONFIG` says about it by id."""
    configs = _parsed(CONFIG_VARIABLE, injected or "{}")
    if "graphs" in configs:
        return dict(graphs)
    for graph_id, config in configs.items():
        place = f"{CONFIG_VARIABLE}: graph {graph_id!r}"
        if graph_id not in graphs:
            problems.append(f"{place} does not exist; it takes configs by graph, or a whole {FILE_NAME}")
        elif not isinstance(config, dict):
            problems.append(f"{place} must have an object")
        elif config.get("context") and config.get("configurable"):
            problems.append(f"{place}: give either `context` or `configurable`, not both")
    if problems:
        return dict(graphs)
    return {name: replace(source, config=configs.get(name, {})) for name, source in graphs.items()}


def _import_paths(value: Any, directory: Path, problems: list[str]) -> tuple[list[Path], list[str]]:
    """The folders among the dependencies; packages of a registry must be installed already."""
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        problems.append("`dependencies` must be a list of strings")
        return [], []
    paths: list[Path] = []
    warnings: list[str] = []
    for entry in value:
        if not entry.startswith(".") and not os.path.isabs(entry):
            continue
        folder = (directory / entry).resolve()
        if not folder.is_dir():
            problems.append(f"dependency {entry!r} is no folder")
            continue
        paths.append(folder)
        if (folder / "src").is_dir():
            paths.append(folder / "src")
        if (folder / "__init__.py").exists():
            paths.append(folder.parent)
    return paths, warnings


def _environment(value: Any, directory: Path, problems: list[str], warnings: list[str]) -> Mapping[str, str]:
    if isinstance(value, dict):
        return {str(name): str(text) for name, text in value.items()}
    if not isinstance(value, str):
        problems.append("`env` must be the path of a file, or an object")
        return {}
    file = directory / value
    if not file.exists():
        warnings.append(f"`env` names {value!r}, which does not exist")
        return {}
    return {name: text for name, text in dotenv_values(file).items() if text is not None}


def _settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    http = {key: value for key, value in (config.get("http") or {}).items() if key in _OUR_HTTP_KEYS}
    ttl = _value(config, "checkpointer.ttl")
    found = {
        "http": http,
        "store": config.get("store") or {},
        "thread_ttl": ttl or {},
        "webhooks": config.get("webhooks") or {},
    }
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in found.items()
    }
    return {section: values for section, values in given.items() if values}


def _hooks(config: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    hooks: dict[str, str] = {}
    for key in _HOOKS:
        spec = _value(config, key)
        if spec is None:
            continue
        location, _, attribute = spec.rpartition(":") if isinstance(spec, str) else ("", "", "")
        if not location or not attribute:
            problems.append(f"`{key}` is {spec!r}; it must be `./file.py:name` or `package.module:name`")
        else:
            hooks[key] = spec
    return hooks


def _value(config: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    value = config.get(section)
    return value.get(name) if name and isinstance(value, dict) else value
