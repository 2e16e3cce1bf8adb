"""A server that dies between the end of a run and the word of it, and what a server refuses to start with."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
from langgraph_sdk import get_client

from ..receiver import receiving
from ..servers import GRAPHS, prepare, running

Until = Callable[..., Awaitable[Any]]
KEY = "whsec_" + "QUFB" * 12
ENV = {
    "INTERLOCK_WEBHOOKS_URL_REQUIRE_HTTPS": "false",
    "INTERLOCK_WEBHOOKS_PRIVATE_NETWORKS": "127.0.0.0/8",
    "INTERLOCK_WEBHOOKS_SIGNING_SECRETS": KEY,
}


async def test_a_server_killed_before_the_receiver_answered_sends_again_with_the_same_id(
    database_url: str, tmp_path: Path, until: Until
) -> None:
    """kill -9 between the end of the run and the delivery of its webhook."""
    server = prepare(database_url, tmp_path, env=ENV)
    async with receiving(silent=asyncio.Event()) as receiver, AsyncExitStack() as closing:
        with running(server):
            client = get_client(url=server.url, api_key=None)
            closing.push_async_callback(client.aclose)
            thread = (await client.threads.create())["thread_id"]
            run = await client.runs.create(thread, "chat", input={"messages": "hi"}, webhook=receiver.url)
            await until(lambda: receiver.received, deadline_s=60)
            assert (await client.runs.get(thread, run["run_id"]))["status"] == "success"
            server.kill()
            assert receiver.silent is not None
            receiver.silent.set()
            server.start()
            # Only the lease of the dead process keeps it back.
            await until(lambda: make_due(database_url))
            await until(lambda: receiver.received[1:], deadline_s=60)
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
                path = f"/threads/{thread}/runs/{run['run_id']}/webhook-deliveries"
                await until(lambda: delivered(http, path), deadline_s=30)
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.told["values"] == second.told["values"]
    assert KEY not in server.log


def make_due(database_url: str) -> bool:
    with psycopg.connect(database_url, autocommit=True) as connection:
        return connection.execute("UPDATE interlock.webhook_deliveries SET due_at = now()").rowcount == 1


async def delivered(http: httpx.AsyncClient, path: str) -> bool:
    return [one["status"] for one in (await http.get(path)).json()] == ["delivered"]


def test_a_header_that_names_a_missing_variable_stops_the_start_and_config_shows_no_key(
    tmp_path: Path,
) -> None:
    project = tmp_path / "project"
    shutil.copytree(GRAPHS, project, ignore=shutil.ignore_patterns("__pycache__"))
    config = json.loads((project / "langgraph.json").read_text())
    config["webhooks"] = {"headers": {"authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}"}}
    (project / "langgraph.json").write_text(json.dumps(config))
    server = prepare("postgresql:///nowhere", tmp_path, project=project, command="config", env=ENV)

    def config_of(**env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "interlock.server.cli", "config"],
            cwd=project,
            env={**server.env, **env},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    refused = config_of()
    assert refused.returncode != 0
    assert "LG_WEBHOOK_TOKEN" in refused.stderr
    shown = config_of(LG_WEBHOOK_TOKEN="t0ken")
    assert shown.returncode == 0, shown.stderr
    assert "webhooks.signing_secrets" in shown.stdout
    assert not any(secret in shown.stdout + shown.stderr for secret in (KEY, "t0ken"))


APP = """
import json, os, pathlib
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def done(request):
    pathlib.Path(os.environ["APP_NOTES"]).write_text(json.dumps(await request.json()))
    return Response(status_code=204)

app = Starlette(routes=[Route("/done", done, methods=["POST"])])
"""


async def test_a_path_goes_to_the_projects_own_app_where_it_is_served_and_never_to_the_api(
    database_url: str, tmp_path: Path, until: Until
) -> None:
    project, notes = tmp_path / "project", tmp_path / "notes.json"
    shutil.copytree(GRAPHS, project, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "own.py").write_text(APP)
    config = json.loads((project / "langgraph.json").read_text())
    config["http"] = {"app": "./own.py:app", "mount_prefix": "/p"}
    config["webhooks"] = {"url": {"disable_loopback": False}}
    (project / "langgraph.json").write_text(json.dumps(config))
    env = {"APP_NOTES": str(notes)}
    api = prepare(database_url, tmp_path / "api", project=project, command="serve", env=env)
    worker = prepare(database_url, tmp_path / "work", project=project, command="work", env=env)
    with running(api, worker):
        async with httpx.AsyncClient(base_url=f"{api.url}/p", timeout=30) as http:
            thread = (await http.post("/threads", json={})).json()["thread_id"]
            for path, status_code in (("/done", 204), ("/threads", 404), ("/threads/", 404)):
                run = await http.post(
                    f"/threads/{thread}/runs",
                    json={"assistant_id": "chat", "input": {"messages": "hi"}, "webhook": path},
                )
                assert run.status_code == 200, run.text
                log = f"/threads/{thread}/runs/{run.json()['run_id']}/webhook-deliveries"
                await until(lambda log=log: attempted(http, log), deadline_s=60)
                assert (await attempted(http, log))[0]["status_code"] == status_code
            assert len((await http.post("/threads/search", json={})).json()) == 1
    assert json.loads(notes.read_text())["status"] == "success"


async def attempted(http: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    found = (await http.get(path)).json()
    return found[0]["attempts"] if found else []
