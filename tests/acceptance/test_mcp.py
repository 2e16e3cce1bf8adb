"""Assistants as tools of MCP, for the official client of that protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from mcp import Client, MCPError

from ..servers import InterlockServer

Connect = Callable[[], Client]


@pytest.fixture
def connect(server: InterlockServer) -> Connect:
    """The client is opened by the test itself: the two halves of a fixture are not one task."""
    return lambda: Client(f"{server.url}/mcp")


def text(result: object) -> str:
    [content] = result.content  # type: ignore[attr-defined]
    return content.text


async def test_the_official_client_agrees_on_a_version_and_finds_a_tool_for_each_assistant(
    connect: Connect,
) -> None:
    async with connect() as mcp:
        assert mcp.server_info.name == "Interlock"
        assert mcp.protocol_version == "2025-11-25"
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        assert tools["chat"].description == "Streams the words of a fixed answer"
        assert tools["abc"].description == "Tool based on the abc assistant"
        assert tools["agent"].input_schema["properties"]["messages"]["type"] == "string"
        assert tools["agent"].input_schema["required"] == ["messages"]
        assert "$defs" not in tools["agent"].input_schema
        assert set(tools["slow"].input_schema["properties"]) == {"steps", "seconds", "events", "done"}


async def test_a_called_tool_answers_with_what_the_model_said_and_with_the_whole_state(
    connect: Connect,
) -> None:
    async with connect() as mcp:
        result = await mcp.call_tool("chat", {"messages": "Which lorry?"})
        assert not result.is_error
        assert text(result) == "Red lorry, yellow lorry."
        assert [m["type"] for m in result.structured_content["messages"]] == ["human", "ai"]


async def test_a_tool_without_messages_answers_with_its_state_as_json(connect: Connect) -> None:
    async with connect() as mcp:
        result = await mcp.call_tool("slow", {"steps": 2, "seconds": 0.01})
        assert result.structured_content["done"] == [1, 2]
        assert '"done":[1,2]' in text(result)


async def test_assistants_that_share_a_name_are_tools_with_names_of_their_own(
    connect: Connect, client: LangGraphClient
) -> None:
    async with connect() as mcp:
        name = f"Twice {uuid4().hex[:6]}"
        first = await client.assistants.create("chat", name=name, description="the first")
        second = await client.assistants.create("agent", name=name, description="the second")
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        plain = name.replace(" ", "_")
        other = f"{plain}_{second['assistant_id'].replace('-', '')[:8]}"
        assert tools[plain].description == "the first"
        assert tools[other].description == "the second"
        assert text(await mcp.call_tool(other, {"messages": "hello"})) == "Red lorry, yellow lorry."
        await client.assistants.delete(first["assistant_id"])
        await client.assistants.delete(second["assistant_id"])


async def test_a_run_that_fails_is_an_error_of_the_tool_that_names_the_exception(connect: Connect) -> None:
    async with connect() as mcp:
        result = await mcp.call_tool("err", {"own": True})
        assert result.is_error
        assert text(result) == "LorryError: no petrol left"


async def test_arguments_that_do_not_fit_are_an_error_of_the_tool_and_start_no_run(connect: Connect) -> None:
    async with connect() as mcp:
        result = await mcp.call_tool("chat", {"messages": 5})
        assert result.is_error
        assert "`messages`" in text(result)


async def test_unknown_tools_are_refused(connect: Connect) -> None:
    async with connect() as mcp:
        with pytest.raises(MCPError, match="Unknown tool: 'nope'") as refused:
            await mcp.call_tool("nope", {})
        assert refused.value.error.code == -32602


async def test_a_run_that_waits_tells_its_thread_which_is_kept_until_it_is_answered(
    connect: Connect, client: LangGraphClient
) -> None:
    async with connect() as mcp:
        result = await mcp.call_tool("hitl", {})
        assert not result.is_error
        waiting = result.structured_content
        assert waiting["status"] == "interrupted"
        assert waiting["interrupts"][0]["value"] == {"question": "go on?", "before": 1}
        assert "go on?" in text(result)
        assert waiting["thread_id"] in text(result)
        done = await client.runs.wait(waiting["thread_id"], "hitl", command={"resume": "yes"})
        assert done == {"before": 1, "answer": "yes", "after": 1}


async def test_a_run_that_ends_leaves_no_thread(connect: Connect, client: LangGraphClient) -> None:
    async with connect() as mcp:
        key = uuid4().hex
        assistant = await client.assistants.create("chat", name=f"Gone {key}", metadata={"key": key})
        await mcp.call_tool(f"Gone_{key}", {"messages": "hello"})
        assert await client.threads.search(metadata={"assistant_id": assistant["assistant_id"]}) == []
        await client.assistants.delete(assistant["assistant_id"])


async def test_a_client_that_leaves_stops_its_run(
    server: InterlockServer, client: LangGraphClient, until: object
) -> None:
    assistant = await client.assistants.create("slow", name=f"Left {uuid4().hex}")

    async def threads() -> list[Any]:
        return await client.threads.search(metadata={"assistant_id": assistant["assistant_id"]})

    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": assistant["name"].replace(" ", "_"), "arguments": {"steps": 1000}},
    }
    async with (
        httpx.AsyncClient(base_url=server.url) as http,
        http.stream("POST", "/mcp", json=call) as response,
    ):
        assert response.status_code == 200
        assert await until(threads)  # type: ignore[operator]

    async def gone() -> bool:
        return await threads() == []

    await until(gone, deadline_s=60)  # type: ignore[operator]
    await client.assistants.delete(assistant["assistant_id"])
