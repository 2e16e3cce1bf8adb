"""The `interlock` command: parses, calls, prints.

Modules are imported where they are used: `dev` starts Postgres before the heavy ones load.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
import webbrowser
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .runs.catalog import Catalog
    from .settings import Settings
    from .startup import Configured, OpenDatabase

app = typer.Typer(
    name="interlock",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
db = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(db, name="db")

_PORTS_TRIED = 50
_DEFAULT_CONFIG = Path("langgraph.json")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"interlock {version('interlock')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A durable, governed server for LangGraph graphs."""


ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The langgraph.json of the project.")]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on.")]
SlotsOption = Annotated[int | None, typer.Option("--n-jobs-per-worker", help="Runs at once.")]
LogLevelOption = Annotated[
    str | None, typer.Option("--server-log-level", help="debug, info, warning or error")
]
CertificateOption = Annotated[Path | None, typer.Option("--ssl-certfile", help="Serve HTTPS with this.")]
KeyOption = Annotated[Path | None, typer.Option("--ssl-keyfile", help="The key of the certificate.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def dev(
    config: ConfigOption = _DEFAULT_CONFIG,
    host: HostOption = None,
    port: PortOption = None,
    slots: SlotsOption = None,
    log_level: LogLevelOption = None,
    certfile: CertificateOption = None,
    keyfile: KeyOption = None,
    reload: Annotated[bool, typer.Option(help="Start again when a file of the project changes.")] = True,
    browser: Annotated[bool, typer.Option(help="Open the console.")] = True,
    inherited: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve a project: API, worker, console, and Postgres too unless DATABASE_URL is set."""
    from .reload import end_with_watcher, watch
    from .sockets import bound_socket
    from .startup import configure

    values = {"http.host": host, "http.port": port, "worker.slots": slots, "log.level": log_level}
    configured = configure(config, values)
    http = configured.settings.http
    if inherited is None:
        bound = bound_socket(http.host, http.port, tries=_PORTS_TRIED)
    else:
        bound_fd, lifeline = map(int, inherited.split(","))
        bound = socket.socket(fileno=bound_fd)
        end_with_watcher(lifeline)
    if not reload:
        _serve(configured, bound, certificate=_pair(certfile, keyfile), browser=browser)
        return
    # The watcher holds the database too, so that it outlives each restart of the server.
    embedded = None if configured.settings.database.url else configured.embedded()
    with ThreadPoolExecutor(1) as threads:
        if embedded is not None:
            threads.submit(embedded.start)
        code = watch([configured.project.directory, *configured.project.import_paths], bound, sys.argv[1:])
    if embedded is not None:
        embedded.release()
    raise typer.Exit(code)


@app.command()
def serve(
    config: ConfigOption = _DEFAULT_CONFIG,
    host: HostOption = None,
    port: PortOption = None,
    log_level: LogLevelOption = None,
    certfile: CertificateOption = None,
    keyfile: KeyOption = None,
) -> None:
    """Serve the API only; `interlock work` elsewhere executes the runs."""
    from .sockets import bound_socket
    from .startup import configure

    configured = configure(config, {"http.host": host, "http.port": port, "log.level": log_level})
    http = configured.settings.http
    bound = bound_socket(http.host, http.port)
    _serve(configured, bound, certificate=_pair(certfile, keyfile), worker=False)


@app.command()
def work(
    config: ConfigOption = _DEFAULT_CONFIG, slots: SlotsOption = None, log_level: LogLevelOption = None
) -> None:
    """Execute runs only; any number of these share the work."""
    from .startup import configure

    configured = configure(config, {"worker.slots": slots, "log.level": log_level})
    opened, catalog = _load(configured, migrates=False)
    from . import lifetime

    lifetime.work(opened.settings, catalog)


@app.command()
def migrate(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Bring the schema of the database to this release."""
    from ..checkpoints.migrate import available
    from .startup import configure, open_database, open_index

    configured = configure(config, {"log.level": "warning"}, supported_only=False)
    opened = open_database(configured, migrates=True)
    open_index(configured, opened, migrates=True)
    typer.echo(f"{_place(opened)} is at migration {available()[-1].version:04d}")


@app.command()
def doctor(config: ConfigOption = _DEFAULT_CONFIG, port: PortOption = None) -> None:
    """Check everything that a server needs."""
    from ..checkpoints.vector_index import VectorsUnavailable
    from .doctor import examine
    from .runs.catalog import CatalogError
    from .startup import configure, open_database, open_index

    configured = configure(config, {"http.port": port, "log.level": "error"}, supported_only=False)
    settings, opened = configured.settings, None
    if not settings.database.url:
        opened = open_database(configured, migrates=True)
        settings = opened.settings
        # What hinders it is one of the findings.
        with suppress(VectorsUnavailable, CatalogError):
            open_index(configured, opened, migrates=True)
    failed = 0
    for finding in examine(settings, configured.project):
        failed += finding.verdict == "FAIL"
        typer.echo(f"{finding.verdict}  {finding.subject:<12} {finding.detail}")
    raise typer.Exit(1 if failed else 0)


@app.command("config")
def show_config(config: ConfigOption = _DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Print every setting and where its value came from."""
    from .startup import configure

    rows = _setting_rows(configure(config, {}, supported_only=False).settings)
    if as_json:
        typer.echo(json.dumps({row["setting"]: row for row in rows}, indent=2))
        return
    width = max(len(row["setting"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['setting']:<{width}}  {row['value']:<40}  {row['source']}")


@app.command("eval")
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="YAML file with the cases.")],
    url: Annotated[
        str | None, typer.Option(help="A server that runs; without it one is started on a fresh database.")
    ] = None,
    config: ConfigOption = _DEFAULT_CONFIG,
    model: Annotated[
        str | None,
        typer.Option(help="Answer with this model in place of the dataset's; it has scores of its own."),
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Run only this case; may be given several times.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How often to run each case.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="Further trials of a case that got worse.")] = 2,
    concurrency: Annotated[int, typer.Option(min=1, help="Cases at once.")] = 4,
    baseline: Annotated[Path | None, typer.Option(help="File with the accepted scores.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Accept these scores.")] = False,
    fail_on_flaky: Annotated[
        bool, typer.Option("--fail-on-flaky", help="A case whose trials disagree fails the command.")
    ] = False,
    as_json: JsonOption = False,
    output: Annotated[Path | None, typer.Option(help="Write the report as JSON to this file too.")] = None,
) -> None:
    """Run a dataset against a real server and compare with the accepted scores."""
    from ..evals import runner

    options = runner.Options(
        dataset=dataset,
        url=url,
        config=config,
        model=model,
        cases=tuple(case or ()),
        trials=trials,
        retries=retries,
        concurrency=concurrency,
        baseline=baseline,
        accept=accept,
        fail_on_flaky=fail_on_flaky,
        as_json=as_json,
        output=output,
    )
    raise typer.Exit(runner.main(options))


@db.command("url")
def db_url(config: ConfigOption = _DEFAULT_CONFIG) -> None:
    """Print the address of the database, password included, for psql and its like."""
    from .startup import configure

    configured = configure(config, {"log.level": "warning"}, supported_only=False)
    if configured.settings.database.url:
        typer.echo(configured.settings.database.url)
        return
    embedded = configured.embedded()
    if embedded.postmaster_pid is None:
        typer.echo("the embedded database runs only while `interlock dev`, `serve` or `work` does", err=True)
    typer.echo(embedded.url)


def _load(configured: Configured, *, migrates: bool) -> tuple[OpenDatabase, Catalog]:
    """Load all code, the project's included, while the database starts."""
    from .startup import open_database, open_index

    # What is loaded now stays, so there is nothing to collect in it, neither now nor later.
    gc.disable()
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(open_database, configured, migrates=migrates)
        from .runs.catalog import load_catalog
        from .runs.embedding import load_index

        # Before the project's code, which may make clients while it is imported.
        importlib.import_module(".api.in_process", __package__).provide()
        importlib.import_module(".lifetime", __package__)

        catalog = load_catalog(configured.project, on_failure=configured.settings.graphs.on_failure)
        index = load_index(configured.project, configured.settings.store.index)
        opened = opening.result()
        if open_index(configured, opened, migrates=migrates):
            catalog = catalog.indexed(index)
    gc.freeze()
    gc.enable()
    return opened, catalog


def _serve(
    configured: Configured,
    bound: socket.socket,
    *,
    certificate: tuple[str, str] | None,
    worker: bool = True,
    browser: bool = False,
) -> None:
    opened, catalog = _load(configured, migrates=worker)
    from . import lifetime

    def announce() -> None:
        url = _url(bound, configured.settings.http.mount_prefix, secure=certificate is not None)
        asked = configured.settings.http.port
        if asked not in (0, bound.getsockname()[1]):
            typer.echo(f"port {asked} is taken")
        typer.echo(_welcome(url, opened, catalog.graph_ids))
        if browser and _can_open_browser():
            webbrowser.open(f"{url}/console/")

    lifetime.serve(
        opened.settings, catalog, bound=bound, worker=worker, certificate=certificate, announce=announce
    )


def _welcome(url: str, opened: OpenDatabase, graph_ids: tuple[str, ...]) -> str:
    lines = {
        "API": url,
        "Docs": f"{url}/docs",
        "Console": f"{url}/console/",
        "Database": _place(opened),
        "Graphs": ", ".join(graph_ids),
    }
    body = "\n".join(f"  {name:<9} {text}" for name, text in lines.items())
    return f"\n  Interlock {version('interlock')}\n\n{body}\n"


def _place(opened: OpenDatabase) -> str:
    from .settings import masked

    if opened.embedded is not None:
        return f"embedded Postgres in {opened.embedded.directory}"
    return masked(opened.settings.database.url)


def _url(bound: socket.socket, prefix: str, *, secure: bool) -> str:
    host, port = bound.getsockname()[:2]
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    named = f"[{reachable}]" if ":" in reachable else reachable
    return f"{'https' if secure else 'http'}://{named}:{port}{prefix}"


def _pair(certfile: Path | None, keyfile: Path | None) -> tuple[str, str] | None:
    if certfile is None and keyfile is None:
        return None
    if certfile is None or keyfile is None:
        raise typer.BadParameter("`--ssl-certfile` and `--ssl-keyfile` go together")
    return str(certfile), str(keyfile)


def _can_open_browser() -> bool:
    graphical = sys.platform == "darwin" or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return sys.stdout.isatty() and graphical


def _setting_rows(settings: Settings) -> list[Mapping[str, Any]]:
    from .settings import masked
    from .sources import setting_names

    rows: list[Mapping[str, Any]] = []
    for name in setting_names():
        value: Any = settings
        for part in name.path.split("."):
            value = getattr(value, part)
        below = (s for path, s in settings.sources.items() if path.startswith(f"{name.path}."))
        source = settings.sources.get(name.path) or next(below, "default")
        text = masked(value) if isinstance(value, str) else str(value)
        rows.append({"setting": name.path, "value": text, "source": source, "variable": name.variable})
    return rows


def _expected() -> tuple[type[Exception], ...]:
    """The errors whose message is all that the user needs. Looked up only when something failed."""
    from ..checkpoints.errors import DatabaseError
    from .runs.catalog import CatalogError
    from .runs.project import ProjectError
    from .sources import SettingsError
    from .supervisor import EmbeddedPostgresError

    return (CatalogError, DatabaseError, EmbeddedPostgresError, OSError, ProjectError, SettingsError)


def main() -> None:
    """The entry point."""
    try:
        app()
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        typer.echo(f"interlock: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
