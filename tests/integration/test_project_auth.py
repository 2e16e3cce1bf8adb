"""The project's own `Auth` object decides who calls and which rows they touch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from interlock.server.runs.catalog import Catalog

from .conftest import ServeApi

RUN = {"assistant_id": "who", "input": {}}


@pytest.fixture
async def guarded(serve_api: ServeApi, guarded_catalog: Catalog) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the guarded project with a worker behind it; it sends no credentials by itself."""
    async with serve_api(worker=True, loaded=guarded_catalog, auth={"tenant_key": "org"}) as http:
        yield http


def as_user(name: str, *permissions: str, tenant: str = "acme") -> dict[str, str]:
    """Headers of a user of the guarded project."""
    return {
        "authorization": ":".join(
            [f"Bearer {tenant}", name, *([",".join(permissions)] if permissions else [])]
        )
    }


ALICE, BOB, CAROL = as_user("alice"), as_user("bob"), as_user("carol", tenant="globex")


async def made_thread(http: httpx.AsyncClient, headers: dict[str, str], **metadata: Any) -> str:
    made = await http.post("/threads", json={"metadata": metadata}, headers=headers)
    assert made.status_code == 200, made.text
    return made.json()["thread_id"]


async def made_assistant(http: httpx.AsyncClient, headers: dict[str, str]) -> str:
    body = {"graph_id": "who", "config": {"configurable": {"colour": "of its owner"}}}
    made = await http.post("/assistants", json=body, headers=headers)
    assert made.status_code == 200, made.text
    return made.json()["assistant_id"]


async def test_what_a_handler_raises_is_the_answer_with_its_headers(guarded: httpx.AsyncClient) -> None:
    refused = await guarded.get(f"/threads/{uuid4()}")
    assert refused.status_code == 401
    assert refused.json()["detail"] == "who is there?"
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_a_stranger_learns_nothing_of_the_routes(guarded: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/assistants"), ("PUT", "/threads"), ("GET", "/no/such/path")):
        refused = await guarded.request(method, path)
        assert (refused.status_code, refused.json()["detail"]) == (401, "who is there?"), path
    assert (await guarded.get("/assistants", headers=ALICE)).status_code == 405
    assert (await guarded.get("/no/such/path", headers=ALICE)).status_code == 404
    assert (await guarded.post("/ok")).status_code == 405
    assert (await guarded.get("/console/none.js")).status_code == 404


async def test_a_handler_that_fails_tells_nothing_of_why(guarded: httpx.AsyncClient) -> None:
    failed = await guarded.get(f"/threads/{uuid4()}", headers={"authorization": "Bearer broken"})
    assert failed.status_code == 500
    assert failed.json()["detail"] == "Internal Server Error"
    assert "4711" not in failed.text


@pytest.mark.parametrize("path", ["/", "/ok", "/info", "/docs", "/openapi.json", "/metrics"])
async def test_some_paths_stay_open(guarded: httpx.AsyncClient, path: str) -> None:
    assert (await guarded.get(path)).status_code == 200


async def test_a_user_without_the_configured_tenant_is_refused(
    serve_api: ServeApi, guarded_catalog: Catalog
) -> None:
    async with serve_api(loaded=guarded_catalog, auth={"tenant_key": "nothing_like_it"}) as http:
        refused = await http.post("/threads/search", json={}, headers=ALICE)
        assert refused.status_code == 403
        assert "'nothing_like_it'" in refused.json()["detail"]


async def test_the_end_of_a_run_on_somebody_elses_thread_is_as_missing_as_the_thread(
    guarded: httpx.AsyncClient,
) -> None:
    thread = await made_thread(guarded, ALICE)
    run = (await guarded.post(f"/threads/{thread}/runs", json=RUN, headers=ALICE)).json()["run_id"]
    for headers, place in ((BOB, thread), (CAROL, thread), (ALICE, uuid4())):
        assert (await guarded.get(f"/threads/{place}/runs/{run}/join", headers=headers)).status_code == 404
    mine = await guarded.get(f"/threads/{thread}/runs/{uuid4()}/join", headers=ALICE)
    assert (mine.status_code, "404" in mine.json()["__error__"]["message"]) == (200, True)


async def test_nodes_know_for_whom_they_run(guarded: httpx.AsyncClient) -> None:
    headers = as_user("alice", "orders:read") | {"x-colour": "red"}
    ended = await guarded.post("/runs/wait", json=RUN, headers=headers)
    assert ended.json()["told"] == {
        "id": "alice",
        "permissions": ["orders:read"],
        "identity": "alice",
        "display_name": "Alice",
        "org": "acme",
        "token": "secret of alice",
        "colour": "red",
        "is_authenticated": True,
    }


async def test_a_client_cannot_say_who_it_is_in_the_config_of_its_run(guarded: httpx.AsyncClient) -> None:
    forged = {"configurable": {"langgraph_auth_user_id": "bob", "langgraph_auth_user": {"identity": "bob"}}}
    ended = await guarded.post("/runs/wait", json=RUN | {"config": forged}, headers=ALICE)
    assert (ended.json()["told"]["id"], ended.json()["told"]["identity"]) == ("alice", "alice")


async def test_nobody_sees_the_threads_of_others_whatever_metadata_they_ask_for(
    guarded: httpx.AsyncClient,
) -> None:
    """O30: the owner is stamped by the server, over what the client says."""
    of_alice = await made_thread(guarded, ALICE)
    of_bob = await made_thread(guarded, BOB, owner="alice", title="mine")
    shown = (await guarded.get(f"/threads/{of_bob}", headers=BOB)).json()
    assert shown["metadata"] == {"owner": "bob", "title": "mine"}
    for metadata in ({}, {"owner": "alice"}, {"owner": "bob"}):
        found = await guarded.post("/threads/search", json={"metadata": metadata}, headers=BOB)
        assert [one["thread_id"] for one in found.json()] == [of_bob], metadata
        count = await guarded.post("/threads/count", json={"metadata": metadata}, headers=BOB)
        assert count.json() == 1
    assert (await guarded.get(f"/threads/{of_alice}", headers=BOB)).status_code == 404
    given_away = await guarded.patch(f"/threads/{of_bob}", json={"metadata": {"owner": "alice"}}, headers=BOB)
    assert given_away.json()["metadata"]["owner"] == "bob"


@pytest.mark.parametrize("if_exists", ["raise", "do_nothing"])
async def test_the_id_of_somebody_elses_thread_is_taken(guarded: httpx.AsyncClient, if_exists: str) -> None:
    of_alice = await made_thread(guarded, ALICE)
    body = {"thread_id": of_alice, "if_exists": if_exists}
    assert (await guarded.post("/threads", json=body, headers=BOB)).status_code == 409
    assert (await guarded.post("/threads", json=body, headers=CAROL)).status_code == 200


async def test_a_copy_belongs_to_whoever_copies_and_of_others_there_is_none(
    guarded: httpx.AsyncClient,
) -> None:
    of_alice = await made_thread(guarded, ALICE)
    assert (await guarded.post(f"/threads/{of_alice}/copy", headers=ALICE)).json()["metadata"][
        "owner"
    ] == "alice"
    assert (await guarded.post(f"/threads/{of_alice}/copy", headers=BOB)).status_code == 409


async def test_somebody_elses_assistant_is_missing_to_a_run_and_that_of_a_graph_is_everybodys(
    guarded: httpx.AsyncClient,
) -> None:
    """O31: threaded, stateless, and in a batch."""
    of_alice = await made_assistant(guarded, ALICE)
    thread = await made_thread(guarded, BOB)
    theirs, nobodys = {"assistant_id": of_alice, "input": {}}, {"assistant_id": str(uuid4()), "input": {}}
    for path, many in ((f"/threads/{thread}/runs", False), ("/runs", False), ("/runs/batch", True)):
        answers = [
            await guarded.post(path, json=[RUN, one] if many else one, headers=BOB)
            for one in (theirs, nobodys)
        ]
        assert [one.status_code for one in answers] == [404, 404], path
        assert answers[0].json() == answers[1].json()
        assert (await guarded.post(path, json=[RUN] if many else RUN, headers=BOB)).status_code == 200
    assert (await guarded.post("/runs/wait", json=theirs, headers=ALICE)).status_code == 200
    assert len((await guarded.get(f"/threads/{thread}/runs", headers=BOB)).json()) == 1


async def test_runs_take_the_keys_of_their_caller_only(guarded: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "the same"}
    first = await guarded.post("/runs", json=RUN, headers=ALICE | key)
    again = await guarded.post("/runs", json=RUN, headers=ALICE | key)
    other = await guarded.post("/runs", json=RUN, headers=BOB | key)
    assert first.json()["run_id"] == again.json()["run_id"] != other.json()["run_id"]


async def test_items_of_the_store_lie_where_the_handler_puts_them(guarded: httpx.AsyncClient) -> None:
    item = {"namespace": ["notes"], "key": "k", "value": {"a": 1}}
    assert (await guarded.put("/store/items", json=item, headers=ALICE)).status_code == 204
    path = "/store/items?key=k&namespace=notes"
    assert (await guarded.get(path, headers=ALICE)).json()["namespace"] == ["alice", "notes"]
    assert (await guarded.get(path, headers=BOB)).json() is None
    assert (await guarded.get("/store/items?key=k&namespace=alice.notes", headers=BOB)).json() is None
    for prefix in ([], ["notes"], ["alice"]):
        found = await guarded.post("/store/items/search", json={"namespace_prefix": prefix}, headers=BOB)
        assert found.json() == {"items": []}
    named = await guarded.post("/store/namespaces", json={}, headers=BOB)
    assert named.json() == {"namespaces": []}
    await guarded.request("DELETE", "/store/items", json=item, headers=BOB)
    assert (await guarded.get(path, headers=ALICE)).json()["value"] == {"a": 1}


async def test_the_description_of_the_api_tells_how_to_authenticate(guarded: httpx.AsyncClient) -> None:
    described = (await guarded.get("/openapi.json")).json()
    assert described["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert described["security"] == [{"token": []}]
