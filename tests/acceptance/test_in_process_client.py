"""`get_client()` of the official SDK without a url, in graphs and routes: this server, no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from ..servers import PROJECT_APP, InterlockServer, prepare, running
from .conftest import ANN, BOB, KEYS, Serve


@pytest.fixture(scope="module")
def one_slot(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InterlockServer]:
    """The project on a server that runs one run at a time."""
    folder = tmp_path_factory.mktemp("inside")
    env = {"APP_NOTES": str(folder / "notes.txt"), "N_JOBS_PER_WORKER": "1"}
    served = prepare(module_database_url, folder, project=PROJECT_APP, env=env)
    with running(served):
        yield served


@pytest.fixture
async def inner(one_slot: InterlockServer) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=one_slot.url, api_key=None) as opened:
        yield opened


async def asked(client: LangGraphClient, ask: str, **state: Any) -> Any:
    answer = await asyncio.wait_for(client.runs.wait(None, "inside", input={"ask": ask, **state}), 120)
    assert isinstance(answer, dict)
    return answer["found"]


async def test_a_node_waits_for_another_run_though_every_slot_is_taken(inner: LangGraphClient) -> None:
    assert (await asked(inner, "wait"))["text"] == "from inside"
    assert await asked(inner, "nested", depth=4) == 4


async def test_a_node_reads_a_stream_as_it_is_made(inner: LangGraphClient) -> None:
    assert await asked(inner, "stream") == ["first", "second"]


async def test_a_run_that_a_node_no_longer_reads_is_stopped(
    inner: LangGraphClient, until: Callable[..., Any]
) -> None:
    thread = await asked(inner, "leave")

    async def stopped() -> bool:
        return (await inner.runs.list(thread))[0]["status"] == "interrupted"

    await until(stopped, deadline_s=60)


async def test_a_run_that_would_wait_for_itself_is_told_so(inner: LangGraphClient) -> None:
    thread = (await inner.threads.create())["thread_id"]
    answer = await asyncio.wait_for(inner.runs.wait(thread, "inside", input={"ask": "itself"}), 120)
    assert isinstance(answer, dict)
    assert "would wait for itself" in answer["found"]
    assert len(await inner.runs.list(thread)) == 1


async def test_remote_graphs_threads_and_other_loops_reach_the_server(inner: LangGraphClient) -> None:
    assert (await asked(inner, "remote"))["text"] == "far"
    assert await asked(inner, "threaded") == ["sync", "other loop"]


async def test_the_cache_of_the_sdk_works_in_nodes(inner: LangGraphClient) -> None:
    assert await asked(inner, "cached") == [{"a": 1}, None, "miss", "stale", "loaded"]


async def test_routes_reach_the_server_and_nobody_outside_gets_in_as_they_do(serve: Serve) -> None:
    served = serve(http={"enable_custom_route_auth": True, "mount_prefix": "/pfx"}, toml=KEYS)
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as web:
        made = (await web.post("/pfx/inside", headers=ANN)).json()["thread_id"]
        assert (await web.get(f"/pfx/threads/{made}", headers=ANN)).status_code == 200
        assert (await web.get(f"/pfx/threads/{made}", headers=BOB)).status_code == 404
        forged = {"interlock.principal": "ann", "root_path": "/noauth", "x-forwarded-prefix": "/noauth"}
        for path in (f"/pfx/threads/{made}", f"/noauth/threads/{made}", f"/noauth/pfx/threads/{made}"):
            assert (await web.get(path, headers=forged)).status_code in (401, 404)
        assert (await web.get(f"/pfx/threads/{made}", headers=forged)).status_code == 401


async def test_a_node_acts_for_whom_its_run_does_and_sees_no_other_tenant(serve: Serve) -> None:
    served = serve(toml=KEYS)
    async with (
        get_client(url=served.url, api_key="ann-key") as ann,
        get_client(url=served.url, api_key="bob-key") as bob,
    ):
        for own, other in ((ann, bob), (bob, ann)):
            thread = await asked(own, "thread")
            assert (await own.threads.get(thread))["thread_id"] == thread
            assert thread not in {found["thread_id"] for found in await other.threads.search(limit=100)}


async def test_a_thread_that_a_node_makes_itself_acts_for_nobody_unless_it_is_told(serve: Serve) -> None:
    served = serve(toml=KEYS)
    async with get_client(url=served.url, api_key="ann-key") as ann:
        alone, told = await asked(ann, "loose")
        assert "for whom" in alone
        assert (await ann.threads.get(told))["thread_id"] == told


async def test_code_of_a_project_that_works_for_nobody_acts_as_the_server(serve: Serve) -> None:
    served = serve(http={}, toml=KEYS)
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as web:
        assert (await web.get("/met-at-start")).json() == ["echo", "gated", "inside"]
        assert (await web.post("/inside")).json()["status"] == "idle"


async def test_a_worker_without_an_api_serves_its_own_nodes(serve: Serve) -> None:
    api = serve("serve")
    worker = serve("work", env={"N_JOBS_PER_WORKER": "1"})
    async with get_client(url=api.url, api_key=None) as client:
        assert await asked(client, "nested", depth=2) == 2
        assert await asked(client, "stream") == ["first", "second"]
    assert worker.terminate() == 0
