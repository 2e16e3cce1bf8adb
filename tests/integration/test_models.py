"""Models by name: the offline one, and a provider's over its own protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

from interlock.checkpoints.database import Database
from interlock.graphs.assistant import graph
from interlock.graphs.context import GraphContext, entered
from interlock.graphs.models import ModelUnavailable, chat_model, open_chat_model
from interlock.graphs.offline import OfflineModel
from interlock.tools.policy.budget import Budget, Meter
from interlock.tools.registry import builtin_registry

from .governed import ADMIN, governed


class OpenAIServer(ThreadingHTTPServer):
    """Speaks just enough of OpenAI's chat protocol: a call of the calculator if offered, else a text."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.requests: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, *args: Any, **kwargs: Any) -> None:
        """Silence."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        cast("OpenAIServer", self.server).requests.append(body)
        streams = body.get("stream", False)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streams else "application/json")
        self.end_headers()
        if streams:
            self._stream(PIECES)
        else:
            self.wfile.write(_completion(_message(body)))

    def _stream(self, pieces: Sequence[str]) -> None:
        deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
        chunks = [_chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        chunks.append(_chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        chunks.append(_chunk([]) | {"usage": USAGE})
        for chunk in chunks:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


PIECES = ("Six ", "times ", "seven.")
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


def _message(body: dict[str, Any]) -> dict[str, Any]:
    last = body["messages"][-1]
    if last["role"] == "tool" or "tools" not in body:
        return {"role": "assistant", "content": f"It is {last['content']}."}
    function = {"name": "calculator", "arguments": '{"expression": "6*7"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _completion(message: dict[str, Any]) -> bytes:
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    completion = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE}
    return json.dumps({**completion, "choices": [choice]}).encode()


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    server = OpenAIServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_provider_is_used_by_its_name_and_streams(openai: OpenAIServer) -> None:
    context = {"model": "openai:gpt-test", "tools": [], "system_prompt": "Be brief."}
    given = {"messages": [HumanMessage("6 times 7?")]}
    pieces = [
        message
        async for message, _ in graph.astream(given, context=context, stream_mode="messages")
        if isinstance(message, AIMessageChunk)
    ]
    assert [p.text for p in pieces if p.text] == list(PIECES)
    assert [p.usage_metadata["total_tokens"] for p in pieces if p.usage_metadata] == [12]
    [request] = openai.requests
    assert request["model"] == "gpt-test"
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}
    assert "tools" not in request


async def test_the_tools_of_a_provider_go_through_the_gateway(
    openai: OpenAIServer, database: Database
) -> None:
    context = GraphContext(
        principal=ADMIN,
        registry=builtin_registry(),
        meter=Meter(Budget()),
        store=None,
        model="openai:gpt-test",
    )
    async with governed(database, graph) as thread:
        with entered(context):
            [result] = await thread.ask("6 times 7?")
        assert result.text == "42"
        assert await thread.trail() == [("calculator", "settle", "succeeded")]
        assert thread.meter.usage.tokens == 24
    first, second = openai.requests
    assert "order_refund" in [tool["function"]["name"] for tool in first["tools"]]
    assert second["messages"][-1]["content"] == "42"


async def test_a_call_that_a_cancelled_run_left_open_is_closed_for_the_provider(openai: OpenAIServer) -> None:
    open_call = {"name": "calculator", "args": {"expression": "1"}, "id": "call_0", "type": "tool_call"}
    messages = [
        HumanMessage("1?"),
        AIMessage("", tool_calls=[open_call]),
        HumanMessage("6 times 7?"),
    ]
    await graph.ainvoke({"messages": messages}, context={"model": "openai:gpt-test", "tools": []})
    sent = openai.requests[0]["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "tool", "user"]
    assert sent[3]["tool_call_id"] == "call_0"
    assert "stopped" in sent[3]["content"]


async def test_a_model_is_opened_once_for_a_loop() -> None:
    assert await chat_model("offline") is await chat_model("offline")


def test_the_offline_model_needs_nothing() -> None:
    model = open_chat_model("offline", {})
    assert isinstance(model, OfflineModel)
    assert model.pause_s > 0
    quick = open_chat_model("offline:at-once", {})
    assert isinstance(quick, OfflineModel)
    assert quick.pause_s == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("anthropic:claude-x", "needs the package `langchain-anthropic`: `pip install langchain-anthropic`"),
        ("google-genai:x", "needs the package `langchain-google-genai`"),
        ("ollama:llama", "needs the package `langchain-ollama`"),
        ("openai:gpt-5", "needs a key: set `OPENAI_API_KEY` in the environment of the server"),
        ("gpt-5", "model 'gpt-5' is not known; use `offline`, or `provider:model`"),
        (":x", "is not known"),
        ("", "model '' is not known"),
        ("nobody:x", "model 'nobody:x' cannot be used: Unsupported provider='nobody'"),
    ],
)
def test_what_a_model_lacks_is_named(name: str, message: str) -> None:
    with pytest.raises(ModelUnavailable) as raised:
        open_chat_model(name, {})
    assert message in str(raised.value)
