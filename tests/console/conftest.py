"""A real browser on a real server. Whatever a test does, the page must stay clean: see `open_page`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from interlock.server.embedded import EmbeddedPostgres

from ..compat.conftest import installed_packages
from ..servers import InterlockServer, fresh_database, prepare, running

PROJECT = Path(__file__).parent / "project"
SCRIPTS = Path(__file__).parent / "js"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
)

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def packages() -> Path:
    """Where npm put what checks the console."""
    return installed_packages(SCRIPTS) / "node_modules"


@pytest.fixture(scope="session")
def console_database_url(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """The migrated database of the console's server."""
    yield from fresh_database(postgres, admin, template=template_database)


@pytest.fixture(scope="session")
def server(console_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InterlockServer]:
    """One `interlock dev` process with our assistant and graphs made for the console's tests."""
    shared = prepare(console_database_url, tmp_path_factory.mktemp("server"), project=PROJECT)
    with running(shared):
        yield shared


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the module; the synchronous driver lives no longer, since it holds the event loop."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    assert found, "the console is tested in Chromium: run tests/install.sh"
    # Chromium's sandbox refuses to run as root, which is who runs tests in a container.
    flags = [*_FLAGS, "--no-sandbox"] if os.geteuid() == 0 else list(_FLAGS)
    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=found, args=flags)
        yield launched
        launched.close()


class Watch:
    """All that a page did and must not do."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.problems: list[str] = []
        self.expected: list[str] = []
        self.requests: list[Any] = []
        self._origin = urlsplit(origin).netloc
        context.on("console", lambda message: self._said(message.type, message.text))
        context.on("weberror", lambda error: self.problems.append(f"error: {error.error}"))
        context.on("request", self._requested)

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(f"{kind}: {text}")

    def _requested(self, request: Any) -> None:
        self.requests.append(request)
        if urlsplit(request.url).netloc != self._origin:
            self.problems.append(f"request to another origin: {request.url}")

    def unexpected(self) -> list[str]:
        """What happened and was not announced through `expected`."""
        return [p for p in self.problems if not any(part in p for part in self.expected)]


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(browser: Browser, server: InterlockServer) -> Iterator[OpenPage]:
    """Open the console as a person with a browser of their own: `page = open_page("#/threads", width=400)`.

    At the end of the test no page may have logged an error, broken the content security policy (which
    is logged as an error) or asked another origin. `page.watch.expected` names what a test provokes.
    """
    opened: list[tuple[BrowserContext, Watch]] = []

    def open_one(
        route: str = "",
        *,
        width: int = 1280,
        scheme: str = "light",
        motion: str = "reduce",
        origin: str | None = None,
        **options: Any,
    ) -> Page:
        address = origin or server.url
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion=motion, **options
        )
        context.set_default_timeout(15_000)
        watch = Watch(context, address)
        opened.append((context, watch))
        page = context.new_page()
        page.watch = watch
        page.goto(f"{address}/console/{route}")
        return page

    yield open_one
    found = [problem for _, watch in opened for problem in watch.unexpected()]
    for context, _ in opened:
        context.close()
    assert not found


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """The console, as it opens."""
    return open_page()


Rows = Callable[[LiteralString], list[Any]]


@pytest.fixture
def rows(console_database_url: str) -> Rows:
    """Read the server's database: what the console shows is one thing, what happened another."""

    def read(query: LiteralString) -> list[Any]:
        with psycopg.connect(console_database_url) as connection:
            return connection.execute(query).fetchall()

    return read
