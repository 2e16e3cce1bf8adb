"""The thread protocol over a WebSocket, by a bare client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ..servers import InterlockServer
from .protocol import check, is_end, read, start

HI = {"messages": [{"role": "user", "content": "hi"}]}


def address(server: InterlockServer, thread: str) -> str:
    return f"ws://127.0.0.1:{server.port}/threads/{thread}/stream/events"


async def command(socket: ClientConnection, number: int, method: str, **params: Any) -> list[dict[str, Any]]:
    """Send a command; what came up to its answer, which is the last."""
    await socket.send(json.dumps({"id": number, "method": method, "params": params}))
    came: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not came or came[-1].get("id") != number:
            came.append(json.loads(await socket.recv()))
    return came


async def events(socket: ClientConnection) -> list[dict[str, Any]]:
    """The events up to the end of a run."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not found or not is_end(found[-1]):
            found.append(check(json.loads(await socket.recv())))
    return found


async def test_a_socket_attaches_before_its_thread_exists_and_shows_what_sse_shows(
    server: InterlockServer, http: httpx.AsyncClient
) -> None:
    thread = str(uuid4())
    channels = ["values", "messages", "lifecycle", "checkpoints"]
    async with connect(address(server, thread)) as socket:
        [subscribed] = await command(socket, 1, "subscription.subscribe", channels=channels)
        assert subscribed["result"]["replayed_events"] == 0
        [started] = [
            one
            for one in await command(socket, 2, "run.start", assistant_id="chat", input=HI)
            if one["type"] == "success"
        ]
        assert started["result"]["run_id"]
        await read(http, thread, is_end)
    async with connect(address(server, thread)) as socket:
        *replayed, answer = await command(socket, 3, "subscription.subscribe", channels=channels)
        assert answer["result"]["replayed_events"] == len(replayed)
        assert answer["meta"]["applied_through_seq"] == replayed[-1]["seq"]
        assert replayed == await read(http, thread, is_end, channels=channels)
        run = await command(socket, 4, "run.start", assistant_id="chat", input=HI)
        live = [one for one in run if one["type"] == "event"]
        if not live or not is_end(live[-1]):
            live += await events(socket)
        assert live == await read(http, thread, is_end, channels=channels, since=replayed[-1]["seq"])


async def test_two_subscriptions_bring_an_event_once(
    server: InterlockServer, http: httpx.AsyncClient
) -> None:
    thread = str(uuid4())
    async with connect(address(server, thread)) as socket:
        [one] = await command(socket, 1, "subscription.subscribe", channels=["lifecycle", "values"])
        [two] = await command(socket, 2, "subscription.subscribe", channels=["lifecycle", "custom"])
        await start(http, thread, "slow", {"steps": 2})
        came = await events(socket)
        assert len({event["event_id"] for event in came}) == len(came)
        assert {event["method"] for event in came} == {"lifecycle", "values", "custom"}
        name = two["result"]["subscription_id"]
        [gone] = await command(socket, 3, "subscription.unsubscribe", subscription_id=name)
        assert gone["result"] == {}
        [again] = await command(socket, 4, "subscription.unsubscribe", subscription_id=name)
        assert again["error"] == "no_such_subscription"
        run = came[0]["event_id"].split(":")[1]
        mine = [one["result"]["subscription_id"]]
        *missed, back = await command(
            socket, 5, "subscription.reconnect", run_id=run, subscriptions=mine, last_event_id="1"
        )
        assert back["result"] == {"restored": True, "missed_events": len(missed)}
        assert [m["seq"] for m in missed] == [
            e["seq"] for e in came if e["method"] != "custom" and e["seq"] > 1
        ]
        [lost] = await command(
            socket, 6, "subscription.reconnect", run_id=run, subscriptions=["subscription-77"]
        )
        assert lost["result"]["restored"] is False
        [nobody] = await command(socket, 7, "subscription.reconnect", run_id=str(uuid4()))
        assert nobody["error"] == "no_such_run"


async def test_hostile_frames_are_refused_and_the_connection_lives(server: InterlockServer) -> None:
    async with connect(address(server, str(uuid4()))) as socket:
        for frame in ("", "{", "[]", "null", '{"id":"x"}', "[" * 100_000, b"\xff\xfe", '{"id":1}'):
            await socket.send(frame)
            answer = json.loads(await asyncio.wait_for(socket.recv(), 60))
            assert answer["type"] == "error"
            assert answer["error"] == "invalid_argument"
            assert answer["id"] is None
        [answer] = await command(socket, 9, "subscription.subscribe", channels=[])
        assert answer["error"] == "invalid_argument"
        [answer] = await command(socket, 10, "agent.getTree")
        assert answer["error"] == "no_such_run"


async def test_no_uuid_closes_as_422(server: InterlockServer) -> None:
    async with connect(address(server, "no-uuid")) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4422


async def test_a_deleted_thread_closes_its_socket_in_good_order(
    server: InterlockServer, http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    thread = str(uuid4())
    await start(http, thread, "chat", HI)
    await read(http, thread, is_end)
    async with connect(address(server, thread)) as socket:
        await command(socket, 1, "subscription.subscribe", channels=["lifecycle"])
        await client.threads.delete(thread)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000


async def test_frames_beyond_the_limit_close_their_own_socket_and_no_other(
    interlock_server: Callable[..., InterlockServer],
) -> None:
    served = interlock_server(env={"INTERLOCK_HTTP_MAX_BODY_BYTES": "65536"})
    thread = str(uuid4())
    async with connect(address(served, thread)) as other:
        await command(other, 1, "subscription.subscribe", channels=["lifecycle"])
        for frame in ("x" * 70_000, b"\0" * 70_000, ["x" * 40_000, "y" * 40_000]):
            async with connect(address(served, thread)) as socket:
                with contextlib.suppress(ConnectionClosed):
                    await socket.send(frame)
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(socket.recv(), 60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        await command(other, 2, "run.start", assistant_id="chat", input=HI)
        assert (await events(other))[-1]["method"] == "lifecycle"


async def test_subscriptions_of_a_connection_have_a_limit(server: InterlockServer) -> None:
    async with connect(address(server, str(uuid4()))) as socket:
        for number in range(100):
            [one] = await command(socket, number, "subscription.subscribe", channels=["lifecycle"])
            assert one["type"] == "success"
        [more] = await command(socket, 100, "subscription.subscribe", channels=["lifecycle"])
        assert more["error"] == "invalid_argument"
        name = one["result"]["subscription_id"]
        await command(socket, 101, "subscription.unsubscribe", subscription_id=name)
        [again] = await command(socket, 102, "subscription.subscribe", channels=["lifecycle"])
        assert again["type"] == "success"


async def test_namespaces_of_a_connection_have_a_limit(server: InterlockServer) -> None:
    many = [[f"node:{number}"] for number in range(600)]
    async with connect(address(server, str(uuid4()))) as socket:
        [one] = await command(
            socket, 1, "subscription.subscribe", channels=["lifecycle"], namespaces=many[:400]
        )
        assert one["type"] == "success"
        asked: dict[str, Any] = {"channels": ["lifecycle"], "namespaces": [*many, ["node"]]}
        [more] = await command(socket, 2, "subscription.subscribe", **asked)
        assert more["error"] == "invalid_argument"
        assert "1000 `namespaces` at most, not 1001" in more["message"]
        await command(socket, 3, "subscription.unsubscribe", subscription_id=one["result"]["subscription_id"])
        [again] = await command(socket, 4, "subscription.subscribe", **asked)
        assert again["type"] == "success"


async def test_a_reader_that_takes_nothing_is_disconnected_and_goes_on_where_it_was(
    interlock_server: Callable[..., InterlockServer], until: Callable[..., Awaitable[Any]]
) -> None:
    """The server is done with it before it takes anything: that it was too slow may never reach it."""
    served = interlock_server(env={"INTERLOCK_HTTP_SEND_TIMEOUT_S": "0.5"})
    thread = str(uuid4())
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        given = {"messages": [], "events": 300, "width": 100_000}
        await start(http, thread, "big", given)
        whole = [event["seq"] for event in await read(http, thread, is_end, channels=["custom", "lifecycle"])]
    subscribe = {"channels": ["custom", "lifecycle"]}
    seen: list[int] = []
    async with connect(address(served, thread), max_queue=1, compression=None) as socket:
        params = {"id": 1, "method": "subscription.subscribe", "params": subscribe}
        await socket.send(json.dumps(params))
        await until(lambda: "stuck_reader_disconnected" in served.log, deadline_s=60)
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(60):
                while True:
                    seen.append(json.loads(await socket.recv())["seq"])
    assert socket.close_code in (1006, 4408), "a code that clients come back after"
    assert 0 < len(seen) < len(whole)
    async with connect(address(served, thread), compression=None) as socket:
        *rest, _ = await command(socket, 2, "subscription.subscribe", **subscribe, since=seen[-1])
    assert seen + [event["seq"] for event in rest] == whole
