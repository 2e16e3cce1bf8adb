"""What really comes over the wire, below the SDK: SSE frames with their ids and comments.

And what the SDK says of a run, as conditions to wait for; and what only the database tells.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

import httpx
import psycopg
from langgraph_sdk.client import LangGraphClient

_PATIENCE_S = 60
"""A stream that should end and does not would go on for ever: its heartbeats keep it alive."""


class Frame(NamedTuple):
    """One frame as it was sent."""

    event: str | None
    """None for a comment."""
    data: Any
    """The decoded JSON, or the text of a comment."""
    id: str | None


def parse(block: bytes) -> Frame:
    """Read one frame, and insist on the grammar that clients expect: one line of data, then the id.

    Raises:
        AssertionError: the frame has another shape.
    """
    lines = block.decode().split("\r\n")
    assert all("\n" not in line for line in lines), f"a line does not end with CRLF: {block!r}"
    if lines[0].startswith(":"):
        return Frame(None, lines[0][1:].strip(), None)
    fields = [line.split(": ", 1) for line in lines]
    names = [field[0] for field in fields]
    assert names in (["event", "data"], ["event", "data", "id"]), f"not a frame: {block!r}"
    values = [field[1] for field in fields]
    return Frame(values[0], json.loads(values[1]), values[2] if len(values) == 3 else None)


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """Every frame of a response, comments too, as they arrive."""
    assert response.status_code == 200, await response.aread()
    assert response.headers["content-type"].startswith("text/event-stream")
    rest = b""
    async for piece in response.aiter_raw():
        rest += piece
        *blocks, rest = rest.split(b"\r\n\r\n")
        for block in blocks:
            if block:
                yield parse(block)
    assert not rest, f"the stream broke off inside a frame: {rest[-200:]!r}"


async def read_events(
    http: httpx.AsyncClient, url: str, *, after: str | None = None, limit: int | None = None, **params: Any
) -> list[Frame]:
    """The events of a GET stream, to its end or to `limit`; comments left out."""
    headers = {} if after is None else {"Last-Event-ID": after}
    found: list[Frame] = []
    async with (
        asyncio.timeout(_PATIENCE_S),
        http.stream("GET", url, headers=headers, params=params) as response,
    ):
        async for frame in frames(response):
            if frame.event is not None:
                found.append(frame)
                if limit is not None and len(found) >= limit:
                    break
    return found


async def post_events(http: httpx.AsyncClient, url: str, body: dict[str, Any]) -> list[Frame]:
    """The events of a POST stream, to its end."""
    async with asyncio.timeout(_PATIENCE_S), http.stream("POST", url, json=body) as response:
        return [frame async for frame in frames(response) if frame.event is not None]


async def is_running(client: LangGraphClient, thread: str, run: str) -> bool:
    return (await client.runs.get(thread, run))["status"] == "running"


async def is_settled(client: LangGraphClient, thread: str) -> bool:
    return (await client.threads.get(thread))["status"] != "busy"


def broken_off(database_url: str, run_ids: Iterable[str]) -> dict[str, int]:
    """How often each run lost its worker without an answer; runs that never did are left out."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT run_id::text, crashes FROM interlock.runs WHERE run_id = ANY(%s::uuid[]) AND crashes > 0",
            (list(run_ids),),
        )
        return dict(rows.fetchall())
