"""Graphs in the manner of the JavaScript server's own tests: what their clients rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from interlock.server.runs.catalog import Catalog, load_catalog
from interlock.server.runs.project import load_project

from ..servers import GRAPHS
from .conftest import ServeApi, api_key

PORTS = GRAPHS.parent / "compat" / "graphs"
QUESTION = {"messages": [{"type": "human", "content": "foo"}]}


@pytest.fixture(scope="module")
def ports() -> Catalog:
    return load_catalog(load_project(PORTS / "langgraph.json", {}))


@pytest.fixture
async def ported(serve_api: ServeApi, ports: Catalog) -> AsyncIterator[httpx.AsyncClient]:
    async with serve_api(worker=True, loaded=ports) as http:
        yield http


async def post(http: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def new_thread(http: httpx.AsyncClient) -> str:
    return f"/threads/{(await post(http, '/threads'))['thread_id']}"


async def ask(http: httpx.AsyncClient, thread: str, **fields: Any) -> Any:
    asked = {"assistant_id": "agent", "input": QUESTION, "config": {"configurable": {"user_id": "123"}}}
    return await post(http, f"{thread}/runs/wait", **asked | fields)


async def test_a_graphs_own_assistant_begins_with_what_the_environment_says(
    ported: httpx.AsyncClient,
) -> None:
    found = await post(ported, "/assistants/search", graph_id="agent")
    assert found[0]["config"] == {"configurable": {"model_name": "openai"}}
    assert found[0]["context"] == {"model_name": "openai"}
    assert await post(ported, "/runs/wait", assistant_id="simple_runtime", input={}) == {"model": "unknown"}


async def test_where_nobody_is_asked_for_credentials_the_client_says_who_the_user_is(
    ported: httpx.AsyncClient,
) -> None:
    values = await ask(ported, await new_thread(ported))
    assert values["sharedStateFromStoreConfig"] == {"id": "123"}
    values = await ask(ported, await new_thread(ported), config={})
    assert values["sharedStateFromStoreConfig"] == {"id": "anonymous"}


async def test_where_callers_have_keys_nobody_can_say_to_be_another_user(
    serve_api: ServeApi, ports: Catalog
) -> None:
    keys = {"api_keys": [api_key("k", "t")]}
    async with serve_api(worker=True, loaded=ports, auth=keys) as http:
        http.headers["x-api-key"] = "k"
        values = await ask(http, await new_thread(http))
        assert values["sharedStateFromStoreConfig"] == {"id": "t user"}


async def test_states_name_their_thread_in_their_metadata_and_copies_name_their_own(
    ported: httpx.AsyncClient,
) -> None:
    thread = await new_thread(ported)
    await ask(ported, thread)
    copied = f"/threads/{(await post(ported, f'{thread}/copy'))['thread_id']}"
    for path in (thread, copied):
        own = path.removeprefix("/threads/")
        history = await post(ported, f"{path}/history", limit=10)
        assert [one["metadata"]["thread_id"] for one in history] == [own] * 5
        assert (await ported.get(f"{path}/state")).json()["metadata"]["thread_id"] == own


async def test_a_state_that_is_a_model_keeps_what_its_author_wrote_into_the_schema(
    ported: httpx.AsyncClient,
) -> None:
    for graph, field in (("state_schema_graph", "messages"), ("zod_registry_graph", "messages")):
        schema = (await ported.get(f"/assistants/{graph}/schemas")).json()["state_schema"]
        assert schema["type"] == "object"
        assert schema["properties"][field]["langgraph_type"] == "messages"
    plain = (await ported.get("/assistants/plain_zod_graph/schemas")).json()["state_schema"]
    assert plain["properties"]["counter"] == {"default": 0, "title": "Counter", "type": "integer"}


async def test_a_run_of_nothing_that_exists_says_what_there_is(ported: httpx.AsyncClient) -> None:
    thread = await new_thread(ported)
    for kind in ("wait", "stream"):
        answer = await ported.post(f"{thread}/runs/{kind}", json={"assistant_id": "nope", "input": QUESTION})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("Invalid assistant: 'nope'. Must be either:")
        assert "No assistant found for 'nope'" in answer.json()["detail"]


async def test_the_ported_handlers_keep_two_users_and_their_scopes_apart(serve_api: ServeApi) -> None:
    catalog = load_catalog(load_project(PORTS / "langgraph.auth.json", {}))
    key = catalog.auth.authenticate.__globals__["KEY"]  # type: ignore[union-attr]

    def shown_by(name: str, *scopes: str) -> dict[str, str]:
        return {"authorization": f"Bearer {jwt.encode({'sub': name, 'scopes': scopes}, key)}"}

    async with serve_api(worker=True, loaded=catalog) as http:
        http.headers.update(shown_by("johndoe", "me"))
        thread = await new_thread(http)
        await post(http, f"{thread}/runs/wait", assistant_id="agent_simple", input=QUESTION)
        found = await post(http, "/store/items/search", namespace_prefix=[])
        assert [item["namespace"] for item in found["items"]] == [["johndoe"]]
        for headers, status in ((shown_by("alice", "me"), 404), (shown_by("nobody", "me"), 401)):
            assert (await http.get(thread, headers=headers)).status_code == status
        reader = shown_by("johndoe", "threads:read")
        refused = await http.post(f"{thread}/copy", headers=reader)
        assert (refused.status_code, refused.json()["detail"]) == (403, "Not authorized")
        foreign = await http.get("/store/items?namespace=ALL&key=key_one")
        assert foreign.status_code == 403
