"""The store of a real server whose langgraph.json says how to search by meaning."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from ..servers import InterlockServer

MODEL = '''
"""One number for each topic; a file beside it says how it fails."""
import asyncio, time
from pathlib import Path
from langchain_core.embeddings import Embeddings

TOPICS = (("dog", "puppy", "cat"), ("bread", "soup", "dinner"), ("train", "ticket", "journey"))
FAULT = Path(__file__).with_name("fault")

def embed(texts):
    fault = FAULT.read_text() if FAULT.exists() else ""
    if fault == "hang":
        time.sleep(3600)
    if fault == "refuse":
        raise ConnectionError("no route to model.example with key sk-secret")
    if fault == "shape":
        return [[1.0]] * len(texts)
    if fault == "few":
        return []
    if fault == "nan":
        return [[float("nan")] * 4] * len(texts)
    words = [[w.strip('.,:{}[]"').lower() for w in text.split()] for text in texts]
    return [[float(sum(w in topic for w in ws)) for topic in TOPICS] + [0.1] for ws in words]

async def aembed(texts):
    await asyncio.sleep(0)
    return embed(texts)

class Model(Embeddings):
    def embed_documents(self, texts):
        return embed(texts)
    def embed_query(self, text):
        return embed([text])[0]

model = Model()
number = 5
'''

GRAPH = '''
"""Does with the store what its input says."""
from typing import Any, TypedDict
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore

class State(TypedDict, total=False):
    put: dict[str, Any]
    query: str
    found: list[Any]

async def use(state: State, *, store: BaseStore) -> State:
    if put := state.get("put"):
        await store.aput(("docs",), put["key"], put["value"], index=put.get("index"))
    found = await store.asearch(("docs",), query=state["query"])
    return {"found": [[item.key, item.score] for item in found]}

def use_in_a_thread(state: State, *, store: BaseStore) -> State:
    found = store.search(("docs",), query=state["query"])
    assert [[item.key, item.score] for item in found] == state["found"]
    return {}

builder = StateGraph(State)
builder.add_node("use", use)
builder.add_node("again", use_in_a_thread)
builder.add_edge(START, "use")
builder.add_edge("use", "again")
builder.add_edge("again", END)
graph = builder.compile()
'''

TOPICS = {"embed": "./model.py:embed", "dims": 4, "fields": ["title", "text"]}
StartServer = Callable[..., InterlockServer]


def project(folder: Path, **store: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(MODEL)
    (folder / "graph.py").write_text(GRAPH)
    config: dict[str, Any] = {"graphs": {"memory": "./graph.py:graph"}}
    if store:
        config["store"] = store
    (folder / "langgraph.json").write_text(json.dumps(config))
    return folder


def refusal(start: StartServer, folder: Path, **options: Any) -> str:
    server = start(project=folder, wait=False, **options)
    assert server.process.wait(60) == 1
    return server.log


async def scores(client: LangGraphClient, query: str, **wanted: Any) -> dict[str, float | None]:
    found = await client.store.search_items(("docs",), query=query, **wanted)
    return {item["key"]: item["score"] for item in found["items"]}


ITEMS: list[tuple[str, dict[str, Any], Any]] = [
    ("pets", {"title": "dog", "text": "cat", "year": 2024}, None),
    ("menu", {"title": "dinner", "text": "soup", "year": 2020}, None),
    ("trip", {"title": "journey", "text": "train", "year": "2024"}, None),
    ("hidden", {"title": "dog", "text": "puppy", "year": 2024}, False),
    ("titled", {"title": "ticket", "text": "dog", "year": 2025}, ["title"]),
]


@pytest.mark.parametrize("embed", ["./model.py:embed", "./model.py:aembed", "./model.py:model"])
async def test_items_are_found_by_what_they_mean(
    interlock_server: StartServer, tmp_path: Path, embed: str
) -> None:
    """O33: configured search by meaning, with unindexed items, chosen paths, updates and filters."""
    folder = project(tmp_path / "p", index={**TOPICS, "embed": embed})
    client = get_client(url=interlock_server(project=folder).url, api_key=None)
    for key, value, index in ITEMS:
        await client.store.put_item(("docs",), key, value, index=index)

    found = await scores(client, "a puppy")
    assert next(iter(found)) == "pets"
    assert found["pets"] == pytest.approx(1.0, abs=1e-4)
    assert (list(found)[-1], found["hidden"]) == ("hidden", None)
    assert found["titled"] == pytest.approx(0.1, abs=0.1)
    assert list(await scores(client, "a ticket"))[:2] in (["titled", "trip"], ["trip", "titled"])

    await client.store.put_item(("docs",), "pets", {"title": "bread"})
    updated = await scores(client, "soup")
    assert {key for key, score in updated.items() if score and score > 0.9} == {"pets", "menu"}
    assert (await scores(client, "puppy"))["pets"] == pytest.approx(0.1, abs=0.1)

    recent = await scores(client, "dog", filter={"year": {"$gte": 2024}})
    assert list(recent) == ["titled", "hidden"]
    assert list(await scores(client, "dog", filter={"year": "2024"})) == ["trip"]
    unranked = await client.store.search_items(("docs",))
    assert {item["score"] for item in unranked["items"]} == {None}
    assert unranked["items"][0]["key"] == "pets"

    state = {"put": {"key": "graph", "value": {"t": ["cat", "train"]}, "index": ["t[*]"]}, "query": "cat"}
    ended = await client.runs.wait(None, "memory", input=state)
    assert dict(ended["found"]) == await scores(client, "cat")
    assert ended["found"][0] == ["graph", pytest.approx(1.0, abs=1e-4)]
    await client.aclose()


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({**TOPICS, "dims": 8}, "returns vectors of 4 numbers, `store.index.dims` is 8"),
        ({"embed": "./model.py:embed"}, "`dims` must say how many numbers"),
        ({**TOPICS, "dims": 5000}, "4000"),
        ({**TOPICS, "embed": "./model.py:missing"}, "there is no `missing`"),
        ({**TOPICS, "embed": "./nowhere.py:embed"}, "no such file"),
        ({**TOPICS, "embed": "./model.py:number"}, "it must be a function"),
        ({**TOPICS, "embed": "./model.py:Model"}, "it must be a function"),
        ({**TOPICS, "embed": "nonsense"}, "it must be `provider:model`"),
        ({**TOPICS, "embed": "nobody:model"}, "'nobody:model' cannot be used"),
        ({"embed": "offline", "dims": 3}, "256 numbers"),
        ({**TOPICS, "modell": 1}, "`store.index.modell` is no setting"),
    ],
    ids=str,
)
def test_an_index_that_cannot_work_is_refused_at_start_with_the_reason(
    interlock_server: StartServer, tmp_path: Path, index: dict[str, Any], says: str
) -> None:
    """O33: wrong dims fail at start with a clear text."""
    assert says in refusal(interlock_server, project(tmp_path / "p", index=index))


def test_the_configuration_of_a_container_and_the_time_to_live_are_checked_too(
    interlock_server: StartServer, tmp_path: Path
) -> None:
    folder = project(tmp_path / "p")
    injected = {"LANGGRAPH_STORE": json.dumps({"index": {**TOPICS, "dims": 3}})}
    assert "`store.index.dims` is 3" in refusal(interlock_server, folder, env=injected)
    project(folder, ttl={"default_ttl": -1})
    assert "`store.ttl.default_ttl`" in refusal(interlock_server, folder)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("refuse", "failed with ConnectionError"),
        ("hang", "no answer in 1 s"),
        ("shape", "vectors of 1 numbers"),
        ("few", "0 vectors for 1 texts"),
        ("nan", "not finite"),
    ],
)
async def test_a_model_that_fails_stores_nothing_and_works_again_when_it_is_back(
    interlock_server: StartServer, tmp_path: Path, fault: str, says: str
) -> None:
    folder = project(
        tmp_path / "p", index={**TOPICS, "embed": "./model.py:aembed"} if fault != "hang" else TOPICS
    )
    server = interlock_server(project=folder, env={"INTERLOCK_STORE_INDEX_DEADLINE_S": "1"})
    client = get_client(url=server.url, api_key=None)
    await client.store.put_item(("docs",), "k", {"title": "dog"})
    (folder / "fault").write_text(fault)
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        put = await http.put(
            "/store/items", json={"namespace": ["docs"], "key": "k", "value": {"title": "soup"}}
        )
        search = await http.post("/store/items/search", json={"query": "dog"})
        run = await http.post("/runs/wait", json={"assistant_id": "memory", "input": {"query": "dog"}})
    for answer in (put, search):
        assert (answer.status_code, answer.json()["code"]) == (502, "model_failed"), answer.text
        assert "sk-secret" not in answer.text
    assert says in put.json()["detail"]
    assert run.json()["__error__"]["error"] in ("EmbeddingFailed", "WrongDimensions")
    # What needs no model goes on.
    assert (await client.store.get_item(("docs",), "k"))["value"] == {"title": "dog"}
    await client.store.put_item(("docs",), "plain", {"title": "x"}, index=False)
    (folder / "fault").unlink()
    assert (await scores(client, "dog"))["k"] == pytest.approx(1.0, abs=1e-4)
    await client.aclose()
    # A call that never returns does not keep the process from ending.
    assert server.terminate() == 0


async def test_a_model_that_is_away_at_the_start_does_not_keep_the_server_from_starting(
    interlock_server: StartServer, tmp_path: Path
) -> None:
    folder = project(tmp_path / "p", index=TOPICS)
    (folder / "fault").write_text("refuse")
    server = interlock_server(project=folder)
    assert "embedding_model_not_ready" in server.log
    (folder / "fault").unlink()
    client = get_client(url=server.url, api_key=None)
    await client.store.put_item(("docs",), "k", {"title": "dog"})
    assert (await scores(client, "dog"))["k"] == pytest.approx(1.0, abs=1e-4)
    await client.aclose()


async def test_word_vectors_rank_without_any_configuration_and_can_be_turned_off(
    interlock_server: StartServer, tmp_path: Path
) -> None:
    folder = project(tmp_path / "p")
    server = interlock_server(project=folder)
    client = get_client(url=server.url, api_key=None)
    texts = {"fever": "the patient has a high temperature", "car": "an automobile with a broken engine"}
    for key, text in texts.items():
        await client.store.put_item(("docs",), key, {"text": text})
    assert list(await scores(client, "vehicle repair")) == ["car", "fever"]
    assert list(await scores(client, "illness and medicine")) == ["fever", "car"]
    await client.aclose()
    server.terminate()
    off = interlock_server(project=folder, env={"INTERLOCK_STORE_INDEX_EMBED": "none"})
    client = get_client(url=off.url, api_key=None)
    assert await scores(client, "illness") == {"car": None, "fever": None}
    await client.aclose()


async def test_a_new_model_embeds_what_is_there_in_the_background(
    interlock_server: StartServer, tmp_path: Path, until: Callable[..., Awaitable[Any]]
) -> None:
    folder = project(tmp_path / "p")
    first = interlock_server(project=folder, env={"INTERLOCK_STORE_INDEX_EMBED": "none"})
    client = get_client(url=first.url, api_key=None)
    for key, value, index in ITEMS:
        await client.store.put_item(("docs",), key, value, index=index)
    await client.aclose()
    first.terminate()
    server = interlock_server(project=project(folder, index=TOPICS))
    client = get_client(url=server.url, api_key=None)

    async def all_ranked() -> bool:
        found = await scores(client, "puppy")
        return {key for key, score in found.items() if score is None} == {"hidden"}

    await until(all_ranked, deadline_s=60)
    assert next(iter(await scores(client, "puppy"))) == "pets"
    assert (await scores(client, "puppy"))["titled"] == pytest.approx(0.1, abs=0.1)
    await client.aclose()


async def test_serving_processes_ask_for_the_migration_and_then_search(
    interlock_server: StartServer, tmp_path: Path, database_url: str
) -> None:
    """O46: the index is made by a step of its own; whoever serves only checks."""
    folder = project(tmp_path / "p", index=TOPICS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP EXTENSION IF EXISTS vector CASCADE")
    assert "run `interlock migrate`" in refusal(interlock_server, folder, command="serve")
    assert "run `interlock migrate`" in refusal(interlock_server, folder, command="work")
    migrating = interlock_server("migrate", project=folder, wait=False)
    assert migrating.process.wait(60) == 0, migrating.log
    client = get_client(url=interlock_server("serve", project=folder).url, api_key=None)
    await client.store.put_item(("docs",), "k", {"title": "dog"})
    assert (await scores(client, "dog"))["k"] == pytest.approx(1.0, abs=1e-4)
    await client.aclose()


async def test_items_live_as_long_as_configured_and_are_swept(
    interlock_server: StartServer, tmp_path: Path, database_url: str, until: Callable[..., Awaitable[Any]]
) -> None:
    ttl = {"default_ttl": 60, "refresh_on_read": False, "sweep_interval_minutes": 0.005}
    client = get_client(url=interlock_server(project=project(tmp_path / "p", ttl=ttl)).url, api_key=None)
    await client.store.put_item(("docs",), "default", {"n": 1})
    await client.store.put_item(("docs",), "own", {"n": 1}, ttl=5)
    minutes = "SELECT key, round(extract(epoch FROM expires_at - now()) / 60) FROM interlock.store_items"
    with psycopg.connect(database_url, autocommit=True) as connection:

        def left() -> dict[str, int]:
            return {key: int(number) for key, number in connection.execute(minutes).fetchall()}

        assert left() == {"default": 60, "own": 5}
        connection.execute("UPDATE interlock.store_items SET expires_at = now() + interval '2 minutes'")
        await client.store.get_item(("docs",), "own")
        await client.store.search_items(("docs",))
        assert left() == {"default": 2, "own": 2}
        await client.store.get_item(("docs",), "own", refresh_ttl=True)
        assert left() == {"default": 2, "own": 5}
        await client.store.search_items(("docs",), query="n", refresh_ttl=True)
        assert left() == {"default": 60, "own": 5}
        connection.execute("UPDATE interlock.store_items SET expires_at = now() WHERE key = 'own'")
        assert await client.store.get_item(("docs",), "own") is None
        await until(lambda: list(left()) == ["default"], deadline_s=120)
        connection.execute("UPDATE interlock.store_items SET expires_at = now()")
        await until(lambda: not left(), deadline_s=120)
    assert (await client.store.list_namespaces())["namespaces"] == []
    await client.aclose()
