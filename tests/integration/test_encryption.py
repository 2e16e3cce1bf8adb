"""What a project's `Encryption` object encrypts: nothing that a client or a graph says is stored in plain."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import psycopg
import pytest
import zstandard
from psycopg import sql

from interlock.checkpoints.database import Database
from interlock.checkpoints.errors import SchemaMismatch
from interlock.server.runs.catalog import Catalog, CatalogError, load_catalog
from interlock.server.runs.project import Project, load_project

from ..receiver import receiving
from ..servers import SEALED
from .conftest import ServeApi
from .test_ag_ui import wanted
from .test_webhooks import HERE

Until = Callable[..., Awaitable[Any]]

SECRET = "the-parrot-is-dead"
ANN, BOB = ({"authorization": f"Bearer {name}"} for name in ("ann", "bob"))


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project(SEALED / "langgraph.json", os.environ)


@pytest.fixture(scope="module")
def sealed(project: Project) -> Catalog:
    return load_catalog(project)


@pytest.fixture(scope="module")
def plain(project: Project) -> Catalog:
    """The same project before it named its handlers."""
    return load_catalog(replace(project, hooks={"auth.path": project.hooks["auth.path"]}))


@pytest.fixture
def keys(sealed: Catalog) -> Any:
    """The keys of the project, whole again afterwards."""
    module = sealed.hooks.encryption._json_encryptor.__globals__  # type: ignore[union-attr]
    kept = dict(module["KEYS"])
    yield module["KEYS"]
    module["KEYS"].update(kept)


@pytest.fixture
async def vault(serve_api: ServeApi, sealed: Catalog) -> AsyncIterator[httpx.AsyncClient]:
    async with serve_api(worker=True, loaded=sealed, webhooks=HERE) as http:
        http.headers.update(ANN)
        yield http


async def done(answer: Awaitable[httpx.Response]) -> Any:
    response = await answer
    assert response.status_code < 300, response.text
    return response.json() if response.content else None


def asking(**more: Any) -> dict[str, Any]:
    said = {"secret": SECRET, "messages": [{"role": "user", "content": SECRET}]}
    return {"assistant_id": "vault", "input": said, **more}


async def new_thread(http: httpx.AsyncClient, **metadata: Any) -> str:
    return (await done(http.post("/threads", json={"metadata": metadata})))["thread_id"]


def places_of(text: str, url: str) -> set[str]:
    """Table and column of every value in the database that holds a text, of whatever type."""
    found: set[str] = set()
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            b"SELECT table_schema, table_name, column_name FROM information_schema.columns"
            b" WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(columns) > 100
        for schema, table, column in columns:
            query = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(column), sql.Identifier(schema, table))
            for (value,) in connection.execute(query).fetchall():
                body = value if isinstance(value, bytes) else json.dumps(value, default=str).encode()
                if body.startswith(b"\x28\xb5\x2f\xfd"):
                    body = zstandard.ZstdDecompressor().decompress(body, max_output_size=1 << 24)
                if text.encode() in body:
                    found.add(f"{table}.{column}")
    return found


async def say_it_everywhere(http: httpx.AsyncClient, database: Database, until: Until) -> str:
    """Let the secret reach every table; returns the thread that waits for an answer."""
    assistant = await done(
        http.post(
            "/assistants",
            json={
                "graph_id": "vault",
                "config": {"configurable": {"tone": SECRET}},
                "metadata": {"about": SECRET, "kind": "loud"},
            },
        )
    )
    await done(http.patch(f"/assistants/{assistant['assistant_id']}", json={"metadata": {"more": SECRET}}))
    thread = await new_thread(http, note=SECRET, kind="case")
    await done(http.patch(f"/threads/{thread}", json={"metadata": {"second": SECRET}}))
    async with receiving() as receiver:
        run = asking(
            assistant_id=assistant["assistant_id"],
            metadata={"why": SECRET},
            webhook=f"{receiver.url}/{SECRET}",
            stream_mode=["values", "updates", "custom", "messages", "tasks", "checkpoints"],
            config={"configurable": {"token": SECRET}},
        )
        streamed = await http.post(f"/threads/{thread}/runs/stream", json=run)
        assert streamed.text.count(SECRET) > 5
        told = (await until(lambda: receiver.received))[0].told
    assert told["values"]["secret"] == told["kwargs"]["config"]["configurable"]["token"] == SECRET
    failing = asking(input={"secret": SECRET, "fails": True}, on_completion="keep")
    answer = await http.post("/runs/wait", json=failing)
    assert SECRET in answer.text
    cron = {
        "assistant_id": "vault",
        "schedule": "0 9 * * *",
        "input": {"secret": SECRET},
        "metadata": {"c": SECRET},
    }
    await done(http.post("/runs/crons", json=cron | {"on_run_completed": "keep"}))
    await database.execute(b"UPDATE interlock.crons SET next_run_at = now() - interval '1 second'")
    await until(lambda: database.fetch_all(b"SELECT 1 FROM interlock.runs WHERE status = 'success' OFFSET 1"))
    item = {"namespace": ["vault"], "key": "mine", "value": {"text": f"{SECRET}\0", "kind": "own"}}
    await done(http.put("/store/items", json=item))
    return thread


async def test_without_handlers_it_would_stand_there(
    serve_api: ServeApi, plain: Catalog, database: Database, database_url: str, until: Until
) -> None:
    async with serve_api(worker=True, loaded=plain, webhooks=HERE) as http:
        http.headers.update(ANN)
        await say_it_everywhere(http, database, until)
        found = places_of(SECRET, database_url)
    assert {
        "assistants.config", "assistants.metadata", "assistant_versions.metadata", "checkpoints.checkpoint",
        "checkpoints.metadata", "checkpoint_blobs.blob", "checkpoint_writes.blob", "crons.metadata",
        "crons.payload", "event_segments.body", "runs.error", "runs.kwargs", "runs.metadata",
        "store_items.exact", "store_items.value", "threads.error", "threads.interrupts", "threads.metadata",
        "threads.values", "webhook_deliveries.body", "webhook_deliveries.url", "webhook_deliveries.values",
    } <= found  # fmt: skip


async def test_what_is_encrypted_is_served_as_ever_and_stands_nowhere_in_plain(
    vault: httpx.AsyncClient, database: Database, database_url: str, until: Until
) -> None:
    thread = await say_it_everywhere(vault, database, until)
    await searched_by_what_is_plain(vault, thread)
    await read_answered_and_replayed(vault, thread)
    assert places_of(SECRET, database_url) == set()
    assert places_of("ann@secret.example", database_url) == set()


async def read_answered_and_replayed(vault: httpx.AsyncClient, thread: str) -> None:
    shown = await done(vault.get(f"/threads/{thread}"))
    assert shown["metadata"]["note"] == shown["metadata"]["second"] == shown["values"]["secret"] == SECRET
    assert SECRET in json.dumps(shown["interrupts"])
    (run,) = await done(vault.get(f"/threads/{thread}/runs"))
    assert run["kwargs"]["input"]["secret"] == run["metadata"]["why"] == SECRET
    first = (
        await vault.get(f"/threads/{thread}/runs/{run['run_id']}/stream", headers={"last-event-id": "0"})
    ).text
    assert first.count(SECRET) > 5
    again = {"assistant_id": "vault", "command": {"resume": f"yes, {SECRET}"}}
    values = await done(vault.post(f"/threads/{thread}/runs/wait", json=again))
    assert values["answer"] == f"yes, {SECRET}"
    assert values["count"] == 1
    history = await done(vault.get(f"/threads/{thread}/history?limit=50"))
    fork = next(state for state in history if state["next"] == ["ask"])
    forked = await done(
        vault.post(f"/threads/{thread}/runs/wait", json=again | {"checkpoint_id": fork["checkpoint_id"]})
    )
    assert forked["secret"] == SECRET
    await done(vault.post(f"/threads/{thread}/state", json={"values": {"count": 7}, "as_node": "ask"}))
    assert (await done(vault.get(f"/threads/{thread}/state")))["values"]["count"] == 7
    copied = await done(vault.post(f"/threads/{thread}/copy"))
    assert (await done(vault.get(f"/threads/{copied['thread_id']}/state")))["values"]["secret"] == SECRET


async def searched_by_what_is_plain(vault: httpx.AsyncClient, thread: str) -> None:
    async def threads(**metadata: Any) -> list[str]:
        found = await done(vault.post("/threads/search", json={"metadata": metadata}))
        return [one["thread_id"] for one in found]

    assert await threads(kind="case") == [thread]
    assert await threads(note=SECRET) == []
    (loud,) = await done(vault.post("/assistants/search", json={"metadata": {"kind": "loud"}}))
    assert loud["metadata"]["more"] == loud["config"]["configurable"]["tone"] == SECRET

    async def items(**body: Any) -> list[tuple[str, str]]:
        found = (await done(vault.post("/store/items/search", json={"namespace_prefix": ["vault"], **body})))[
            "items"
        ]
        return sorted((item["key"], item["value"]["text"]) for item in found)

    notes = [("last", SECRET), ("sync", SECRET)]
    assert await items() == [notes[0], ("mine", f"{SECRET}\0"), notes[1]]
    assert await items(filter={"kind": "note"}) == notes
    assert await items(filter={"text": SECRET}) == []


async def test_another_process_reads_it_and_goes_on_with_the_keys_of_whoever_asked(
    serve_api: ServeApi, sealed: Catalog, database_url: str, until: Until, keys: dict[str, Any]
) -> None:
    async with serve_api(loaded=sealed) as http:
        http.headers.update(ANN)
        thread = await new_thread(http, note=SECRET)
        run = await done(http.post(f"/threads/{thread}/runs", json=asking()))
    del keys["server"], keys["nobody"], keys["bob"]
    async with serve_api(worker=True, loaded=sealed) as http:
        http.headers.update(ANN)
        values = await done(http.get(f"/threads/{thread}/runs/{run['run_id']}/join"))
        assert values["secret"] == SECRET
        assert (await done(http.get(f"/threads/{thread}")))["status"] == "interrupted"
    assert places_of(SECRET, database_url) == set()


async def test_the_header_says_with_what_to_encrypt_and_readers_need_not_repeat_it(
    vault: httpx.AsyncClient, keys: dict[str, Any], sealed: Catalog
) -> None:
    context = base64.b64encode(b'{"owner": "bob"}').decode()
    made = await done(
        vault.post("/threads", json={"metadata": {"x": SECRET}}, headers={"x-encryption-context": context})
    )
    thread = f"/threads/{made['thread_id']}"
    assert (await done(vault.get(thread)))["metadata"]["x"] == SECRET
    # What was written under one context and changed under another stays readable as a whole.
    await done(vault.patch(thread, json={"metadata": {"y": SECRET}}))
    shown = (await done(vault.get(thread)))["metadata"]
    assert (shown["x"], shown["y"]) == (SECRET, SECRET)
    for bad in ("%%%", base64.b64encode(b"[1]").decode()):
        refused = await vault.post("/threads", json={}, headers={"x-encryption-context": bad})
        assert (refused.status_code, "x-encryption-context" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("metadata", "headers", "status", "reason"),
    [
        ({"x": "loses a key"}, {}, 500, "the keys that it was given"),
        ({"x": "hides its owner"}, {}, 422, "'owner'"),
        ({"__sealed__": {}}, {}, 422, "'__sealed__'"),
        ({"x": 1}, {"authorization": "Bearer mallory"}, 500, "there is no key of 'mallory'"),
    ],
)
async def test_what_cannot_be_encrypted_is_refused_with_the_reason_and_nothing_is_stored(
    vault: httpx.AsyncClient, database: Database, metadata: Any, headers: Any, status: int, reason: str
) -> None:
    for path in ("/threads", "/runs"):
        refused = await vault.post(path, json=asking(metadata=metadata), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (status, "encryption_failed")
        assert reason in refused.json()["detail"]
    assert await database.fetch_all(b"SELECT 1 FROM interlock.threads") == []
    assert await database.fetch_all(b"SELECT 1 FROM interlock.runs") == []


async def test_a_lost_key_hides_its_own_rows_and_stops_neither_lists_nor_workers(
    serve_api: ServeApi, sealed: Catalog, keys: dict[str, Any], until: Until
) -> None:
    as_bob = {"x-encryption-context": base64.b64encode(b'{"owner": "bob"}').decode()}
    async with serve_api(loaded=sealed) as http:
        http.headers.update(ANN)
        mine, lost = await new_thread(http, x=1, kind="mine"), None
        made = await done(http.post("/threads", json={"metadata": {"x": 1, "kind": "lost"}}, headers=as_bob))
        lost = made["thread_id"]
        run = await done(http.post(f"/threads/{lost}/runs", json=asking(), headers=as_bob))
    bobs = keys.pop("bob")
    async with serve_api(worker=True, loaded=sealed) as http:
        http.headers.update(ANN)
        shown = {
            one["metadata"]["kind"]: one["metadata"]
            for one in await done(http.post("/threads/search", json={}))
            if "kind" in one["metadata"]
        }
        assert shown["mine"]["x"] == 1
        listed = {
            one["thread_id"]: one["metadata"] for one in await done(http.post("/threads/search", json={}))
        }
        assert "there is no key of 'bob'" in listed[lost]["__unreadable__"]
        refused = await http.patch(f"/threads/{lost}", json={"metadata": {"x": 2}})
        assert (refused.status_code, refused.json()["code"]) == (500, "encryption_failed")
        values = await done(http.post(f"/threads/{mine}/runs/wait", json=asking()))
        assert values["secret"] == SECRET

        async def ended() -> Any:
            found = await done(http.get(f"/threads/{lost}/runs/{run['run_id']}"))
            return found["status"] == "error"

        await until(ended, deadline_s=30)
        keys["bob"] = bobs
        metadata = (await done(http.get(f"/threads/{lost}")))["metadata"]
        assert metadata["x"] == 1


async def test_who_answers_what_can_no_longer_be_decrypted_is_told_so(
    vault: httpx.AsyncClient, keys: dict[str, Any]
) -> None:
    as_bob = {"x-encryption-context": base64.b64encode(b'{"owner": "bob"}').decode()}
    thread = await new_thread(vault)
    await done(vault.post(f"/threads/{thread}/runs/wait", json=asking(), headers=as_bob))
    shown = await done(vault.get(f"/threads/{thread}"))
    [[question]] = shown["interrupts"].values()
    del keys["bob"]
    again = {"assistant_id": "vault", "command": {"resume": "yes"}}
    refused = await vault.post(f"/threads/{thread}/runs", json=again)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "there is no key of 'bob'" in refused.json()["detail"]
    bridged = await vault.post("/ag-ui/vault", json=wanted("yes", thread_id=thread))
    assert (bridged.status_code, "there is no key of 'bob'" in bridged.text) == (409, True)
    for method, params in (
        ("run.start", {"assistant_id": "vault", "input": "yes"}),
        ("input.respond", {"namespace": [], "interrupt_id": question["id"], "response": "yes"}),
    ):
        command = {"id": 1, "method": method, "params": params}
        told = await done(vault.post(f"/threads/{thread}/commands", json=command))
        assert (told["type"], told["message"][:4]) == ("error", "409:"), told


async def test_what_a_client_writes_is_never_taken_for_what_is_encrypted(vault: httpx.AsyncClient) -> None:
    head = json.dumps({"context": {"owner": "bob"}, "model": "store", "field": "value"}).encode()
    forged = b"\x00\x01ISEAL1B" + len(head).to_bytes(4) + head + b"0" * 40
    for body in (b"\x00\x01ISEAL1B\0\0\0\2{}", b"\x00\x01ISEAL1J{}", b"\x00\x01ISEAL1B", forged):
        text = f"interlock-sealed:{base64.b64encode(body).decode()}"
        item = {"namespace": ["forged", text], "key": text, "value": {"text": text}}
        await done(vault.put("/store/items", json=item))
        found = await done(vault.post("/store/items/search", json={"namespace_prefix": item["namespace"]}))
        assert [{name: one[name] for name in item} for one in found["items"]] == [item]
        named = await done(vault.post("/store/namespaces", json={"prefix": ["forged"]}))
        assert item["namespace"] in named["namespaces"]
        made = {"graph_id": "vault", "name": text, "description": text}
        assistant = await done(vault.post("/assistants", json=made))
        shown = await done(vault.get(f"/assistants/{assistant['assistant_id']}"))
        assert {name: shown[name] for name in made} == made


MARKS: list[Any] = [
    {},
    {"context": 1, "model": "thread", "field": "metadata"},
    {"context": {}, "model": ["thread"], "field": {}},
    {"context": {}, "model": "thread", "field": "metadata", "bare": True},
]


async def test_a_key_that_looks_like_a_mark_from_before_hides_no_list(
    serve_api: ServeApi, plain: Catalog, sealed: Catalog
) -> None:
    async with serve_api(loaded=plain) as http:
        http.headers.update(ANN)
        made = [await new_thread(http, kind="old", __sealed__=mark) for mark in MARKS]
    async with serve_api(loaded=sealed) as http:
        http.headers.update(ANN)
        listed = {one["thread_id"]: one for one in await done(http.post("/threads/search", json={}))}
        assert listed.keys() == set(made)
        assert [listed[thread]["metadata"].get("__sealed__") for thread in made[:3]] == MARKS[:3]
        assert "lost its value" in listed[made[3]]["metadata"]["__unreadable__"]


async def test_where_only_bytes_are_encrypted_a_mark_is_refused_too(
    serve_api: ServeApi, project: Project, tmp_path: Any
) -> None:
    file = tmp_path / "blobs.py"
    file.write_text(
        "from langgraph_sdk import Encryption\nencryption = Encryption()\n"
        "@encryption.encrypt.blob\nasync def seal(ctx, blob):\n    return blob[::-1]\n"
        "@encryption.decrypt.blob\nasync def unseal(ctx, blob):\n    return blob[::-1]\n"
    )
    blobs = replace(project, hooks={**project.hooks, "encryption.path": f"{file}:encryption"})
    async with serve_api(loaded=load_catalog(blobs)) as http:
        http.headers.update(ANN)
        mark = {"__sealed__": {"context": {}, "model": "store", "field": "value"}}
        refused = await http.post("/threads", json={"metadata": mark})
        assert (refused.status_code, refused.json()["code"]) == (422, "encryption_failed")
        item = {"namespace": ["marks"], "key": "one"}
        refused = await http.put("/store/items", json=item | {"value": mark})
        assert (refused.status_code, "'__sealed__'" in refused.json()["detail"]) == (422, True)
        inside = {"list": [mark], "deep": mark}
        await done(http.put("/store/items", json=item | {"value": inside}))
        assert (await done(http.get("/store/items?namespace=marks&key=one")))["value"] == inside


async def test_what_was_stored_before_is_read_and_encrypted_from_then_on(
    serve_api: ServeApi, plain: Catalog, sealed: Catalog, database_url: str
) -> None:
    async with serve_api(worker=True, loaded=plain) as http:
        http.headers.update(ANN)
        thread = await new_thread(http, kind="old")
        await done(http.post(f"/threads/{thread}/runs/wait", json=asking(input={"secret": "long ago"})))
    async with serve_api(worker=True, loaded=sealed) as http:
        http.headers.update(ANN)
        again = {"assistant_id": "vault", "command": {"resume": SECRET}}
        values = await done(http.post(f"/threads/{thread}/runs/wait", json=again))
        assert (values["secret"], values["count"], values["answer"]) == ("long ago", 1, SECRET)
    assert places_of(SECRET, database_url) == set()


async def test_a_server_without_the_handlers_does_not_start_on_what_they_encrypted(
    serve_api: ServeApi, plain: Catalog, sealed: Catalog
) -> None:
    async with serve_api(loaded=sealed) as http:
        http.headers.update(ANN)
        await new_thread(http, x=1)
    with pytest.raises(SchemaMismatch, match=r"encryption\.path"):
        async with serve_api(loaded=plain):
            pass


def test_handlers_that_encrypt_what_they_cannot_decrypt_are_refused_at_start(
    project: Project, tmp_path: Any
) -> None:
    file = tmp_path / "half.py"
    file.write_text(
        "from langgraph_sdk import Encryption\nencryption = Encryption()\n"
        "@encryption.encrypt.json\nasync def seal(ctx, data):\n    return data\nnothing = 1\n"
    )
    for name, reason in (("encryption", "decrypt.json"), ("nothing", "not a `langgraph_sdk.Encryption`")):
        half = replace(project, hooks={"encryption.path": f"{file}:{name}"})
        with pytest.raises(CatalogError, match=reason):
            load_catalog(half)
