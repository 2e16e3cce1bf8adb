"""A user interface has no way back to a run that it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from langgraph_sdk.client import LangGraphClient


async def test_an_interface_that_leaves_stops_its_run(
    http: httpx.AsyncClient, client: LangGraphClient, until: Callable[..., Any]
) -> None:
    thread = str(uuid4())
    message = {"id": "m", "role": "user", "content": "hello"}
    body = {"threadId": thread, "runId": "r", "messages": [message]}
    async with http.stream("POST", "/ag-ui/never", json=body) as response:
        async for line in response.aiter_lines():
            if "TOOL_CALL_END" in line or "STATE_SNAPSHOT" in line:
                break

    async def stopped() -> bool:
        return [run["status"] for run in await client.runs.list(thread)] == ["interrupted"]

    await until(stopped, deadline_s=60)
