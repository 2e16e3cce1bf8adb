"""What the project's own `Auth` object keeps from somebody, other protocols keep as well."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from .test_project_auth import ALICE, BOB, as_user, guarded, made_assistant

__all__ = ["guarded"]


async def rpc(http: httpx.AsyncClient, headers: dict[str, str], method: str, params: Any = None) -> Any:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return (await http.post("/mcp", json=message, headers=headers)).json()


async def tools(http: httpx.AsyncClient, headers: dict[str, str]) -> set[str]:
    return {tool["name"] for tool in (await rpc(http, headers, "tools/list"))["result"]["tools"]}


async def test_an_assistant_of_somebody_else_is_no_tool(guarded: httpx.AsyncClient) -> None:
    await made_assistant(guarded, BOB)
    assert "Untitled" in await tools(guarded, BOB)
    assert "who" in (of_alice := await tools(guarded, ALICE))
    assert "Untitled" not in of_alice
    called = {"name": "Untitled", "arguments": {}}
    assert (await rpc(guarded, ALICE, "tools/call", called))["error"]["code"] == -32602
    assert (await rpc(guarded, BOB, "tools/call", called))["result"]["isError"] is False


async def test_a_run_that_the_handlers_refuse_is_no_run_of_a_tool_either(guarded: httpx.AsyncClient) -> None:
    await made_assistant(guarded, BOB)
    called = {"name": "Untitled", "arguments": {}}
    for denied in ("threads.create_run", "threads.read", "assistants.read"):
        refused = await rpc(guarded, as_user("bob", f"deny:{denied}"), "tools/call", called)
        assert refused["error"]["data"] == {"code": "forbidden"}, denied


async def test_the_assistant_of_a_graph_is_everybodys_and_runs_for_whoever_calls(
    guarded: httpx.AsyncClient,
) -> None:
    called = await rpc(guarded, ALICE, "tools/call", {"name": "who", "arguments": {}})
    assert called["result"]["structuredContent"]["told"]["identity"] == "alice"
    waiting = await rpc(guarded, ALICE, "tools/call", {"name": "who", "arguments": {"waits": True}})
    thread = waiting["result"]["structuredContent"]["thread_id"]
    assert (await guarded.get(f"/threads/{thread}", headers=ALICE)).status_code == 200
    assert (await guarded.get(f"/threads/{thread}", headers=BOB)).status_code == 404


async def a2a(
    http: httpx.AsyncClient, headers: dict[str, str], method: str, params: Any, agent: str = "who"
) -> Any:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return (await http.post(f"/a2a/{agent}", json=message, headers=headers)).json()


def data(value: dict[str, Any], **names: str) -> dict[str, Any]:
    parts = [{"kind": "data", "data": value}]
    return {"message": {"messageId": "m", "role": "user", "parts": parts, **names}}


async def test_a_task_is_nobody_elses_to_get_to_cancel_or_to_answer(guarded: httpx.AsyncClient) -> None:
    task = (await a2a(guarded, ALICE, "message/send", data({"waits": True})))["result"]
    assert task["status"]["state"] == "input-required"
    for method in ("tasks/get", "tasks/cancel", "tasks/resubscribe"):
        assert (await a2a(guarded, BOB, method, {"id": task["id"]}))["error"]["code"] == -32001
    for name in ({"taskId": task["id"]}, {"contextId": task["contextId"]}):
        refused = await a2a(guarded, BOB, "message/send", data({"go": "on"}, **name))
        assert refused["error"]["data"] == {"code": "not_found"}, name
    blind = as_user("alice", "deny:threads.read")
    told = await a2a(guarded, blind, "tasks/get", {"id": task["id"]})
    assert told["error"]["data"] == {"code": "forbidden"}
    done = await a2a(guarded, ALICE, "message/send", data({"go": "on"}, taskId=task["id"]))
    assert done["result"]["artifacts"][0]["parts"][0]["data"]["told"]["identity"] == "alice"


async def test_an_assistant_of_somebody_else_is_no_agent(guarded: httpx.AsyncClient) -> None:
    theirs = await made_assistant(guarded, BOB)
    card = {"assistant_id": theirs}
    for headers, status in ((BOB, 200), (ALICE, 404)):
        path = "/.well-known/agent-card.json"
        assert (await guarded.get(path, params=card, headers=headers)).status_code == status
    refused = await a2a(guarded, ALICE, "message/send", data({}), agent=theirs)
    assert refused["error"]["data"] == {"code": "not_found"}


async def ag_ui(
    http: httpx.AsyncClient, headers: dict[str, str], thread: str, agent: str = "who", **more: Any
) -> httpx.Response:
    body = {"threadId": thread, "runId": "r", "messages": [], "state": {"waits": False}, **more}
    return await http.post(f"/ag-ui/{agent}", json=body, headers=headers)


async def test_an_interface_reaches_no_thread_and_no_assistant_of_somebody_else(
    guarded: httpx.AsyncClient,
) -> None:
    thread = str(uuid4())
    mine = await ag_ui(guarded, ALICE, thread, state={"waits": True})
    assert '"type":"interrupt"' in mine.text
    asked = mine.text.partition('"interrupts":[{"id":"')[2][:32]
    resume = [{"interruptId": asked, "status": "resolved", "payload": "yes"}]
    assert (await ag_ui(guarded, BOB, thread)).status_code == 404
    # As on a thread that is not there: nothing waits.
    refused = await ag_ui(guarded, BOB, thread, resume=resume)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_such_interrupt")
    theirs = await made_assistant(guarded, BOB)
    assert (await ag_ui(guarded, ALICE, str(uuid4()), theirs)).status_code == 404
    for denied in ("threads.create_run", "threads.read"):
        limited = as_user("alice", f"deny:{denied}")
        assert (await ag_ui(guarded, limited, str(uuid4()))).status_code == 403
    assert '"identity":"alice"' in (await ag_ui(guarded, ALICE, thread, resume=resume)).text


async def test_two_people_who_name_a_thread_alike_have_two_threads(guarded: httpx.AsyncClient) -> None:
    for headers, name in ((ALICE, "alice"), (BOB, "bob")):
        assert f'"identity":"{name}"' in (await ag_ui(guarded, headers, "chat 1")).text


async def test_what_the_handlers_say_to_a_stranger_comes_with_its_headers(guarded: httpx.AsyncClient) -> None:
    for path in ("/mcp", "/v1/chat/completions", "/a2a/who"):
        refused = await guarded.post(path, json={})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["message"] == "who is there?"
