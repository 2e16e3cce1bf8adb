"""The long-term store with an index: nearest in meaning first, and never anybody else's items."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import psycopg
import pytest
from langgraph.store.base.embed import EmbeddingsLambda
from langgraph.store.memory import InMemoryStore
from structlog.testing import capture_logs

from interlock.checkpoints import vector_index
from interlock.checkpoints.database import Database
from interlock.checkpoints.embedding import EmbeddingFailed, IndexSpec, StoreIndex
from interlock.checkpoints.store import PostgresStore
from interlock.checkpoints.store_vectors import Backfill
from interlock.checkpoints.vector_index import VectorsUnavailable

from ..meaning import DIMS, Topics, topics_index, topics_of
from .conftest import ServeApi

VALUES: dict[str, tuple[dict[str, Any], Any]] = {
    "pets": ({"title": "my dog", "text": "a puppy and a kitten"}, None),
    "menu": ({"title": "dinner", "text": "bread and soup"}, None),
    "trip": ({"title": "journey", "text": "train ticket"}, None),
    "secret": ({"title": "dog", "text": "cat"}, False),
    "titled": ({"title": "loan from a bank", "text": "dog dog dog"}, ["title"]),
    "parts": ({"title": "", "chapters": [{"t": "hotel"}, {"t": "horse"}, {"t": 5}]}, ["chapters[*].t"]),
    "nested": ({"a": {"b": "cook"}, "c": "price"}, ["a.b", "nothing.here"]),
    "both": ({"title": "plane", "text": "invoice"}, ["{title,text}"]),
    "empty": ({}, ["title"]),
}


@pytest.fixture
def index(database_url: str) -> StoreIndex:
    """An index whose model notes what it was asked."""
    found = topics_index(fields=("title", "text"))
    vector_index.prepare(database_url, found.spec)
    return found


@pytest.fixture
async def store(database: Database, index: StoreIndex) -> PostgresStore:
    return PostgresStore(database, tenant_id="acme", index=index)


def oracle() -> InMemoryStore:
    return InMemoryStore(
        index={
            "embed": EmbeddingsLambda(lambda texts: [topics_of(text) for text in texts]),
            "dims": DIMS,
            "fields": ["title", "text"],
        }
    )


@pytest.mark.parametrize("query", ["a kitten", "cook dinner", "salary", "hotel", "price"])
@pytest.mark.parametrize("wanted", [None, {"title": "dog"}, {"title": {"$ne": "dog"}}], ids=str)
async def test_ranking_scores_and_filters_agree_with_the_store_of_langgraph(
    store: PostgresStore, query: str, wanted: dict[str, Any] | None
) -> None:
    theirs = oracle()
    for key, (value, paths) in VALUES.items():
        await store.aput(("docs",), key, value, index=paths)
        await theirs.aput(("docs",), key, value, index=paths)
    ours = await store.asearch(("docs",), query=query, filter=wanted, limit=50)
    expected = await theirs.asearch(("docs",), query=query, filter=wanted, limit=50)
    scores = {item.key: item.score for item in expected}
    assert {item.key: item.score is None for item in ours} == {k: s is None for k, s in scores.items()}
    ranked = [item for item in ours if item.score is not None]
    assert [item.score for item in ranked] == pytest.approx([scores[item.key] for item in ranked], abs=1e-5)
    assert [item.score for item in ranked] == sorted((item.score for item in ranked), reverse=True)
    # What is not embedded comes behind all that is.
    assert all(item.score is None for item in ours[len(ranked) :])


async def test_an_update_is_found_by_its_new_text_and_no_more_by_its_old(store: PostgresStore) -> None:
    await store.aput(("docs",), "k", {"title": "dog", "text": "puppy"})
    await store.aput(("docs",), "k", {"title": "bread"})
    [animals] = await store.asearch(("docs",), query="dog")
    [food] = await store.asearch(("docs",), query="soup")
    assert animals.score == pytest.approx(0.0, abs=0.2)
    assert food.score == pytest.approx(1.0, abs=0.1)
    await store.aput(("docs",), "k", {"title": "bread"}, index=False)
    [unranked] = await store.asearch(("docs",), query="soup")
    assert unranked.score is None


async def test_pages_of_a_ranked_search_cover_every_item_once(store: PostgresStore) -> None:
    for number in range(12):
        words = " ".join(["dog"] * (number + 1) + ["loan"] * 3)
        await store.aput(("docs",), f"k{number}", {"title": words})
        await store.aput(("docs",), f"u{number}", {"title": "dog"}, index=False)
    whole = [item.key for item in await store.asearch(("docs",), query="puppy", limit=100)]
    paged = []
    for offset in range(0, 30, 5):
        found = await store.asearch(("docs",), query="puppy", limit=5, offset=offset)
        paged += [item.key for item in found]
    assert paged == whole
    assert whole[:12] == [f"k{number}" for number in reversed(range(12))]


async def test_a_failing_model_stores_nothing_of_a_batch(store: PostgresStore, index: StoreIndex) -> None:
    await store.aput(("docs",), "k", {"title": "dog"})
    index.embedder.fails = True  # type: ignore[attr-defined]
    with pytest.raises(EmbeddingFailed, match="not there"):
        await store.aput(("docs",), "k", {"title": "bread"})
    with pytest.raises(EmbeddingFailed):
        await store.asearch(("docs",), query="dog")
    await store.aput(("docs",), "plain", {"title": "soup"}, index=False)
    index.embedder.fails = False  # type: ignore[attr-defined]
    [first, second] = await store.asearch(("docs",), query="dog")
    assert (first.key, first.value, second.key) == ("k", {"title": "dog"}, "plain")


async def test_two_puts_of_one_key_at_once_leave_the_vectors_of_the_value_that_stays(
    database: Database, store: PostgresStore
) -> None:
    texts = ["dog cat", "bread soup", "train plane", "loan price"]
    for _ in range(10):
        puts = [store.aput(("docs",), "k", {"title": text, "text": text}) for text in texts * 2]
        await asyncio.gather(*puts)
        item = await store.aget(("docs",), "k")
        [found] = await store.asearch(("docs",), query=item.value["title"])
        assert found.score == pytest.approx(1.0, abs=1e-5)
        rows = await database.fetch_all(b"SELECT place FROM interlock.store_vectors ORDER BY place")
        assert [row["place"] for row in rows] == [0]


async def test_vectors_go_with_their_item(database: Database, store: PostgresStore) -> None:
    await store.aput(("docs",), "k", {"title": "dog"})
    await store.adelete(("docs",), "k")
    assert await database.fetch_all(b"SELECT FROM interlock.store_vectors") == []


async def test_an_item_cannot_have_more_texts_than_can_be_embedded(store: PostgresStore) -> None:
    many = {"parts": [f"dog {number}" for number in range(1001)]}
    with pytest.raises(ValueError, match="find 1001 texts; an item can have 1000"):
        await store.aput(("docs",), "k", many, index=["parts[*]"])
    with pytest.raises(ValueError, match="path"):
        await store.aput(("docs",), "k", many, index=["a\0b"])
    assert await store.aget(("docs",), "k") is None


async def test_a_long_item_gives_the_best_of_its_parts(store: PostgresStore) -> None:
    await store.aput(("docs",), "long", {"p": ["bread"] * 50 + ["dog loan"]}, index=["p[*]"])
    await store.aput(("docs",), "short", {"p": ["dog cat loan loan loan"]}, index=["p[*]"])
    [first, second] = await store.asearch(("docs",), query="dog loan")
    assert (first.key, second.key) == ("long", "short")


async def test_a_text_of_any_characters_can_be_asked_for(store: PostgresStore) -> None:
    await store.aput(("docs",), "k", {"title": "dog \x00 🙂"})
    [found] = await store.asearch(("docs",), query="puppy \x00 '; DROP TABLE x; --")
    assert found.score == pytest.approx(1.0, abs=1e-5)


# --- what was stored under another configuration ---------------------------------------------------


async def test_items_of_another_model_are_not_ranked_until_they_are_embedded_anew(
    database: Database, database_url: str, store: PostgresStore
) -> None:
    await store.aput(("docs",), "old", {"title": "dog", "text": "cat"})
    await store.aput(("docs",), "off", {"title": "dog"}, index=False)
    await PostgresStore(database, tenant_id="other").aput(("docs",), "theirs", {"title": "dog"})
    changed = topics_index(embed="topics-2", fields=("title",))
    vector_index.prepare(database_url, changed.spec)
    newer = PostgresStore(database, tenant_id="acme", index=changed)
    await newer.aput(("docs",), "new", {"title": "bread"})
    before = {item.key: item.score for item in await newer.asearch(("docs",), query="dog")}
    assert before["old"] is None
    assert before["new"] is not None
    assert await Backfill(database, changed).round() == 2
    assert await Backfill(database, changed).round() == 0
    after = {item.key: item.score for item in await newer.asearch(("docs",), query="dog")}
    assert after["old"] == pytest.approx(1.0, abs=1e-5)
    assert after["off"] is None
    rows = await database.fetch_all(
        b"SELECT DISTINCT tenant_id, model FROM interlock.store_vectors ORDER BY 1"
    )
    assert [(row["tenant_id"], row["model"]) for row in rows] == [
        ("acme", changed.spec.model),
        ("other", changed.spec.model),
    ]


async def test_whoever_is_configured_otherwise_does_not_undo_the_work_of_others(
    database: Database, database_url: str, index: StoreIndex, store: PostgresStore
) -> None:
    await store.aput(("docs",), "k", {"title": "dog"})
    changed = topics_index(embed="topics-2")
    vector_index.prepare(database_url, changed.spec)
    assert await Backfill(database, changed).round() == 1
    assert await Backfill(database, index).round() == 0
    with pytest.raises(VectorsUnavailable, match="another configuration; run `interlock migrate`"):
        vector_index.verify(database_url, index.spec)


async def test_an_item_that_cannot_be_embedded_does_not_stop_the_rest(
    database: Database, index: StoreIndex
) -> None:
    plain = PostgresStore(database, tenant_id="acme")
    for number in range(20):
        text = "unembeddable" if number in (0, 7) else "dog"
        await plain.aput(("docs",), f"k{number:02}", {"title": text})
    backfill = Backfill(database, index)
    assert await backfill.round() == 18
    index.embedder.fails = True  # type: ignore[attr-defined]
    assert await backfill.round() == 0
    store = PostgresStore(database, tenant_id="acme", index=index)
    index.embedder.fails = False  # type: ignore[attr-defined]
    found = await store.asearch(("docs",), query="puppy", limit=100)
    assert [item.key for item in found if item.score is None] == ["k07", "k00"]


async def test_a_put_during_the_embedding_of_its_older_value_wins(
    database: Database, index: StoreIndex
) -> None:
    """The model takes its time; what was stored meanwhile keeps its own vectors."""
    plain = PostgresStore(database, tenant_id="acme")
    store = PostgresStore(database, tenant_id="acme", index=index)
    await plain.aput(("docs",), "k", {"title": "dog"})

    class Slow(Topics):
        async def documents(self, texts: Any) -> list[list[float]]:
            if "dog" in texts:
                await store.aput(("docs",), "k", {"title": "bread"})
            return await super().documents(texts)

    await Backfill(database, StoreIndex(index.spec, Slow())).round()
    [found] = await store.asearch(("docs",), query="soup")
    assert found.score == pytest.approx(1.0, abs=1e-5)


async def test_an_index_is_made_while_others_read_and_write_and_start(
    database: Database, database_url: str, store: PostgresStore, index: StoreIndex
) -> None:
    """O46: a filled table is not locked while its index is built, and eight starters make one."""
    for number in range(200):
        await store.aput(("docs",), f"k{number}", {"title": random.choice(["dog", "bread", "loan"])})
    other = IndexSpec("topics", DIMS, fields=("title",))
    ended = asyncio.Event()
    writes = 0

    async def write() -> None:
        nonlocal writes
        while not ended.is_set():
            await store.aput(("docs",), f"w{writes}", {"title": "cat"})
            writes += 1

    writing = asyncio.create_task(write())
    with concurrent.futures.ThreadPoolExecutor(8) as starters:
        loop = asyncio.get_running_loop()
        made = await asyncio.gather(
            *(loop.run_in_executor(starters, vector_index.prepare, database_url, other) for _ in range(8))
        )
    ended.set()
    await writing
    assert sorted(made) == [False] * 7 + [True]
    assert writes > 0
    async with database.connection() as connection:
        assert await vector_index.in_force(connection, other)
        assert not await vector_index.in_force(connection, index.spec)


async def test_what_a_killed_build_has_left_is_built_again(
    database: Database, database_url: str, index: StoreIndex
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
            (f"interlock.{index.spec.index_name}",),
        )
    with pytest.raises(VectorsUnavailable):
        vector_index.verify(database_url, index.spec)
    assert vector_index.prepare(database_url, index.spec)
    vector_index.verify(database_url, index.spec)


async def test_a_model_that_fails_is_a_502_and_nothing_is_stored(
    index: StoreIndex, serve_api: ServeApi
) -> None:
    async with serve_api(index=index) as http:
        item = {"namespace": ["a"], "key": "k", "value": {"title": "dog"}}
        index.embedder.fails = True  # type: ignore[attr-defined]
        for answer in (
            await http.put("/store/items", json=item),
            await http.post("/store/items/search", json={"query": "dog"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (502, "model_failed")
            assert "nothing was stored" in answer.json()["detail"]
        missing = await http.get("/store/items", params={"namespace": "a", "key": "k"})
        assert missing.json() is None
        too_many = {"value": {"p": [f"x{number}" for number in range(1001)]}, "index": ["p[*]"]}
        index.embedder.fails = False  # type: ignore[attr-defined]
        refused: httpx.Response = await http.put("/store/items", json=item | too_many)
        assert (refused.status_code, "1001 texts" in refused.json()["detail"]) == (422, True)


class Breaks(Topics):
    """An embedder with a defect."""

    async def documents(self, texts: Sequence[str]) -> list[list[float]]:
        raise RuntimeError("a defect")


async def test_a_defect_in_what_the_worker_does_beside_ends_neither_it_nor_its_runs(
    database_url: str, serve_api: ServeApi, until: Callable[..., Awaitable[Any]]
) -> None:
    index = topics_index(Breaks(), fields=("title",))
    vector_index.prepare(database_url, index.spec)
    async with serve_api() as http:
        item = {"namespace": ["a"], "key": "k", "value": {"title": "dog"}}
        assert (await http.put("/store/items", json=item)).status_code == 204
    with capture_logs() as logs:
        async with serve_api(worker=True, index=index) as http:
            await until(lambda: "sweep_defect" in [entry["event"] for entry in logs])
            said = await http.post("/runs/wait", json={"assistant_id": "abc", "input": {"trace": []}})
            assert said.json() == {"trace": ["A", "B", "C"]}
