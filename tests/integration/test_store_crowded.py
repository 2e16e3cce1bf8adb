"""Search by meaning among ten thousand items: as many as there are, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import sql

from interlock.checkpoints import store_search, vector_index
from interlock.checkpoints.database import Database
from interlock.checkpoints.embedding import IndexSpec, StoreIndex
from interlock.server.embedded import EmbeddedPostgres

from ..meaning import Numbers, cosine
from ..servers import fresh_database
from .conftest import ServeApi, api_key

MANY = 10_000
NUMBERS = Numbers(32)
INDEX = StoreIndex(IndexSpec("numbers", NUMBERS.dims), NUMBERS)


@pytest.fixture(scope="module")
def crowded(
    postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], template_database: str
) -> Iterator[str]:
    """A database with ten thousand items of one tenant, and a few of another one among them."""
    name = "interlock_crowded"
    admin.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template_database)
        )
    )
    items = [
        {
            "tenant": "small" if number % 1000 == 7 else "large",
            "namespace": ["all", f"part{number % 4}"],
            "key": f"k{number}",
            "value": {"n": number, "kind": "rare" if number % 2500 == 1 else "common"},
            "embedding": NUMBERS.direction(f"k{number}"),
        }
        for number in range(MANY)
    ]
    with psycopg.connect(postgres.url_of(name), autocommit=True) as connection:
        given = orjson.dumps(items).decode()
        connection.execute(
            b"""INSERT INTO interlock.store_items (tenant_id, namespace, key, value, embedded_by)
            SELECT tenant, namespace, key, value, %s FROM jsonb_to_recordset(%s::jsonb)
            AS r (tenant text, namespace text[], key text, value jsonb)""",
            (INDEX.spec.recipe, given),
        )
        connection.execute(
            b"""INSERT INTO interlock.store_vectors (tenant_id, namespace, key, place, model, embedding)
            SELECT tenant, namespace, key, 0, %s, embedding FROM jsonb_to_recordset(%s::jsonb)
            AS r (tenant text, namespace text[], key text, embedding real[])""",
            (INDEX.spec.model, given),
        )
        vector_index.prepare(postgres.url_of(name), INDEX.spec)
        connection.execute(b"ANALYZE")
    yield name
    admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, admin: psycopg.Connection[Any], crowded: str) -> Iterator[str]:
    """The crowded database, for this test alone."""
    yield from fresh_database(postgres, admin, template=crowded)


def nearest(query: str, *, limit: int, where: Any = lambda number: True) -> list[str]:
    target = NUMBERS.direction(query)
    numbers = [number for number in range(MANY) if where(number)]
    ordered = sorted(numbers, key=lambda n: cosine(target, NUMBERS.direction(f"k{n}")), reverse=True)
    return [f"k{number}" for number in ordered[:limit]]


def large(number: int) -> bool:
    return number % 1000 != 7


async def test_among_ten_thousand_items_a_search_gives_as_many_as_it_can_and_only_visible_ones(
    serve_api: ServeApi,
) -> None:
    keys = [api_key("l", "large"), api_key("s", "small")]
    async with serve_api(index=INDEX, auth={"api_keys": keys}) as http:

        async def search(key: str, **wanted: Any) -> list[str]:
            body = {"namespace_prefix": ["all"], "query": "what is near?", **wanted}
            answer = await http.post("/store/items/search", json=body, headers={"x-api-key": key})
            assert "x-interlock-shortfall" not in answer.headers
            return [item["key"] for item in answer.json()["items"]]

        # The index is approximate: most of the true ones, and always as many as were asked for.
        for limit in (1, 10, 100):
            found = await search("l", limit=limit)
            assert len(set(found)) == limit
            assert all(large(int(key[1:])) for key in found)
            assert len(set(found) & set(nearest("what is near?", limit=limit, where=large))) >= 0.8 * limit
        # A tenant of ten, a part of the tree and a rare filter are all found in full.
        small = nearest("what is near?", limit=MANY, where=lambda n: not large(n))
        assert await search("s", limit=100) == small
        part = nearest("what is near?", limit=20, where=lambda n: large(n) and n % 4 == 2)
        assert await search("l", namespace_prefix=["all", "part2"], limit=20) == part
        rare = nearest("what is near?", limit=50, where=lambda n: n % 2500 == 1)
        assert await search("l", filter={"kind": "rare"}, limit=50) == rare
        assert await search("l", filter={"kind": "none"}, limit=50) == []
        assert await search("l", namespace_prefix=["al"], limit=50) == []
        pages = [await search("l", limit=100, offset=offset) for offset in (0, 100, 1000, 9900)]
        assert [len(set(page)) for page in pages] == [100, 100, 100, 90]


async def test_what_could_not_be_compared_is_counted_in_a_header_and_a_metric(
    serve_api: ServeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_search, "COMPARED_AT_MOST", 500)
    async with serve_api(index=INDEX, auth={"api_keys": [api_key("l", "large", "admin")]}) as http:
        http.headers["x-api-key"] = "l"
        body = {"query": "far", "limit": 50, "offset": 2000}
        answer = await http.post("/store/items/search", json=body)
        assert (len(answer.json()["items"]), answer.headers["x-interlock-shortfall"]) == (50, "50")
        assert "store_search_shortfall_items_total 50.0" in (await http.get("/metrics")).text


async def test_a_search_of_many_items_goes_through_the_index(database: Database) -> None:
    plans: list[str] = []
    statement = b"\n".join(
        (
            b"EXPLAIN",
            store_search._QUERIES.visible,
            store_search._QUERIES.near.replace(b"{dims}", str(NUMBERS.dims).encode()),
        )
    )
    for prefix in (None, ["all"]):
        parameters = {
            "tenant_id": "large",
            "lower": prefix,
            "upper": ["all\x01"] if prefix else None,
            "conditions": "[]",
            "model": INDEX.spec.model,
            "query": orjson.dumps(NUMBERS.direction("x")).decode(),
            "candidates": 40,
        }
        rows = await database.fetch_all(statement, parameters)
        plans.append("\n".join(row["QUERY PLAN"] for row in rows))
    assert [INDEX.spec.index_name in plan for plan in plans] == [True, True], "\n".join(plans)
