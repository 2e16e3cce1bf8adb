"""Tasks of A2A outlive whoever asked for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from langgraph_sdk.client import LangGraphClient


async def test_a_client_that_leaves_stops_no_task(
    http: httpx.AsyncClient, client: LangGraphClient, until: Callable[..., Any]
) -> None:
    parts = [{"kind": "data", "data": {"steps": 4, "seconds": 0.5}}]
    message = {"messageId": "m", "role": "user", "parts": parts}
    call = {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": message}}
    async with http.stream("POST", "/a2a/slow", json=call) as response:
        thread = ""
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                thread = line.partition('"contextId":"')[2].partition('"')[0]
                break

    async def ended() -> bool:
        return [run["status"] for run in await client.runs.list(thread)] == ["success"]

    await until(ended, deadline_s=60)
