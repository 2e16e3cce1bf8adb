"""The `Auth` object of a project under real processes, by the official client and bare sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ..servers import GUARDED, InterlockServer

Until = Callable[..., Awaitable[Any]]
CHANNELS = {"channels": ["values", "lifecycle"]}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where the project notes each time that it is loaded."""
    return tmp_path / "notes"


@pytest.fixture
def guarded(interlock_server: Callable[..., InterlockServer], notes: Path) -> InterlockServer:
    """A server of the guarded project, which this test may kill."""
    return interlock_server("dev", project=GUARDED, env={"AUTH_NOTES": str(notes)})


def headers_of(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer acme:{name}"}


@pytest.fixture
async def clients(guarded: InterlockServer) -> AsyncIterator[tuple[LangGraphClient, LangGraphClient]]:
    """Official clients of two users of one tenant."""
    alice, bob = (
        get_client(url=guarded.url, api_key=None, headers=headers_of(name)) for name in ("alice", "bob")
    )
    yield alice, bob
    await alice.aclose()
    await bob.aclose()


async def test_the_official_client_is_held_to_its_user_and_the_object_is_loaded_once(
    clients: tuple[LangGraphClient, LangGraphClient], notes: Path
) -> None:
    """O50: counted by the module of the project itself, over many requests."""
    alice, bob = clients
    thread = await alice.threads.create()
    ended = await alice.runs.wait(thread["thread_id"], "who", input={})
    assert ended["told"]["identity"] == "alice"
    parts = [part async for part in alice.runs.stream(thread["thread_id"], "who", input={})]
    assert parts[-1].data["told"]["identity"] == "alice"
    assert await bob.threads.search() == []
    for refused in (bob.threads.get(thread["thread_id"]), bob.runs.list(thread["thread_id"])):
        with pytest.raises(NotFoundError):
            await refused
    await alice.store.put_item(["notes"], "k", {"a": 1})
    assert (await bob.store.search_items([]))["items"] == []
    assert loaded(notes) == 1


async def test_a_run_goes_on_for_its_user_after_the_server_was_killed(
    guarded: InterlockServer, clients: tuple[LangGraphClient, LangGraphClient]
) -> None:
    """kill -9 while the run waits: whoever resumes it, its node still knows for whom it runs."""
    alice, _ = clients
    thread = (await alice.threads.create())["thread_id"]
    await alice.runs.wait(thread, "who", input={"waits": True})
    guarded.kill()
    guarded.start()
    told = (await alice.runs.wait(thread, "who", command={"resume": "yes"}))["told"]
    assert (told["identity"], told["org"], told["token"]) == ("alice", "acme", "secret of alice")


async def test_a_run_that_was_cut_off_goes_on_for_its_user(
    guarded: InterlockServer, clients: tuple[LangGraphClient, LangGraphClient], until: Until
) -> None:
    """kill -9 with a run in the queue and one at work: both end, and only their user sees them."""
    alice, bob = clients
    thread = (await alice.threads.create())["thread_id"]
    first = await alice.runs.create(thread, "slow", input={"steps": 3, "delay": 0.2})
    second = await alice.runs.create(thread, "who", input={})
    guarded.kill()
    guarded.start()
    await alice.runs.join(thread, first["run_id"])
    ended: Any = await alice.runs.join(thread, second["run_id"])
    assert ended["told"]["token"] == "secret of alice"
    with pytest.raises(NotFoundError):
        await bob.runs.get(thread, second["run_id"])


def address(server: InterlockServer, thread: str, query: str = "") -> str:
    return f"ws://127.0.0.1:{server.port}/threads/{thread}/stream/events{query}"


async def next_text(socket: Any) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), 60))


def loaded(notes: Path) -> int:
    return notes.read_text().splitlines().count("loaded")


async def read_out(socket: Any) -> None:
    while True:
        await asyncio.wait_for(socket.recv(), 60)


async def closed_with(socket: Any) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        await read_out(socket)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


async def test_a_socket_takes_the_credential_of_a_header_a_query_or_a_subprotocol(
    guarded: InterlockServer, clients: tuple[LangGraphClient, LangGraphClient]
) -> None:
    alice, _ = clients
    thread = (await alice.threads.create())["thread_id"]
    await alice.runs.wait(thread, "who", input={})
    subscribe = json.dumps({"id": 1, "method": "subscription.subscribe", "params": CHANNELS})
    ways: list[tuple[str, dict[str, Any]]] = [
        ("", {"additional_headers": headers_of("alice")}),
        ("?api_key=acme:alice", {}),
    ]
    for query, options in ways:
        async with connect(address(guarded, thread, query), **options) as socket:
            await socket.send(subscribe)
            assert (await next_text(socket))["type"] == "event"
    # A name of a subprotocol has no colon: the handler finds no tenant and no name, and fails, but is asked.
    protocols: Any = ["interlock", "x-api-key.acme"]
    async with connect(address(guarded, thread), subprotocols=protocols) as socket:
        assert socket.subprotocol == "interlock"
        assert await closed_with(socket) == 4500
    async with connect(address(guarded, thread)) as socket:
        assert await closed_with(socket) == 4401
    async with connect(address(guarded, thread, "?api_key=acme:bob")) as socket:
        assert await closed_with(socket) == 4404


async def test_whoever_waits_for_a_thread_is_not_shown_what_somebody_else_makes_of_it(
    guarded: InterlockServer, clients: tuple[LangGraphClient, LangGraphClient]
) -> None:
    """A socket and a stream may come before their thread; the filter holds when it is there."""
    alice, bob = clients
    thread = str(uuid4())
    subscribe = json.dumps({"id": 1, "method": "subscription.subscribe", "params": CHANNELS})
    bobs = {"additional_headers": headers_of("bob")}
    async with (
        connect(address(guarded, thread), **bobs) as early,
        connect(address(guarded, thread), **bobs) as late,
    ):
        await early.send(subscribe)
        assert (await next_text(early))["type"] == "success"
        streamed = asyncio.create_task(
            bob.http.client.post(f"/threads/{thread}/stream/events", json=CHANNELS, timeout=60)
        )
        await asyncio.wait({streamed}, timeout=0.5)
        await alice.threads.create(thread_id=thread)
        await alice.runs.wait(thread, "who", input={})
        assert await closed_with(early) == 4404
        await late.send(subscribe)
        refused = await next_text(late)
        assert (refused["type"], refused["error"]) == ("error", "unknown_error")
        assert refused["message"].startswith("404")
        answer = await streamed
        assert (answer.status_code, "alice" in answer.text) in ((200, False), (404, False))
