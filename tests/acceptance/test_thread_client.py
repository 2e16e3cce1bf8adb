"""The thread event stream by the official client, over both of its transports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from langgraph_sdk.client import LangGraphClient

Until = Callable[..., Awaitable[Any]]
Transport = Literal["sse", "websocket"]
HI = {"messages": [{"role": "user", "content": "hi"}]}
TRANSPORTS = pytest.mark.parametrize("transport", ["sse", "websocket"])
_PATIENCE_S = 60


@TRANSPORTS
async def test_the_official_client_streams_asks_and_answers(
    client: LangGraphClient, until: Until, transport: Transport
) -> None:
    async with client.threads.stream(assistant_id="chat", transport=transport) as thread:
        await thread.run.start(input=HI)
        values = await asyncio.wait_for(thread.output, 60)
        assert values["messages"][-1]["content"] == "Red lorry, yellow lorry."
    async with client.threads.stream(assistant_id="hitl", transport=transport) as thread:
        await thread.run.start(input={})
        await until(lambda: thread.interrupted)
        [question] = thread.interrupts
        assert question["value"] == {"question": "go on?", "before": 1}
        await thread.run.respond("yes")
        values = await asyncio.wait_for(thread.output, 60)
        assert values["answer"] == "yes"


@TRANSPORTS
async def test_whoever_leaves_the_loop_over_messages_early_may_go_on_or_go(
    client: LangGraphClient, transport: Transport
) -> None:
    async with (
        asyncio.timeout(_PATIENCE_S),
        client.threads.stream(assistant_id="chat", transport=transport) as thread,
    ):
        met: list[Any] = []
        await thread.run.start(input=HI)
        async for message in thread.messages:
            met.append(message.message_id)
            break
        values = await thread.output
        # The next loop has the second run's message alone: the client knows what it has seen.
        await thread.run.start(input=HI)
        async for message in thread.messages:
            met.append(message.message_id)
            break
    first, second = met
    assert first == values["messages"][-1]["id"]
    assert second != first


@TRANSPORTS
async def test_whoever_leaves_the_loop_over_sub_graphs_early_may_go_on_or_go(
    client: LangGraphClient, transport: Transport
) -> None:
    async with (
        asyncio.timeout(_PATIENCE_S),
        client.threads.stream(assistant_id="sub", transport=transport) as thread,
    ):
        await thread.run.start(input={**HI, "ask": False})
        met: list[str | None] = []
        async for child in thread.subgraphs:
            met.append(child.graph_name)
            break
        values = await thread.output
    assert met == ["child"]
    assert values["messages"][-1]["content"] == "All done."


@TRANSPORTS
async def test_tokens_are_read_beside_the_loop_that_brings_the_messages(
    client: LangGraphClient, transport: Transport
) -> None:
    """This client feeds a message only while the loop over messages goes on: inside it nobody may wait."""

    async def tokens(message: Any) -> list[str]:
        return [token async for token in message.text]

    async with (
        asyncio.timeout(_PATIENCE_S),
        client.threads.stream(assistant_id="chat", transport=transport) as thread,
        asyncio.TaskGroup() as readers,
    ):
        await thread.run.start(input=HI)
        reading = [readers.create_task(tokens(message)) async for message in thread.messages]
    [spoken] = [task.result() for task in reading]
    assert len(spoken) > 1
    assert "".join(spoken) == "Red lorry, yellow lorry."


@TRANSPORTS
async def test_messages_of_a_sub_graph_reach_the_handle_of_the_sub_graph(
    client: LangGraphClient, transport: Transport
) -> None:
    async def heard(child: Any) -> list[str]:
        return [message.message_id async for message in child.messages]

    async with (
        asyncio.timeout(_PATIENCE_S),
        client.threads.stream(assistant_id="sub", transport=transport) as thread,
        asyncio.TaskGroup() as readers,
    ):
        await thread.run.start(input={**HI, "ask": False})
        reading = [readers.create_task(heard(child)) async for child in thread.subgraphs]
    [told] = [task.result() for task in reading]
    assert len(told) == 1


@TRANSPORTS
async def test_the_loop_over_messages_brings_what_models_say_and_not_what_nodes_write_themselves(
    client: LangGraphClient, transport: Transport
) -> None:
    async with (
        asyncio.timeout(_PATIENCE_S),
        client.threads.stream(assistant_id="handmade", transport=transport) as thread,
    ):
        await thread.run.start(input=HI)
        said = [message async for message in thread.messages]
        texts = ["".join([token async for token in message.text]) for message in said]
        values = await thread.output
    assert texts == ["Red lorry, yellow lorry."]
    assert [message["id"] for message in values["messages"]][2:] == ["by-hand"]


@TRANSPORTS
async def test_an_extension_brings_the_events_that_nodes_gave_its_name(
    client: LangGraphClient, transport: Transport
) -> None:
    """The Python client hands over the data of an event, the JavaScript client the `payload` in it."""
    async with (
        asyncio.timeout(_PATIENCE_S),
        client.threads.stream(assistant_id="handmade", transport=transport) as thread,
    ):
        await thread.run.start(input=HI)
        told = [event async for event in thread.extensions["progress"]]
    assert told == [
        {"name": "progress", "step": "ask", "payload": {"name": "progress", "step": "ask"}},
        {"name": "progress", "payload": {"step": "wrapped"}},
        {"name": "progress", "payload": "counted", "step": "both"},
    ]
