"""What nobody should ask of the store's index, and models and databases that nobody should have."""

from __future__ import annotations

import asyncio
import random
import string
from typing import Any

import psycopg
import pytest
from langgraph.store.base import PutOp
from langgraph.store.base.embed import EmbeddingsLambda

from interlock.checkpoints import vector_index
from interlock.checkpoints.database import Database
from interlock.checkpoints.embedding import EmbeddingFailed, StoreIndex
from interlock.checkpoints.store import PostgresStore
from interlock.checkpoints.store_vectors import Backfill
from interlock.checkpoints.vector_index import VectorsUnavailable
from interlock.server.runs.embedding import ModelEmbedder

from ..meaning import Topics, topics_index
from .conftest import ServeApi


def noise(length: int) -> str:
    return "".join(random.Random(length).choices(string.ascii_letters, k=length))


@pytest.fixture
def index(database_url: str) -> StoreIndex:
    found = topics_index(fields=("title",))
    vector_index.prepare(database_url, found.spec)
    return found


@pytest.mark.parametrize(
    ("paths", "status"),
    [
        ([noise(5_000)], 204),
        (["a[99999999999999999999]", "a[x]", "a[", "}", ".", "..", "a[1.5]", "a[]"], 204),
        (["[" * 5_000, "{" * 5_000, ".".join(["*"] * 5_000)], 204),
        ([f"p{number}" for number in range(101)], 422),
        (["{" + "a," * 100 + "a}"], 422),
    ],
    ids=["long", "odd", "deep", "many", "repeated"],
)
async def test_paths_of_any_shape_are_stored_or_refused(
    serve_api: ServeApi, index: StoreIndex, paths: list[str], status: int
) -> None:
    item = {
        "namespace": [noise(900)],
        "key": noise(1_000),
        "value": {noise(5_000): "dog", "a": ["cat"]},
        "index": paths,
    }
    async with serve_api(index=index) as http:
        assert (await http.put("/store/items", json=item)).status_code == status


async def test_embedding_anew_and_a_batch_of_puts_do_not_wait_for_each_other_in_a_circle(
    database: Database, index: StoreIndex
) -> None:
    """Somebody holds an item: those around it are embedded, it is in the next round."""
    plain = PostgresStore(database, tenant_id="acme")
    for number in range(9):
        await plain.aput(("docs",), f"k{number}", {"title": "dog"})
    async with database.transaction() as connection:
        await connection.execute(b"SELECT FROM interlock.store_items WHERE key = 'k4' FOR UPDATE")
        await asyncio.wait_for(Backfill(database, index).round(), 30)
    store = PostgresStore(database, tenant_id="acme", index=index)
    unranked = [item.key for item in await store.asearch(("docs",), query="dog") if item.score is None]
    assert unranked == ["k4"]
    await Backfill(database, index).round()
    assert all(item.score is not None for item in await store.asearch(("docs",), query="dog"))


async def test_items_of_many_texts_are_embedded_anew_a_few_at_a_time(
    database: Database, index: StoreIndex
) -> None:
    most = 0

    class Counting(Topics):
        async def documents(self, texts: Any) -> list[list[float]]:
            nonlocal most
            most = max(most, len(texts))
            return await super().documents(texts)

    plain = PostgresStore(database, tenant_id="acme")
    for key in "abc":
        parts = [f"dog {key} {number}" for number in range(600)]
        await plain.abatch([PutOp(("docs",), key, {"p": parts}, index=["p[*]"])])
    assert await Backfill(database, StoreIndex(index.spec, Counting())).round() == 3
    assert most == 600


async def test_types_of_vectors_in_a_schema_that_is_not_searched_are_said_to_be_there(
    database_url: str,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"DROP EXTENSION IF EXISTS vector CASCADE")
        connection.execute(b"CREATE SCHEMA elsewhere")
        connection.execute(b"CREATE EXTENSION vector SCHEMA elsewhere")
    with pytest.raises(VectorsUnavailable, match=r"'elsewhere' that is not searched"):
        vector_index.prepare(database_url, topics_index().spec)


async def test_a_model_that_asks_the_process_to_end_or_returns_nonsense_only_fails() -> None:
    answers: list[Any] = [SystemExit(3), KeyboardInterrupt(), [[10**400, 1.0]], [[1.0, 2.0]]]

    async def model(_: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    embedder = ModelEmbedder("own", EmbeddingsLambda(model), dims=2, deadline_s=60)
    for _ in range(3):
        with pytest.raises(EmbeddingFailed, match=r"failed with|no lists of numbers"):
            await embedder.query("dog")
    assert await embedder.query("dog") == [1.0, 2.0]
