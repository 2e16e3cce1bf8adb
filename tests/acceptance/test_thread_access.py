"""Who gets at the event stream of a thread, by every way to it; a stranger cannot tell what there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from ..servers import InterlockServer
from .conftest import ANN, BOB, KEYS, Serve
from .protocol import is_end, read, send

SUBSCRIBE = {"id": 1, "method": "subscription.subscribe", "params": {"channels": ["lifecycle", "values"]}}
WEAK = """
[[auth.api_keys]]
name = "cleo"
sha256 = "a2e8c94547f1fc85279bb99fbe1bb4e3a4248489466052dd98d624565a5552cf"
tenant = "acme"
subject = "cleo"
permissions = ["store.read"]
"""


def address(served: InterlockServer, thread: str, query: str = "") -> str:
    return f"ws://127.0.0.1:{served.port}/threads/{thread}/stream/events{query}"


async def answers(
    served: InterlockServer,
    thread: str,
    commands: Sequence[dict[str, Any]],
    *,
    query: str = "",
    **how: Any,
) -> list[dict[str, Any]]:
    """What a socket tells up to the answer to the last of some commands."""
    told: list[dict[str, Any]] = []
    async with connect(address(served, thread, query), **how) as socket:
        for command in commands:
            await socket.send(json.dumps(command))
        async with asyncio.timeout(60):
            while not told or told[-1].get("id") != commands[-1]["id"]:
                told.append(json.loads(await socket.recv()))
    return told


async def refusal(served: InterlockServer, thread: str, query: str = "", **how: Any) -> int:
    """The code with which a socket is closed."""
    async with connect(address(served, thread, query), **how) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason
    return closed.value.rcvd.code


async def finished(http: httpx.AsyncClient, headers: dict[str, str]) -> str:
    """A thread on which a run has ended."""
    thread = str(uuid4())
    body = {"id": 1, "method": "run.start", "params": {"assistant_id": "echo", "input": {"text": "hi"}}}
    answer = await http.post(f"/threads/{thread}/commands", json=body, headers=headers)
    assert answer.json()["type"] == "success", answer.text
    await read(http, thread, is_end, headers=headers)
    return thread


async def test_a_thread_of_another_tenant_looks_like_one_that_is_not_there(serve: Serve) -> None:
    """By commands, server-sent events and WebSocket: the same answers, and no event."""
    served = serve(toml=KEYS)
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        theirs, missing = await finished(http, ANN), str(uuid4())
        http.headers.update(BOB)
        commands: list[tuple[str, dict[str, Any]]] = [
            ("agent.getTree", {}),
            ("state.get", {"namespace": []}),
            ("state.listCheckpoints", {"limit": 5}),
            ("state.fork", {"checkpoint_id": str(uuid4())}),
            ("input.respond", {"namespace": [], "interrupt_id": "x", "response": 1}),
            ("input.inject", {"namespace": [], "message": {"role": "user", "content": "hi"}}),
        ]
        sent = [{"id": n, "method": method, "params": given} for n, (method, given) in enumerate(commands, 2)]
        looks: list[list[Any]] = []
        for thread in (theirs, missing):
            told: list[Any] = [await send(http, thread, method, **given) for method, given in commands]
            told.append(await answers(served, thread, [SUBSCRIBE, *sent], additional_headers=BOB))
            looks.append(json.loads(json.dumps(told).replace(thread, "THREAD")))
        assert looks[0] == looks[1]
        # What Bob's own thread of that id shows is his alone, numbered from its own beginning.
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read(http, theirs, is_end))
            start = {"assistant_id": "echo", "input": {"text": "mine"}}
            assert (await send(http, theirs, "run.start", **start))["type"] == "success"
        assert [event["seq"] for event in reading.result()] == list(range(1, len(reading.result()) + 1))
        assert b"mine" in json.dumps(reading.result()).encode()
        assert '"hi"' not in json.dumps(reading.result())


async def test_the_key_of_a_socket_comes_by_header_query_or_subprotocol_and_into_no_log(serve: Serve) -> None:
    served = serve(toml=KEYS)
    offered = [Subprotocol("interlock"), Subprotocol("x-api-key.ann-key")]
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        thread = await finished(http, ANN)
    ways: list[dict[str, Any]] = [
        {"additional_headers": ANN},
        {"additional_headers": {"authorization": "Bearer ann-key"}},
        {"query": "?api_key=ann-key"},
        {"subprotocols": offered},
        {"subprotocols": offered[1:]},
    ]
    for way in ways:
        *events, answer = await answers(served, thread, [SUBSCRIBE], **way)
        assert answer["type"] == "success", way
        assert is_end(events[-1]) or is_end(events[-2])
    async with connect(address(served, thread), subprotocols=offered) as socket:
        assert socket.subprotocol == "interlock"
    assert "ann-key" not in served.log


async def test_sockets_are_refused_by_the_code_of_their_fault(serve: Serve) -> None:
    served = serve(toml=KEYS + WEAK)
    thread = str(uuid4())
    assert await refusal(served, thread) == 4401
    assert await refusal(served, thread, additional_headers={"x-api-key": "wrong"}) == 4401
    assert await refusal(served, thread, "?api_key=wrong") == 4401
    assert await refusal(served, thread, subprotocols=[Subprotocol("x-api-key.wrong")]) == 4401
    assert await refusal(served, "no-uuid", additional_headers=ANN) == 4422
    # Who may not come in is not told what is wrong with the rest.
    assert await refusal(served, "no-uuid") == 4401
    assert await refusal(served, thread, additional_headers={"x-api-key": "cleo-key"}) == 4403
    page = "https://elsewhere.example"
    closed = serve(toml=KEYS, http={"cors": {"allow_origins": ["https://app.example"]}})
    assert await refusal(closed, thread, additional_headers=ANN, origin=page) == 4403
    [answer] = await answers(
        closed, thread, [SUBSCRIBE], additional_headers=ANN, origin="https://app.example"
    )
    assert answer["type"] == "success"
