"""What a stream costs on a long conversation."""

from __future__ import annotations

from collections.abc import Callable

import httpx

MODES = ("values", "updates", "messages", "messages-tuple", "tasks", "checkpoints", "debug", "events")
TEXT = "Some forty words that a person or a model might say in one message of a conversation. " * 3
DELTAS = ("updates", "messages", "messages-tuple")


async def bytes_of(http: httpx.AsyncClient, mode: str, *, messages: int) -> int:
    """Bytes of one short answer on a thread that has so many messages, in one stream mode."""
    said = [{"type": "human", "content": f"{n} {TEXT}", "id": f"m{n}"} for n in range(messages)]
    thread = (await http.post("/threads", json={"metadata": {"graph_id": "chat"}})).json()["thread_id"]
    written = {"values": {"messages": said}, "as_node": "model"}
    assert (await http.post(f"/threads/{thread}/state", json=written)).status_code == 200
    asked = {
        "assistant_id": "chat",
        "input": {"messages": [{"type": "human", "content": "hi", "id": "q"}]},
        "stream_mode": mode,
    }
    streamed = await http.post(f"/threads/{thread}/runs/stream", json=asked)
    assert f"event: {mode.removesuffix('-tuple')}" in streamed.text
    return len(streamed.content)


async def test_a_stream_of_deltas_costs_the_same_however_long_the_conversation(
    working_http: httpx.AsyncClient, record_property: Callable[[str, object], None]
) -> None:
    """O49."""
    short = {mode: await bytes_of(working_http, mode, messages=2) for mode in MODES}
    long = {mode: await bytes_of(working_http, mode, messages=200) for mode in MODES}
    record_property("bytes_by_mode", long)
    for mode in DELTAS:
        # Numbers of steps and ids may differ by a digit or two, a message has hundreds.
        assert abs(long[mode] - short[mode]) < 100, mode
        assert long[mode] * 10 < long["values"], mode
