"""A project's own application, `http.app`: served with the API, and no danger to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ..servers import PROJECT_APP, InterlockServer, prepare, running
from .conftest import ANN, KEYS, Serve


@pytest.fixture(scope="module")
def app_server(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InterlockServer]:
    """The project as it is, without keys."""
    folder = tmp_path_factory.mktemp("project-app")
    served = prepare(
        module_database_url, folder, project=PROJECT_APP, env={"APP_NOTES": str(folder / "notes.txt")}
    )
    with running(served):
        yield served


@pytest.fixture
async def web(app_server: InterlockServer) -> Any:
    async with httpx.AsyncClient(base_url=app_server.url, timeout=30) as opened:
        yield opened


async def test_routes_of_a_project_come_first_except_before_the_health_check(web: httpx.AsyncClient) -> None:
    assert (await web.get("/threads/custom")).json() == {"served": "by the project"}
    assert (await web.get("/ok")).json()["ok"] is True
    assert (await web.post("/assistants/search", json={})).status_code == 200


async def test_a_route_for_every_path_leaves_the_api_alone(
    web: httpx.AsyncClient, app_server: InterlockServer
) -> None:
    assert (await web.get("/some/page")).json() == {"anything": "some/page"}
    async with get_client(url=app_server.url, api_key=None) as client:
        thread = await client.threads.create()
        assert (await client.threads.get(thread["thread_id"]))["status"] == "idle"
        answer = await client.runs.wait(thread["thread_id"], "echo", input={"text": "hi"})
        assert isinstance(answer, dict)
        assert answer["text"] == "hi"


async def test_a_route_with_a_slash_at_its_end_is_served(web: httpx.AsyncClient) -> None:
    assert (await web.get("/slash/")).json() == {"url": "/slash/"}


async def test_middleware_of_a_project_wraps_the_api_too(web: httpx.AsyncClient) -> None:
    for path in ("/threads/custom", "/info"):
        assert (await web.get(path)).headers["x-stamped"] == "yes"


async def test_lifespan_of_a_project_surrounds_the_server(serve: Serve, tmp_path: Path) -> None:
    served = serve(http={})
    async with httpx.AsyncClient(base_url=served.url, timeout=30) as web:
        assert (await web.get("/opened")).json() == {"app": "opened", "request": "lent"}
    assert (tmp_path / "notes.txt").read_text() == "up\n"
    assert served.terminate() == 0
    assert (tmp_path / "notes.txt").read_text() == "up\ndown\n"


async def test_a_lifespan_that_fails_refuses_the_start_and_says_why(serve: Serve) -> None:
    served = serve(http={}, wait=False, env={"APP_FAILS": "1"})
    assert served.process is not None
    assert served.process.wait(60) != 0
    assert "the ledger is locked" in served.log
    assert "http.app" in served.log


@pytest.mark.parametrize(
    ("spec", "word"),
    [("./web.py:missing", "missing"), ("./web.py:gate", "Event"), ("./nowhere.py:app", "nowhere.py")],
)
async def test_an_app_that_is_none_refuses_the_start_and_is_named(serve: Serve, spec: str, word: str) -> None:
    served = serve(http={"app": spec}, wait=False)
    assert served.process is not None
    assert served.process.wait(60) == 1
    assert "`http.app`" in served.log
    assert word in served.log
    assert "Traceback" not in served.log


async def test_a_crash_in_a_route_is_a_500_and_hurts_nobody_else(
    web: httpx.AsyncClient, app_server: InterlockServer, until: Callable[..., Any]
) -> None:
    crashed = await web.get("/crash")
    assert crashed.status_code == 500
    assert crashed.json() == {"detail": "Internal Server Error", "code": "internal_error"}
    assert "secret of the project" not in crashed.text
    await until(lambda: "secret of the project" in app_server.log)
    with pytest.raises(httpx.RemoteProtocolError):
        await web.get("/crash-midway")
    assert (await web.get("/info")).status_code == 200


async def test_a_stream_of_a_project_arrives_as_it_is_made(web: httpx.AsyncClient) -> None:
    async with web.stream("GET", "/parts") as response:
        parts = response.aiter_raw()
        assert await anext(parts) == b"first"
        await web.get("/open-gate")
        assert b"".join([part async for part in parts]) == b"second"


async def test_web_sockets_of_a_project_are_served(app_server: InterlockServer) -> None:
    async with connect(f"ws://127.0.0.1:{app_server.port}/talk") as socket:
        await socket.send("hello")
        assert await socket.recv() == "heard hello"


async def test_the_description_includes_the_routes_of_a_project(web: httpx.AsyncClient) -> None:
    description = (await web.get("/openapi.json")).json()
    assert {"/threads/custom", "/problems", "/threads/{thread_id}/runs"} <= description["paths"].keys()
    body = description["paths"]["/problems"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = description["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert "severity" in schema["properties"]
    assert "detail" in description["components"]["schemas"]["Problem"]["properties"]
    assert "/problems" in (await web.get("/docs")).text


async def test_routes_of_a_project_are_below_the_mount_prefix(serve: Serve) -> None:
    served = serve(http={"mount_prefix": "/pfx"})
    async with httpx.AsyncClient(base_url=served.url, timeout=30) as web:
        assert (await web.get("/pfx/threads/custom")).json() == {"served": "by the project"}
        assert (await web.get("/pfx/slash/")).json() == {"url": "/pfx/slash/"}
        assert (await web.get("/threads/custom")).status_code == 404
        assert (await web.get("/ok")).json()["ok"] is True
        created = await web.post("/pfx/runs/wait", json={"assistant_id": "echo", "input": {}})
        assert created.headers["location"].startswith("/pfx/threads/")
        assert created.headers["content-location"].startswith("/pfx/threads/")
        async with connect(f"ws://127.0.0.1:{served.port}/pfx/talk") as socket:
            await socket.send("hello")
            assert await socket.recv() == "heard hello"


@pytest.mark.parametrize("order", ["middleware_first", "auth_first"])
async def test_the_order_of_authentication_and_middleware_is_a_setting(serve: Serve, order: str) -> None:
    served = serve(http={"middleware_order": order}, toml=KEYS)
    async with httpx.AsyncClient(base_url=served.url, timeout=30) as web:
        refused = await web.post("/threads/search", json={})
        assert refused.status_code == 401
        assert ("x-stamped" in refused.headers) == (order == "middleware_first")
        assert (await web.post("/threads/search", json={}, headers=ANN)).headers["x-stamped"] == "yes"
        for open_path in ("/info", "/threads/custom", "/console/"):
            assert (await web.get(open_path)).status_code == 200


@pytest.mark.parametrize("order", ["middleware_first", "auth_first"])
async def test_routes_of_a_project_ask_for_credentials_when_told_so(serve: Serve, order: str) -> None:
    served = serve(http={"enable_custom_route_auth": True, "middleware_order": order}, toml=KEYS)
    async with httpx.AsyncClient(base_url=served.url, timeout=30) as web:
        for headers in ({}, {"x-api-key": "wrong"}):
            assert (await web.get("/threads/custom", headers=headers)).status_code == 401
        assert (await web.get("/who", headers=ANN)).json() == {"identity": "ann"}
        assert (await web.get("/ok")).status_code == 200
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{served.port}/talk"):
                pass
        assert refused.value.response.status_code == 401
        async with connect(f"ws://127.0.0.1:{served.port}/talk", additional_headers=ANN) as socket:
            await socket.send("hello")
            assert await socket.recv() == "heard hello"
