"""What a reader of one run sees: names, ids, and nothing that nobody asked for."""

from __future__ import annotations

from typing import Any

import httpx
from langgraph_sdk.client import LangGraphClient

from .wire import Frame, post_events

HUMAN: dict[str, Any] = {"messages": [{"type": "human", "content": "hello", "id": "question-1"}]}


async def stream(client: LangGraphClient, graph: str, **kwargs: Any) -> tuple[str, list[Any]]:
    """A new thread, and the whole stream of one run on it."""
    thread = await client.threads.create()
    return thread["thread_id"], [
        part async for part in client.runs.stream(thread["thread_id"], graph, **kwargs)
    ]


def named(parts: list[Any], name: str) -> list[Any]:
    return [part.data for part in parts if part.event == name]


async def test_child_events_carry_their_namespace_and_only_requested_modes_occur(
    client: LangGraphClient,
) -> None:
    """O01."""
    modes = ["values", "messages-tuple"]
    _, parts = await stream(
        client, "sub", input=HUMAN | {"ask": False}, stream_mode=modes, stream_subgraphs=True
    )

    assert parts[0].event == "metadata"
    children = {part.event.partition("|")[2] for part in parts if "|" in part.event}
    assert children
    assert all(child.startswith("child:") and len(child.split(":")[1]) == 36 for child in children)
    assert {part.event.partition("|")[0] for part in parts} == {"metadata", "values", "messages"}
    assert not any(part.event.endswith("|") for part in parts)


async def test_without_subgraphs_no_event_has_a_namespace(client: LangGraphClient) -> None:
    """O01: and no token of a model inside a sub-graph leaks out as a chunk of the parent."""
    _, parts = await stream(
        client, "sub", input=HUMAN | {"ask": False}, stream_mode=["values", "messages-tuple"]
    )

    assert not [part.event for part in parts if "|" in part.event]
    inside = [message for message, _ in named(parts, "messages") if message["id"].startswith("thought")]
    assert [message["type"] for message in inside] == ["ai"]


async def test_metadata_location_and_run_record_name_the_same_run(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """O02."""
    thread = (await client.threads.create())["thread_id"]
    body = {"assistant_id": "chat", "input": HUMAN}
    async with http.stream("POST", f"/threads/{thread}/runs/stream", json=body) as response:
        await response.aread()
        headers = response.headers
    run_id = headers["content-location"].removeprefix(f"/threads/{thread}/runs/")

    assert headers["location"] == f"/threads/{thread}/runs/{run_id}/stream"
    assert f'"run_id":"{run_id}"' in response.text.split("\r\n")[1].replace(" ", "")
    assert [run["run_id"] for run in await client.runs.list(thread)] == [run_id]
    assert (await client.runs.get(thread, run_id))["status"] == "success"


async def test_chunks_and_final_message_have_one_id_and_a_silent_model_stays_silent(
    client: LangGraphClient,
) -> None:
    """O07."""
    thread, parts = await stream(
        client,
        "sub",
        input=HUMAN | {"ask": False},
        stream_mode=["messages-tuple", "values"],
        stream_subgraphs=True,
    )
    streamed = [(part.event, *part.data) for part in parts if part.event.startswith("messages")]
    state: Any = await client.threads.get_state(thread)
    final = {message["id"] for message in state["values"]["messages"]}

    assert {message["id"] for _, message, _ in streamed} <= final
    assert "keep this" not in "".join(message["content"] for _, message, _ in streamed)
    for event, message, metadata in streamed:
        assert metadata["langgraph_node"] in {"think", "confirm", "close", "child"}, message
        namespace = metadata["langgraph_checkpoint_ns"]
        assert namespace.split("|")[0] == (event.partition("|")[2] or namespace)
    words = "".join(message["content"] for _, message, _ in streamed if message["id"] == "close-3")
    assert words == "All done."


async def test_interrupt_of_a_subgraph_reaches_readers_with_and_without_subgraphs(
    client: LangGraphClient,
) -> None:
    """O22."""
    modes = ["values", "updates", "messages-tuple"]
    _, inner = await stream(client, "sub", input=HUMAN, stream_mode=modes, stream_subgraphs=True)
    _, outer = await stream(client, "sub", input=HUMAN, stream_mode=modes)

    asks = [
        i for i, part in enumerate(inner) if part.event.startswith("messages|") and part.data[0]["tool_calls"]
    ]
    stops = [i for i, part in enumerate(inner) if "__interrupt__" in (part.data or {})]
    assert asks
    assert stops
    assert asks[0] < stops[0]
    for parts in (inner, outer):
        updates = [data["__interrupt__"] for data in named(parts, "updates") if "__interrupt__" in data]
        values = named(parts, "values")[-1]["__interrupt__"]
        assert updates[-1][0]["value"] == values[0]["value"] == {"question": "look it up?"}
        assert updates[-1][0]["id"] == values[0]["id"]


async def test_last_values_history_and_state_agree(client: LangGraphClient) -> None:
    """O57."""
    for graph in ("chat", "tools"):
        thread, parts = await stream(client, graph, input=HUMAN, stream_mode=["values", "messages-tuple"])
        last = named(parts, "values")[-1]
        state = await client.threads.get_state(thread)
        newest = (await client.threads.get_history(thread, limit=1))[0]

        assert last == state["values"] == newest["values"]
        assert (await client.threads.get(thread))["values"] == last
        assert state["checkpoint"] == newest["checkpoint"]


async def test_every_streamed_message_id_is_found_in_history(client: LangGraphClient) -> None:
    """O58."""
    question = {"messages": [{"type": "human", "content": "no id of its own"}]}
    for graph in ("chat", "tools", "agent"):
        thread, parts = await stream(client, graph, input=question, stream_mode=["messages-tuple", "values"])
        ids = {message["id"] for message, _ in named(parts, "messages")}
        ids |= {message["id"] for values in named(parts, "values") for message in values["messages"]}
        history = await client.threads.get_history(thread, limit=50)
        kept = {message["id"] for state in history for message in state["values"].get("messages", [])}

        assert ids
        assert ids <= kept


async def test_frames_of_a_resumable_run_have_unique_growing_ids(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    modes = ["values", "updates", "messages", "messages-tuple", "tasks", "checkpoints", "debug", "custom"]
    body = {"assistant_id": "tools", "input": HUMAN, "stream_mode": modes, "stream_resumable": True}
    resumable = await post_events(http, f"/threads/{thread}/runs/stream", body)
    plain = await post_events(http, f"/threads/{thread}/runs/stream", body | {"stream_resumable": False})

    assert all(frame.id for frame in resumable)
    keys = [tuple(int(part) for part in (frame.id or "").split(".")) for frame in resumable]
    assert keys == sorted(set(keys))
    assert [frame.id for frame in plain] == [None] * len(plain)


async def test_error_is_the_last_frame_and_names_the_exception(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    for own, expected in (
        (False, {"error": "ValueError", "message": "boom happened"}),
        (True, {"error": "LorryError", "message": "no petrol left"}),
    ):
        thread = (await client.threads.create())["thread_id"]
        body = {"assistant_id": "err", "input": {"own": own}, "stream_mode": ["updates"]}
        found = await post_events(http, f"/threads/{thread}/runs/stream", body)
        waited = (await http.post(f"/threads/{thread}/runs/wait", json=body)).json()

        assert found[-1] == Frame("error", expected, None)
        assert waited == {"__error__": expected}
        assert (await client.threads.get(thread))["status"] == "error"
        assert {run["status"] for run in await client.runs.list(thread)} == {"error"}
