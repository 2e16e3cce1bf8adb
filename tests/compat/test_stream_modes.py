"""Every stream mode, read by three official clients, against one recording each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.schema import StreamMode

from ..servers import InterlockServer
from .recordings import agree

CASES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "cases.json").read_text())
MODES: list[StreamMode] = [
    "values",
    "updates",
    "messages",
    "messages-tuple",
    "tasks",
    "checkpoints",
    "debug",
    "events",
    "custom",
]
Streams = dict[str, list[list[Any]]]


def mode_lists(case: dict[str, Any]) -> list[list[StreamMode]]:
    return [[mode] for mode in MODES] if case["modes"] == "each" else case["modes"]


async def by_async_client(url: str, case: dict[str, Any]) -> Streams:
    found: Streams = {}
    async with get_client(url=url, api_key=None) as client:
        for modes in mode_lists(case):
            thread = (await client.threads.create())["thread_id"]
            if "before" in case:
                await client.runs.wait(thread, case["graph"], **case["before"])
            stream = client.runs.stream(thread, case["graph"], stream_mode=modes, **case["run"])
            found[" ".join(modes)] = [[part.event, part.data] async for part in stream]
    return found


def by_sync_client(url: str, case: dict[str, Any]) -> Streams:
    found: Streams = {}
    with get_sync_client(url=url, api_key=None) as client:
        for modes in mode_lists(case):
            thread = client.threads.create()["thread_id"]
            if "before" in case:
                client.runs.wait(thread, case["graph"], **case["before"])
            stream = client.runs.stream(thread, case["graph"], stream_mode=modes, **case["run"])
            found[" ".join(modes)] = [[part.event, part.data] for part in stream]
    return found


@pytest.mark.parametrize("name", CASES)
async def test_async_client_reads_every_mode_as_recorded(server: InterlockServer, name: str) -> None:
    agree(f"stream-{name}", await by_async_client(server.url, CASES[name]), may_record=True)


@pytest.mark.parametrize("name", CASES)
def test_sync_client_reads_every_mode_as_recorded(server: InterlockServer, name: str) -> None:
    agree(f"stream-{name}", by_sync_client(server.url, CASES[name]))


def test_javascript_client_reads_every_mode_as_recorded(
    server: InterlockServer, javascript: Callable[..., Any]
) -> None:
    asked = {name: case | {"modes": mode_lists(case)} for name, case in CASES.items()}
    found: dict[str, Streams] = javascript("streams.mjs", server.url, asked)
    assert list(found) == list(CASES)
    for name, streams in found.items():
        agree(f"stream-{name}", streams)
