"""What states hold in the wild: it is stored as it is, and shown in a documented JSON form."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
from langgraph_sdk.client import LangGraphClient

from .wire import post_events

SHOWN: dict[str, Any] = {
    "nul": "before\x00after",
    "nul_key": {"a\x00b": 1},
    "not_a_number": None,
    "infinite": None,
    "surrogate": "left \ufffd right",
    "separator": "line\u2028paragraph\u2029end",
    "enum": "red",
    "dataclass": {"wheels": 6, "colour": "red"},
    "model": {"name": "Ada", "since": "2026-01-02"},
    "decimal": "12.30",
    "raw": "AP8Q",
    "group": [3],
    "pair": [1, 2],
    "moment": "2026-01-02T03:04:05+00:00",
    "day": "2026-01-02",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "failure": "ValueError('kept as a value')",
}


def differences(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values.get(name) for name, form in SHOWN.items() if values.get(name) != form}


async def test_unusual_objects_are_streamed_and_stored_in_their_documented_form(
    client: LangGraphClient, http: httpx.AsyncClient
) -> None:
    """O53: NUL, NaN, lone surrogates, U+2028, enums, dataclasses, Decimals, bytes, sets, exceptions."""
    thread = (await client.threads.create())["thread_id"]
    modes = ["values", "updates", "custom", "tasks", "checkpoints", "debug", "events"]
    body = {"assistant_id": "odd", "input": {}, "stream_mode": modes, "stream_subgraphs": True}
    found = await post_events(http, f"/threads/{thread}/runs/stream", body)

    assert "error" not in {frame.event for frame in found}
    custom = [frame.data for frame in found if frame.event == "custom"]
    assert differences({name: value for data in custom for name, value in data.items()}) == {}
    assert differences([frame.data for frame in found if frame.event == "values"][-1]) == {}
    updates = [
        frame.data["produce"]
        for frame in found
        if "produce" in (frame.data or {}) and frame.event == "updates"
    ]
    assert differences(updates[0]) == {}

    state = await client.threads.get_state(thread)
    record = await client.threads.get(thread)
    newest = (await client.threads.get_history(thread, limit=1))[0]
    values: Any = state["values"]
    assert values["seen"] is True, "the next step read back what the first one returned"
    for values in (state["values"], record["values"], newest["values"]):
        assert differences(values) == {}


async def test_unusual_values_in_a_request_survive(client: LangGraphClient, http: httpx.AsyncClient) -> None:
    """NUL and a lone surrogate in input, state update and store; metadata refuses NUL by name."""
    text = "nul \x00 and separator \u2028"
    lone = b'{"assistant_id": "hitl", "input": {"answer": "lone \\ud83d end"}}'
    thread = (await client.threads.create())["thread_id"]
    refused = await http.post("/threads", json={"metadata": {"title": text}})
    assert refused.status_code == 422
    assert "metadata" in refused.json()["detail"]

    answer = await http.post(
        f"/threads/{thread}/runs/wait", content=lone, headers={"content-type": "application/json"}
    )
    assert answer.status_code in {200, 422}, answer.text
    await client.runs.wait(thread, "hitl", input={"answer": text})
    await client.threads.update_state(thread, {"answer": text}, as_node="ask")
    held: Any = (await client.threads.get_state(thread))["values"]
    assert held["answer"] == text
    await client.store.put_item(("odd",), "key", {"text": text})
    item = await client.store.get_item(("odd",), "key")
    assert item is not None
    assert item["value"] == {"text": text}


async def test_message_of_five_megabytes_goes_in_and_comes_out(
    client: LangGraphClient, http: httpx.AsyncClient, shared_database_url: str
) -> None:
    thread = (await client.threads.create())["thread_id"]
    size = 5 * 1024 * 1024
    question = {"messages": [{"type": "human", "content": "z" * size, "id": "large"}], "size": size}
    body = {
        "assistant_id": "big",
        "input": question,
        "stream_mode": ["values", "updates", "messages-tuple"],
        "stream_resumable": True,
    }
    found = await post_events(http, f"/threads/{thread}/runs/stream", body)
    last = [frame.data for frame in found if frame.event == "values"][-1]
    assert [len(message["content"]) for message in last["messages"]] == [size, size]
    assert (await client.threads.get_state(thread))["values"] == last
    values = await client.runs.wait(thread, "big", input={"messages": [], "size": 1})
    assert isinstance(values, dict)
    assert len(values["messages"]) == 3
    with psycopg.connect(shared_database_url) as connection:
        query = "SELECT count(*) FROM interlock.runs WHERE thread_id = %s AND status = 'success'"
        assert connection.execute(query, (thread,)).fetchone() == (2,)
