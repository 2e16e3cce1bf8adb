"""Reads the settings from all sources and remembers where each value came from.

Later sources win: defaults, `langgraph.json`, `interlock.toml`, environment, command line. A name
that no setting has is refused, wherever it stands.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from .settings import Section, Settings

PREFIX = "INTERLOCK_"

DOCUMENTED_VARIABLES: Mapping[str, str] = {
    "POSTGRES_URI": "database.url",
    "DATABASE_URI": "database.url",
    "POSTGRES_URI_CUSTOM": "database.url",
    "DATABASE_URL": "database.url",
    "DATABASE_DIRECT_URL": "database.direct_url",
    "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "database.pool_max",
    "N_JOBS_PER_WORKER": "worker.slots",
    "BG_JOB_TIMEOUT_SECS": "worker.run_timeout_s",
    "BG_JOB_MAX_RETRIES": "worker.max_attempts",
    "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "worker.drain_grace_s",
    "BG_JOB_ISOLATED_LOOPS": "worker.isolated_loops",
    "RESUMABLE_STREAM_TTL_SECONDS": "events.retention_s",
    "MOUNT_PREFIX": "http.mount_prefix",
    "PORT": "http.port",
    "LOG_LEVEL": "log.level",
    "LOG_JSON": "log.json_lines",
    "LOG_COLOR": "log.color",
}
"""Variables of the LangGraph server and of hosting platforms; of two for one setting the later row wins."""

REFUSED_VARIABLES: Mapping[str, tuple[str, str]] = {
    "LANGGRAPH_AUTH_TYPE": ("noop", "use `auth.path` in langgraph.json or `auth.api_keys` in interlock.toml"),
}
"""Variables with the one value that means nothing; any other value would be ignored, so it is refused."""


class SettingsError(Exception):
    """The configuration cannot be used; the message lists every problem with its source."""


@dataclass(frozen=True, slots=True)
class SettingName:
    """A setting as documentation and the environment name it."""

    path: str
    variable: str
    default: Any
    description: str


def setting_names(section: type[Section] = Settings, prefix: str = "") -> Iterator[SettingName]:
    """Every single setting in the order of the code."""
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from setting_names(field.annotation, f"{path}.")
        else:
            variable = PREFIX + path.replace(".", "_").upper()
            yield SettingName(
                path=path, variable=variable, default=field.default, description=field.description or ""
            )


def read_settings(
    environ: Mapping[str, str], *, project: Mapping[str, Any] | None = None, toml: Path | None = None
) -> Settings:
    """Merge all sources.

    Args:
        environ: the environment, with that of the project's `env` below it.
        project: what langgraph.json says about our settings, already in our names.
        toml: the path of interlock.toml; a missing file is an empty one.

    Raises:
        SettingsError: a name is unknown or a value is wrong.
    """
    tree: dict[str, Any] = {}
    sources: dict[str, str] = {}
    _merge(tree, sources, project or {}, "langgraph.json")
    if toml is not None and toml.exists():
        values = _read_toml(toml)
        if isinstance(policies := values.get("tools", {}).get("policies"), str):
            values["tools"]["policies"] = str(toml.parent / policies)
        _merge(tree, sources, values, toml.name)
    _merge_environment(tree, sources, environ)
    return _validated(tree, sources)


def replaced(settings: Settings, source: str, values: Mapping[str, Any]) -> Settings:
    """A copy with other values at dotted paths; None leaves one as it is.

    Raises:
        SettingsError: a value is wrong.
    """
    tree = settings.model_dump(exclude_unset=True)
    sources = dict(settings.sources)
    for path, value in values.items():
        if value is not None:
            _put(tree, path, value)
            sources[path] = source
    return _validated(tree, sources)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} is not valid TOML: {error}") from error


def _merge(
    tree: dict[str, Any], sources: dict[str, str], values: Mapping[str, Any], source: str, prefix: str = ""
) -> None:
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            below = tree.setdefault(name, {})
            _merge(below, sources, value, source, f"{path}.")
        else:
            tree[name] = value
            sources[path] = source


def _merge_environment(tree: dict[str, Any], sources: dict[str, str], environ: Mapping[str, str]) -> None:
    fields = dict(_fields(Settings))
    for variable, path in DOCUMENTED_VARIABLES.items():
        if value := environ.get(variable):
            _put(tree, path, _parsed(variable, value, fields[path]))
            sources[path] = variable
    ours = {name.variable: name.path for name in setting_names()}
    problems = [
        f"{variable}={environ[variable]!r} is not supported; {advice}"
        for variable, (harmless, advice) in REFUSED_VARIABLES.items()
        if environ.get(variable, harmless) != harmless
    ]
    for variable in sorted(environ):
        if not variable.startswith(PREFIX):
            continue
        if (path := ours.get(variable)) is None:
            problems.append(f"environment variable {variable} names no setting{_suggestion(variable, ours)}")
        else:
            _put(tree, path, _parsed(variable, environ[variable], fields[path]))
            sources[path] = variable
    if problems:
        raise SettingsError("\n".join(problems))


def _fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _parsed(variable: str, text: str, field: FieldInfo) -> Any:
    """Lists are JSON or comma-separated words, mappings are JSON, all else is left to validation."""
    origin = get_origin(field.annotation)
    if origin not in (tuple, dict):
        return text
    if text.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise SettingsError(f"environment variable {variable} is not valid JSON: {error}") from error
    if origin is tuple and get_args(field.annotation)[0] in (str, SecretStr):
        return [word.strip() for word in text.split(",") if word.strip()]
    raise SettingsError(f"environment variable {variable} must hold JSON, for example `[]` or `{{}}`")


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *sections, name = path.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
    tree[name] = value


def _validated(tree: Mapping[str, Any], sources: Mapping[str, str]) -> Settings:
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("\n".join(_problem(detail, sources) for detail in error.errors())) from error
    settings._sources = dict(sources)
    return settings


def _problem(detail: Any, sources: Mapping[str, str]) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    source = next((s for p, s in sources.items() if p == path or p.startswith(f"{path}.")), None)
    if source is None:
        source = next((s for p, s in sources.items() if path.startswith(f"{p}.")), "settings")
    if detail["type"] == "extra_forbidden":
        return f"{source}: `{path}` is no setting{_suggestion(path, [n.path for n in setting_names()])}"
    return f"{source}: `{path}`: {detail['msg']}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
