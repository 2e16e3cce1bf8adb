"""The letter of MCP over HTTP, and whose assistants it shows."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from .conftest import ServeApi, api_key
from .test_hostile_requests import BODIES

LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
KEYS = [
    api_key("one", "acme"),
    api_key("two", "globex"),
    api_key("look", "acme", "viewer"),
]


async def post(http: httpx.AsyncClient, method: str, params: Any = None, **headers: str) -> httpx.Response:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
    return await http.post("/mcp", json=message, headers=headers)


async def test_a_known_version_is_agreed_to_and_for_an_unknown_one_ours_is_offered(
    http: httpx.AsyncClient,
) -> None:
    client = {"capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    for asked, agreed in [("2025-03-26", "2025-03-26"), ("1999-01-01", "2025-11-25")]:
        answer = await post(http, "initialize", {"protocolVersion": asked, **client})
        told = answer.json()
        assert told["id"] == 7
        assert told["result"]["protocolVersion"] == agreed
        assert told["result"]["capabilities"] == {"tools": {"listChanged": False}}
        assert told["result"]["serverInfo"].keys() == {"name", "version"}
    assert (await post(http, "ping")).json() == {"jsonrpc": "2.0", "id": 7, "result": {}}


async def test_notifications_and_answers_are_taken_without_a_word(http: httpx.AsyncClient) -> None:
    for message in [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 3, "result": {}},
    ]:
        answer = await http.post("/mcp", json=message)
        assert (answer.status_code, answer.content) == (202, b"")


async def test_unknown_methods_are_refused(http: httpx.AsyncClient) -> None:
    answer = await post(http, "resources/list")
    assert answer.status_code == 200
    assert answer.json()["error"]["code"] == -32601


async def test_a_client_must_accept_json_or_events_and_gets_what_it_accepts(
    http: httpx.AsyncClient,
) -> None:
    refused = await http.post("/mcp", json=LIST, headers={"accept": "text/html"})
    assert refused.status_code == 400
    assert "Accept" in refused.json()["error"]["message"]
    events = await http.post("/mcp", json=LIST, headers={"accept": "text/event-stream"})
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.startswith('event: message\r\ndata: {"jsonrpc"')
    for accept in ("application/json, text/event-stream", "application/json; q=0.9", "*/*"):
        answer = await http.post("/mcp", json=LIST, headers={"accept": accept})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["result"]["tools"]


async def test_there_is_no_stream_to_get_and_no_session_to_delete(http: httpx.AsyncClient) -> None:
    assert (await http.get("/mcp")).status_code == 405
    assert (await http.delete("/mcp")).status_code == 404


async def test_a_version_that_is_not_spoken_is_refused_with_those_that_are(http: httpx.AsyncClient) -> None:
    answer = await post(http, "tools/list", **{"mcp-protocol-version": "1999-01-01"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == -32022
    assert "2025-11-25" in error["data"]["supported"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600),
    ],
)
async def test_what_is_no_message_is_refused_as_json_rpc_says(
    http: httpx.AsyncClient, content: bytes, code: int
) -> None:
    answer = await http.post("/mcp", content=content)
    assert answer.status_code == 400
    assert answer.json()["id"] is None
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": 5}),
        ("tools/call", {"name": "chat", "arguments": []}),
        ("tools/list", {"cursor": "²"}),
        ("tools/list", {"cursor": "9" * 40}),
        ("initialize", {}),
    ],
)
async def test_parameters_that_do_not_fit_are_refused(
    http: httpx.AsyncClient, method: str, params: dict[str, Any]
) -> None:
    answer = await post(http, method, params)
    assert answer.status_code == 200
    assert answer.json()["error"]["code"] == -32602


async def test_no_hostile_body_or_argument_is_a_fault_of_ours(working_http: httpx.AsyncClient) -> None:
    for content in BODIES:
        answer = await working_http.post("/mcp", content=content)
        assert answer.status_code in (202, 400, 413), (content[:60], answer.text)
        assert answer.status_code == 202 or answer.json()["error"]["code"] < 0
    for text in ("\\u0000", "\\ud800", "\\u0000" * 1000):
        arguments = '{"messages": "TEXT"}'.replace("TEXT", text)
        content = (
            f'{{"jsonrpc": "2.0", "id": "{text[:6]}", "method": "tools/call", '
            f'"params": {{"name": "chat", "arguments": {arguments}}}}}'
        )
        answer = await working_http.post("/mcp", content=content.encode())
        assert answer.status_code in (200, 400), answer.text
        assert answer.json().keys() >= {"jsonrpc", "id"}


async def test_arguments_that_would_take_long_to_check_are_refused(http: httpx.AsyncClient) -> None:
    arguments = {"messages": "hi", "more": [0] * 100_000}
    refused = (await post(http, "tools/call", {"name": "chat", "arguments": arguments})).json()["result"]
    assert refused["isError"] is True
    assert "more than 100000 values" in refused["content"][0]["text"]


async def test_a_tenant_has_tools_of_its_own_and_those_of_others_do_not_exist(serve_api: ServeApi) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        made = await http.post(
            "/assistants", json={"graph_id": "chat", "name": "Ours"}, headers={"x-api-key": "one"}
        )
        assert made.status_code == 200

        async def call(key: str, name: str) -> Any:
            params = {"name": name, "arguments": {"messages": "hello"}}
            return (await post(http, "tools/call", params, **{"x-api-key": key})).json()

        assert (await call("one", "Ours"))["result"]["isError"] is False
        theirs, missing = await call("two", "Ours"), await call("two", "Nope")
        assert theirs["error"]["code"] == missing["error"]["code"] == -32602
        assert theirs["error"]["message"].replace("Ours", "Nope") == missing["error"]["message"]
        for key, known in [("one", True), ("look", True), ("two", False)]:
            tools = (await post(http, "tools/list", **{"x-api-key": key})).json()["result"]["tools"]
            assert ("Ours" in {tool["name"] for tool in tools}) is known


async def test_who_may_only_look_sees_the_tools_and_calls_none(serve_api: ServeApi) -> None:
    async with serve_api(auth={"api_keys": KEYS}) as http:
        refused = await post(http, "tools/call", {"name": "chat"}, **{"x-api-key": "look"})
        assert refused.json()["error"]["data"] == {"code": "forbidden"}
        unknown = await post(http, "ping", **{"x-api-key": "wrong"})
        assert unknown.status_code == 401
        assert unknown.json()["error"]["data"] == {"code": "unauthenticated"}


async def test_a_budget_that_is_spent_waits_for_a_person_behind_a_tool_as_well(serve_api: ServeApi) -> None:
    async with serve_api(worker=True) as http:
        made = await http.post(
            "/assistants",
            json={"graph_id": "loop", "name": "Thrifty", "config": {"budget": {"steps": 2}}},
        )
        assert made.status_code == 200, made.text
        answer = await post(http, "tools/call", {"name": "Thrifty", "arguments": {"n": 9}})
        waiting = answer.json()["result"]["structuredContent"]
        assert waiting["status"] == "interrupted"
        [review] = (await http.get("/reviews", params={"thread_id": waiting["thread_id"]})).json()
        assert review["kind"] == "budget"


async def test_mcp_can_be_turned_off(serve_api: ServeApi) -> None:
    async with serve_api(http={"disable_mcp": True}) as http:
        assert (await http.post("/mcp", json=LIST)).status_code == 404
