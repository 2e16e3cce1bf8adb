"""A graph whose steps call the server that runs them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from typing import Any, TypedDict

import httpx
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client
from langgraph_sdk.cache import cache_get, cache_set, swr
from langgraph_sdk.client import SyncLangGraphClient

client = get_client()
gate = threading.Event()


class State(TypedDict, total=False):
    ask: str
    depth: int
    found: Any


async def wait(state: State, config: RunnableConfig) -> Any:
    return await client.runs.wait(None, "echo", input={"text": "from inside"})


async def stream(state: State, config: RunnableConfig) -> Any:
    """Opens the gate at the first part, without which there is no second."""
    parts: list[Any] = []
    async for part in client.runs.stream(None, "gated", input={"ask": "x"}, stream_mode="custom"):
        if part.event == "custom":
            parts.append(part.data)
            gate.set()
    return parts


async def leave(state: State, config: RunnableConfig) -> Any:
    thread = (await client.threads.create())["thread_id"]
    left = client.runs.stream(
        thread, "gated", input={"ask": "for ever"}, stream_mode="custom", on_disconnect="cancel"
    )
    async for part in left:
        if part.event == "custom":
            break
    await left.aclose()  # pyright: ignore[reportAttributeAccessIssue] - it is a generator
    return thread


async def thread(state: State, config: RunnableConfig) -> Any:
    return (await client.threads.create())["thread_id"]


async def nested(state: State, config: RunnableConfig) -> Any:
    depth = state.get("depth", 0)
    if depth == 0:
        return 0
    values = await client.runs.wait(None, "inside", input={"ask": "nested", "depth": depth - 1})
    assert isinstance(values, dict)
    return values["found"] + 1


async def itself(state: State, config: RunnableConfig) -> Any:
    try:
        await client.runs.wait(config["configurable"]["thread_id"], "echo", input={})
    except httpx.HTTPStatusError as error:
        return (await error.response.aread()).decode()
    return "no error"


async def remote(state: State, config: RunnableConfig) -> Any:
    return await RemoteGraph("echo", client=client).ainvoke({"text": "far"})


async def threaded(state: State, config: RunnableConfig) -> Any:
    """As plain functions do it, in a thread: another loop, or none."""

    def ask() -> list[Any]:
        from langgraph_api.asgi_transport import (  # pyright: ignore[reportMissingImports]
            ASGITransport,
        )

        blocking = SyncLangGraphClient(httpx.Client(base_url="http://api", transport=ASGITransport()))
        return [
            blocking.runs.wait(None, "echo", input={"text": "sync"})["text"],  # pyright: ignore
            asyncio.run(get_client().runs.wait(None, "echo", input={"text": "other loop"}))["text"],  # pyright: ignore
        ]

    return await asyncio.to_thread(ask)


async def loose(state: State, config: RunnableConfig) -> Any:
    """In threads of its own: one that does not know for whom it works, and one that is told."""

    def ask() -> str:
        from langgraph_api.asgi_transport import (  # pyright: ignore[reportMissingImports]
            ASGITransport,
        )

        blocking = SyncLangGraphClient(httpx.Client(base_url="http://api", transport=ASGITransport()))
        try:
            return blocking.threads.create()["thread_id"]
        except RuntimeError as error:
            return str(error)

    context = contextvars.copy_context()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        alone, told = threads.submit(ask), threads.submit(context.run, ask)
        return await asyncio.gather(asyncio.wrap_future(alone), asyncio.wrap_future(told))


async def cached(state: State, config: RunnableConfig) -> Any:
    async def load() -> str:
        return "loaded"

    await cache_set("key", {"a": 1})
    first = await swr("other", load)
    second = await swr("other", load)
    return [await cache_get("key"), await cache_get("none"), first.status, second.status, second.value]


STEPS = {
    step.__name__: step
    for step in (wait, stream, leave, thread, nested, itself, remote, threaded, loose, cached)
}


async def work(state: State, config: RunnableConfig) -> State:
    return {"found": await STEPS[state.get("ask", "")](state, config)}


async def slowly(state: State) -> State:
    writer = get_stream_writer()
    writer("first")
    if state.get("ask") == "for ever":
        await asyncio.Event().wait()
    await asyncio.to_thread(gate.wait)
    writer("second")
    return {}


def built(node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder.compile()


graph = built(work)
gated = built(slowly)
