"""From a command line to a project, its settings and a database that is ready."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from .runs.project import Project, ProjectError, load_project
from .runs.webhook_headers import HeadersInvalid, headers_of
from .settings import Settings
from .sources import SettingsError, read_settings, replaced
from .telemetry import configure_logging

if TYPE_CHECKING:
    from .embedded import EmbeddedPostgres

log = structlog.get_logger(__name__)

TOML_NAME = "interlock.toml"


@dataclass(frozen=True, slots=True)
class Configured:
    """What a command starts from."""

    config: Path
    project: Project
    settings: Settings

    @property
    def postgres_directory(self) -> Path:
        """Where the embedded database lies."""
        return self.project.directory / self.settings.home.expanduser() / "postgres"

    @property
    def toml(self) -> Path:
        """Our own settings file; it need not exist."""
        return self.project.directory / TOML_NAME

    def embedded(self) -> EmbeddedPostgres:
        """The embedded Postgres of the project, not started."""
        from .embedded import EmbeddedPostgres

        home = self.postgres_directory.parent
        home.mkdir(parents=True, exist_ok=True)
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        return EmbeddedPostgres(self.postgres_directory, tcp_port=self.settings.database.embedded_port)


def configure(config: Path, values: Mapping[str, Any], *, supported_only: bool = True) -> Configured:
    """Read langgraph.json and all settings, set up logging, and let graphs see the project's `env`.

    Args:
        config: the langgraph.json.
        values: what the command line says, by setting; None says nothing.
        supported_only: whether a key that we do not honour is refused, as settings say.

    Raises:
        ProjectError: langgraph.json is wrong.
        SettingsError: a setting is.
    """
    project = load_project(config, os.environ)
    environ = {**project.environment, **os.environ}
    settings = read_settings(environ, project=project.settings, toml=project.directory / TOML_NAME)
    settings = replaced(settings, "command line", values)
    try:
        headers_of(settings.webhooks, environ)
    except HeadersInvalid as error:
        raise SettingsError(str(error)) from error
    if project.auth.path and settings.auth.api_keys:
        raise ProjectError(
            "`auth.path` in langgraph.json and `auth.api_keys` in interlock.toml exclude each other: keep one"
        )
    configure_logging(settings.log)
    os.environ.update(environ)
    warnings = project.warnings
    if supported_only:
        warnings += project.refuse_unsupported(settings.unsupported_keys)
    for warning in warnings:
        log.warning("config", problem=warning)
    return Configured(config, project, settings)


def open_index(configured: Configured, opened: OpenDatabase, *, migrates: bool) -> bool:
    """Make the database ready to search by meaning, or check that it is; whether it can.

    Without a configuration it is no fault when it cannot.

    Raises:
        VectorsUnavailable: it is configured, and the database is not ready for it.
        DatabaseUnavailable: the address does not answer.
    """
    from ..checkpoints.vector_index import VectorsUnavailable, prepare, verify
    from .runs.embedding import spec_of

    wanted = configured.settings.store.index
    spec = spec_of(wanted)
    if spec is None:
        return False
    url = opened.settings.database.direct_url
    try:
        if opened.embedded is None and not migrates:
            verify(url, spec)
        elif prepare(url, spec):
            log.info("vector_index_made", model=spec.model, fields=spec.fields)
    except VectorsUnavailable as error:
        if wanted.embed != "auto":
            raise
        log.info("search_by_meaning_off", reason=str(error))
        return False
    return True


@dataclass(frozen=True, slots=True)
class OpenDatabase:
    """A database with the schema of this release."""

    settings: Settings
    embedded: EmbeddedPostgres | None
    """Held for the life of the process, which keeps it running."""


def open_database(configured: Configured, *, migrates: bool) -> OpenDatabase:
    """Start the embedded Postgres unless an address is set; bring the schema up to date, or check it.

    The embedded database is nobody else's, so it is always migrated.

    Raises:
        EmbeddedPostgresError: it does not start.
        SchemaMismatch: the schema is of another release and `migrates` is false.
        DatabaseUnavailable: the address does not answer.
    """
    from ..checkpoints.migrate import migrate, verify

    settings, embedded = configured.settings, None
    if not settings.database.url:
        embedded = configured.embedded()
        url = embedded.start()
        settings = replaced(settings, "embedded", {"database.url": url, "database.direct_url": url})
    if embedded is not None or migrates:
        for migration in migrate(settings.database.direct_url):
            log.info("migrated", version=migration.version, name=migration.name)
    else:
        verify(settings.database.direct_url)
    return OpenDatabase(settings, embedded)
