"""One server for all tests that do not hurt it: they keep apart by using threads of their own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from interlock.server.embedded import EmbeddedPostgres

from ..servers import PROJECT_APP, InterlockServer, fresh_database, prepare, running

ANN = {"x-api-key": "ann-key"}
BOB = {"x-api-key": "bob-key"}
KEYS = "\n".join(
    f"""
[[auth.api_keys]]
name = "{name}"
sha256 = "{hashlib.sha256(f"{name}-key".encode()).hexdigest()}"
tenant = "{tenant}"
subject = "{name}"
roles = ["admin"]
"""
    for name, tenant in (("ann", "acme"), ("bob", "other"))
)
"""Keys of two callers of two tenants, for interlock.toml."""

Serve = Callable[..., InterlockServer]


@pytest.fixture(scope="session")
def shared_database_url(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """The migrated database of the shared server, which takes every run in it."""
    yield from fresh_database(postgres, admin, template=template_database)


@pytest.fixture(scope="module")
def module_database_url(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """A migrated database for servers that a module sets up itself."""
    yield from fresh_database(postgres, admin, template=template_database)


@pytest.fixture(scope="session")
def server(shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InterlockServer]:
    """One `interlock dev` process with the test graphs."""
    shared = prepare(shared_database_url, tmp_path_factory.mktemp("server"))
    with running(shared):
        yield shared


@pytest.fixture
async def http(server: InterlockServer) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP, for what the SDK hides."""
    async with httpx.AsyncClient(base_url=server.url, timeout=httpx.Timeout(30.0)) as opened:
        yield opened


@pytest.fixture
def serve(interlock_server: Serve, tmp_path: Path) -> Serve:
    """Serve a copy of the project with an application: `serve(http={…}, toml=KEYS)`."""
    project = tmp_path / "project"

    def start(
        command: str = "dev",
        *,
        http: Mapping[str, Any] | None = None,
        toml: str = "",
        wait: bool = True,
        env: Mapping[str, str] | None = None,
        **keys: Any,
    ) -> InterlockServer:
        shutil.copytree(
            PROJECT_APP, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
        config = json.loads((project / "langgraph.json").read_text())
        config["http"] = {"app": "./web.py:app", **(http or {})}
        (project / "langgraph.json").write_text(json.dumps({**config, **keys}))
        (project / "interlock.toml").write_text(toml)
        notes = str(tmp_path / "notes.txt")
        return interlock_server(command, project=project, wait=wait, env={"APP_NOTES": notes, **(env or {})})

    return start
