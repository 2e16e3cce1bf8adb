"""The thread protocol as a bare client speaks it, and what every event of it has to look like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import langchain_protocol as wire
from pydantic import TypeAdapter

CHANNELS = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]
DATA: dict[str, Any] = {
    "lifecycle": wire.LifecycleData,
    "messages": wire.MessagesData,
    "tools": wire.ToolsData,
    "input.requested": wire.InputRequestedData,
    "updates": wire.UpdatesData,
    "checkpoints": wire.Checkpoint,
    "custom": wire.CustomData,
    "values": dict[str, Any],
    "tasks": dict[str, Any],
}
"""Type of `params.data` by method."""
RESULTS: dict[str, Any] = {
    "run.start": wire.RunResult,
    "agent.getTree": wire.AgentResult,
    "state.get": wire.StateGetResult,
    "state.listCheckpoints": wire.ListCheckpointsResult,
    "state.fork": wire.StateForkResult,
    "subscription.subscribe": wire.SubscribeResult,
    "subscription.reconnect": wire.ReconnectResult,
}
_adapters: dict[str, TypeAdapter[Any]] = {}
_PATIENCE_S = 60

Event = dict[str, Any]
Stop = Callable[[Event], bool]


def check(event: Event) -> Event:
    """Hold an event against the types of the protocol."""
    _as(event, "event", wire.Event)
    assert isinstance(event["seq"], int)
    assert event["event_id"]
    assert isinstance(event["params"]["namespace"], list)
    assert isinstance(event["params"]["timestamp"], int)
    _as(event["params"]["data"], event["method"], DATA[event["method"]])
    return event


def _as(value: Any, name: str, kind: Any) -> None:
    if name not in _adapters:
        _adapters[name] = TypeAdapter(kind)
    _adapters[name].validate_python(value)


def is_end(event: Event) -> bool:
    """Whether this ends a run."""
    path, told = event["params"]["namespace"], event["params"]["data"]
    ends = {"completed", "failed", "interrupted"}
    return event["method"] == "lifecycle" and not path and told["event"] in ends


def ends(runs: int) -> Stop:
    """True for the event that ends the last of so many runs."""
    left = runs

    def stop(event: Event) -> bool:
        nonlocal left
        left -= is_end(event)
        return left == 0

    return stop


async def send(http: httpx.AsyncClient, thread: str, method: str, **params: Any) -> dict[str, Any]:
    """Send a command over HTTP; its answer, checked."""
    answer = await http.post(
        f"/threads/{thread}/commands", json={"id": 7, "method": method, "params": params}
    )
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["id"] == 7
    if told["type"] == "success":
        _as(told, "success", wire.CommandResponse)
        if method in RESULTS:
            _as(told["result"], method, RESULTS[method])
    else:
        _as(told, "error", wire.ErrorResponse)
    return told


async def start(http: httpx.AsyncClient, thread: str, graph: str, given: Any, **more: Any) -> str:
    """Start a run; its id."""
    told = await send(http, thread, "run.start", assistant_id=graph, input=given, **more)
    assert told["type"] == "success", told
    return told["result"]["run_id"]


async def read(
    http: httpx.AsyncClient,
    thread: str,
    until: Stop,
    *,
    channels: Sequence[str] = CHANNELS,
    headers: dict[str, str] | None = None,
    **wanted: Any,
) -> list[Event]:
    """The events of a thread over SSE, up to the one that `until` names, each checked."""
    found: list[Event] = []
    body = {"channels": list(channels), **wanted}
    async with (
        asyncio.timeout(_PATIENCE_S),
        http.stream("POST", f"/threads/{thread}/stream/events", json=body, headers=headers or {}) as response,
    ):
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(check(json.loads(line[6:])))
                if until(found[-1]):
                    return found
    return found
