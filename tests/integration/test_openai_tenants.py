"""Whose assistants and threads are models and conversations of OpenAI, and what odd graphs and bodies get."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from interlock.server.runs.catalog import load_catalog
from interlock.server.runs.project import load_project

from .conftest import ServeApi, api_key
from .test_hostile_requests import BODIES

KEYS = [api_key("one", "acme"), api_key("two", "globex"), api_key("look", "acme", "viewer")]
ASK = [{"role": "user", "content": "hello"}]
PATH = "/v1/chat/completions"
LEAVES_A_CALL = """
from typing import Any, TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict):
    messages: list[Any]

async def leave(state):
    call = {"id": "c1", "name": "look", "args": None}
    return {"messages": [*state["messages"], {"type": "ai", "content": "", "tool_calls": [call]}]}

graph = StateGraph(State).add_node(leave).add_edge(START, "leave").add_edge("leave", END).compile()
"""


async def complete(http: httpx.AsyncClient, key: str, thread: str | None = None, **more: Any) -> Any:
    headers = {"x-api-key": key} | ({"x-thread-id": thread} if thread else {})
    return await http.post(PATH, json={"model": "chat", "messages": ASK, **more}, headers=headers)


async def test_another_tenants_assistant_is_like_one_that_is_missing(serve_api: ServeApi) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        made = await http.post("/assistants", json={"graph_id": "chat"}, headers={"x-api-key": "one"})
        ours = made.json()["assistant_id"]
        assert (await complete(http, "one", model=ours)).status_code == 200
        theirs = await complete(http, "two", model=ours)
        missing = str(uuid4())
        nothing = await complete(http, "two", model=missing)
        assert theirs.status_code == nothing.status_code == 404
        assert theirs.text.replace(ours, missing) == nothing.text


async def test_a_thread_id_of_another_tenant_names_a_thread_of_ones_own(serve_api: ServeApi) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        thread = str(uuid4())
        for key in ("one", "two"):
            assert (await complete(http, key, thread)).status_code == 200
        for key in ("one", "two"):
            state = await http.get(f"/threads/{thread}/state", headers={"x-api-key": key})
            assert len(state.json()["values"]["messages"]) == 2


async def test_who_may_not_run_is_refused_in_the_form_of_openai(serve_api: ServeApi) -> None:
    async with serve_api(auth={"api_keys": KEYS}) as http:
        for key, status, kind in [
            ("look", 403, "permission_error"),
            ("wrong", 401, "authentication_error"),
        ]:
            answer = await complete(http, key)
            assert answer.status_code == status
            assert answer.json()["error"]["type"] == kind


async def test_a_second_completion_on_a_busy_thread_is_refused(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    run = {"assistant_id": "chat", "input": {"messages": ASK}, "if_not_exists": "create"}
    await http.post(f"/threads/{thread}/runs", json=run)
    answer = await complete(http, "any", thread)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conflict"


async def test_no_hostile_body_or_message_is_a_fault_of_ours(working_http: httpx.AsyncClient) -> None:
    contents = [
        b'{"model":"chat","messages":[{"role":"user","content":"%b"}]}' % text
        for text in (b"\\u0000", b"\\ud800", b"\\u0000" * 1000)
    ]
    odd: list[bytes] = [
        b'{"model":"chat","messages":[{"role":"user","content":[{"type":"nope","nope":1}]}]}',
        b'{"model":"chat","messages":[{"role":"user","content":[1]}]}',
        b'{"model":"chat","messages":[{"role":"assistant","tool_calls":[{}]}]}',
        b'{"model":"\\u0000","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"chat","messages":[{"role":"user","content":"x"}],"command":{"resume":{"a":1}}}',
    ]
    for content in [*BODIES, *contents, *odd]:
        answer = await working_http.post(PATH, content=content)
        assert answer.status_code < 500, (content[:60], answer.text)
        if answer.status_code != 200:
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_it_can_be_turned_off(serve_api: ServeApi) -> None:
    async with serve_api(http={"disable_openai": True}) as http:
        assert (await complete(http, "any")).status_code == 404
        assert (await http.get("/v1/models")).status_code == 404


async def test_a_call_without_arguments_that_is_left_to_the_client_has_an_empty_object(
    serve_api: ServeApi, tmp_path: Path
) -> None:
    (tmp_path / "leaving.py").write_text(LEAVES_A_CALL)
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": {"leaving": "./leaving.py:graph"}}))
    loaded = load_catalog(load_project(config, os.environ))
    async with serve_api(worker=True, loaded=loaded) as http:
        answer = await http.post(PATH, json={"model": "leaving", "messages": ASK})
    [choice] = answer.json()["choices"]
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "look", "arguments": "{}"}
