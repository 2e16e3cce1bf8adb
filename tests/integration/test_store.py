"""The long-term store on Postgres, as graphs use it."""

from __future__ import annotations

import asyncio
import random

import pytest
from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from interlock.checkpoints.database import Database
from interlock.checkpoints.store import LONGEST_ADDRESS, PostgresStore, delete_expired


@pytest.fixture
async def store(database: Database) -> PostgresStore:
    return PostgresStore(database, tenant_id="acme")


async def test_an_item_comes_back_as_it_was_put(store: PostgresStore) -> None:
    value = {"text": "naïve 🙂", "n": 3, "f": 1.5, "deep": {"list": [1, None, True]}}
    await store.aput(("users", "ada"), "profile", value)
    found = await store.aget(("users", "ada"), "profile")
    assert found is not None
    assert (found.namespace, found.key, found.value) == (("users", "ada"), "profile", value)
    assert found.created_at == found.updated_at
    assert found.created_at.tzinfo is not None


async def test_a_later_put_replaces_the_value_and_keeps_the_time_of_making(store: PostgresStore) -> None:
    await store.aput(("a",), "k", {"v": 1})
    first = await store.aget(("a",), "k")
    await store.aput(("a",), "k", {"v": 2})
    second = await store.aget(("a",), "k")
    assert first is not None
    assert second is not None
    assert second.value == {"v": 2}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at


async def test_a_missing_item_is_none_and_deleting_it_is_no_error(store: PostgresStore) -> None:
    assert await store.aget(("a",), "nothing") is None
    await store.adelete(("a",), "nothing")
    await store.aput(("a",), "k", {})
    await store.adelete(("a",), "k")
    assert await store.aget(("a",), "k") is None


async def test_another_tenant_sees_nothing(database: Database, store: PostgresStore) -> None:
    await store.aput(("a",), "k", {"v": 1})
    stranger = PostgresStore(database, tenant_id="other")
    assert await stranger.aget(("a",), "k") is None
    assert await stranger.asearch(()) == []
    assert await stranger.alist_namespaces() == []
    await stranger.adelete(("a",), "k")
    assert await store.aget(("a",), "k") is not None


@pytest.mark.parametrize("text", ["a\x00b", "\\u0000", "\\\x00", "\x00\\\\\x00"])
async def test_a_nul_character_survives(store: PostgresStore, text: str) -> None:
    await store.aput(("a",), "k", {"text": text})
    found = await store.aget(("a",), "k")
    assert found is not None
    assert found.value == {"text": text}
    assert [item.value for item in await store.asearch(("a",))] == [{"text": text}]


async def test_half_of_a_surrogate_pair_is_refused_with_the_key(store: PostgresStore) -> None:
    with pytest.raises(ValueError, match="'k' is not JSON"):
        await store.aput(("a",), "k", {"text": "\ud800"})


async def test_a_prefix_selects_whole_labels_only(store: PostgresStore) -> None:
    for namespace in (("docs",), ("docs", "a"), ("docs", "a", "b"), ("docs2",), ("docs\x01",), ("doc",)):
        await store.aput(namespace, "k", {"at": list(namespace)})
    found = await store.asearch(("docs",))
    assert {item.namespace for item in found} == {("docs",), ("docs", "a"), ("docs", "a", "b")}
    assert {item.namespace for item in await store.asearch(("docs", "a"))} == {
        ("docs", "a"),
        ("docs", "a", "b"),
    }
    assert len(await store.asearch((), limit=100)) == 6


FILTERS = [
    {"n": 2},
    {"n": {"$eq": 2}},
    {"n": {"$ne": 2}},
    {"n": {"$gt": 1}},
    {"n": {"$gte": 2}},
    {"n": {"$lt": 10}},
    {"n": {"$lte": 2}},
    {"n": {"$gt": 1, "$lt": 10}},
    {"kind": "b"},
    {"kind": {"$ne": "b"}},
    {"tags": ["x", "y"]},
    {"deep": {"x": 1}},
    {"deep": {"x": {"$gt": 0}}},
    {"kind": "a", "n": {"$gt": 1}},
    {"nothing": None},
    {"nothing": {"$ne": 1}},
    {"flag": True},
]


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
async def test_filters_agree_with_the_store_of_langgraph(store: PostgresStore, wanted: dict) -> None:
    oracle = InMemoryStore()
    values = [
        {"n": 1, "kind": "a", "tags": ["x"], "deep": {"x": 1}, "flag": True},
        {"n": 2, "kind": "b", "tags": ["x", "y"], "deep": {"x": 0, "y": 1}, "flag": False},
        {"n": 10, "kind": "a", "tags": [], "deep": {"x": 2}, "nothing": 1},
        {"n": 2.0, "kind": "c", "tags": ["x", "y"], "deep": {"x": 1, "y": 2}, "flag": True},
    ]
    for number, value in enumerate(values):
        await store.aput(("f",), str(number), value)
        await oracle.aput(("f",), str(number), value)
    ours = {item.key for item in await store.asearch(("f",), filter=wanted)}
    assert ours == {item.key for item in await oracle.asearch(("f",), filter=wanted)}


async def test_comparing_unlike_things_matches_nothing(store: PostgresStore) -> None:
    await store.aput(("f",), "text", {"n": "5"})
    await store.aput(("f",), "number", {"n": 5})
    assert [item.key for item in await store.asearch(("f",), filter={"n": {"$gt": 1}})] == ["number"]
    assert [item.key for item in await store.asearch(("f",), filter={"n": {"$gt": "1"}})] == ["text"]


@pytest.mark.parametrize("wanted", [{"n": {"$regex": "x"}}, {"$eq": 1}, {"n": {"$gt": 1, "$foo": 2}}])
async def test_an_unknown_operator_is_refused(store: PostgresStore, wanted: dict) -> None:
    with pytest.raises(ValueError, match="operator"):
        await store.asearch(("f",), filter=wanted)


async def test_pages_cover_all_items_once_newest_first(store: PostgresStore) -> None:
    for number in range(25):
        await store.aput(("p",), f"k{number:02}", {"n": number})
    seen = []
    for offset in range(0, 30, 7):
        seen += [item.key for item in await store.asearch(("p",), limit=7, offset=offset)]
    assert seen == [f"k{number:02}" for number in reversed(range(25))]


async def test_namespaces_are_listed_by_pattern_and_depth(store: PostgresStore) -> None:
    oracle = InMemoryStore()
    for namespace in (
        ("a", "b", "c"),
        ("a", "b", "d", "e"),
        ("a", "x", "c"),
        ("z", "b", "c"),
        ("a",),
    ):
        await store.aput(namespace, "k", {})
        await oracle.aput(namespace, "k", {})
    for conditions, depth in [
        ((), None),
        ((), 2),
        ((MatchCondition("prefix", ("a",)),), None),
        ((MatchCondition("prefix", ("a", "*")),), None),
        ((MatchCondition("suffix", ("c",)),), None),
        ((MatchCondition("suffix", ("*", "c")),), None),
        ((MatchCondition("prefix", ("a",)), MatchCondition("suffix", ("c",))), None),
        ((MatchCondition("prefix", ("a",)),), 2),
    ]:
        op = ListNamespacesOp(conditions, depth, limit=100, offset=0)
        [ours], [theirs] = await store.abatch([op]), await oracle.abatch([op])
        assert ours == theirs, op


async def test_a_batch_reads_what_was_there_before_it_and_the_last_put_of_a_key_wins(
    store: PostgresStore,
) -> None:
    await store.aput(("a",), "k", {"v": 0})
    before, found, *_ = await store.abatch(
        [
            GetOp(("a",), "k"),
            SearchOp(("a",)),
            PutOp(("a",), "k", {"v": 1}),
            PutOp(("a",), "k", {"v": 2}),
            PutOp(("a",), "gone", {"v": 3}),
            PutOp(("a",), "gone", None),
        ]
    )
    assert before.value == {"v": 0}  # type: ignore[union-attr]
    assert [item.value for item in found] == [{"v": 0}]  # type: ignore[union-attr]
    [after, gone] = await store.abatch([GetOp(("a",), "k"), GetOp(("a",), "gone")])
    assert after.value == {"v": 2}  # type: ignore[union-attr]
    assert gone is None


async def test_an_item_whose_time_is_over_is_not_seen_and_is_swept(
    database: Database, store: PostgresStore
) -> None:
    await store.aput(("t",), "short", {}, ttl=5)
    await store.aput(("t",), "long", {})
    await database.execute(b"UPDATE interlock.store_items SET expires_at = now() WHERE key = 'short'")
    assert await store.aget(("t",), "short") is None
    assert [item.key for item in await store.asearch(("t",))] == ["long"]
    async with database.connection() as connection:
        assert await delete_expired(connection, limit=10) == 1
    rows = await database.fetch_all(b"SELECT key FROM interlock.store_items ORDER BY key")
    assert [row["key"] for row in rows] == ["long"]


async def test_reading_an_item_starts_its_time_anew_unless_told_not_to(
    database: Database, store: PostgresStore
) -> None:
    async def minutes_left() -> float:
        row = await database.fetch_one(
            b"SELECT extract(epoch FROM expires_at - now())::float8 / 60 AS left FROM interlock.store_items"
        )
        assert row is not None
        return row["left"]

    await store.aput(("t",), "k", {}, ttl=10)
    shorten = b"UPDATE interlock.store_items SET expires_at = now() + interval '1 minute'"
    await database.execute(shorten)
    await store.aget(("t",), "k", refresh_ttl=False)
    await store.asearch(("t",), refresh_ttl=False)
    assert await minutes_left() < 2
    await store.aget(("t",), "k")
    assert await minutes_left() > 9
    await database.execute(shorten)
    await store.asearch(("t",))
    assert await minutes_left() > 9


async def test_a_thread_may_use_the_synchronous_methods_and_the_loop_may_not(store: PostgresStore) -> None:
    def in_a_thread() -> object:
        store.put(("s",), "k", {"v": 1})
        found = store.get(("s",), "k")
        return found and found.value

    assert await asyncio.to_thread(in_a_thread) == {"v": 1}
    with pytest.raises(asyncio.InvalidStateError, match="await"):
        store.get(("s",), "k")


async def test_puts_of_the_same_keys_in_any_order_do_not_block_each_other(store: PostgresStore) -> None:
    keys = [f"k{number}" for number in range(30)]

    async def put_all(ordered: list[str], value: int) -> None:
        await store.abatch([PutOp(("d",), key, {"v": value}) for key in ordered])

    await asyncio.gather(
        *(put_all(keys if turn % 2 else keys[::-1], turn) for turn in range(10)),
    )
    assert len({str(item.value) for item in await store.asearch(("d",), limit=100)}) == 1


@pytest.mark.parametrize(
    ("namespace", "key"),
    [
        (("a",), "\0"),
        (("a",), "\ud800"),
        (("a",), "\u9a5b" * 1000),
        (("a" * 3000,), "k"),
    ],
)
async def test_an_address_that_cannot_be_stored_is_refused_with_the_reason(
    store: PostgresStore, namespace: tuple[str, ...], key: str
) -> None:
    with pytest.raises(ValueError, match="namespace and key of an item"):
        await store.aput(namespace, key, {})
    with pytest.raises(ValueError, match="namespace and key of an item"):
        await store.aget(namespace, key)


async def test_the_longest_address_can_be_stored(store: PostgresStore) -> None:
    rng = random.Random(1)
    key = "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range((LONGEST_ADDRESS - 220) // 3))
    label = "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(66))
    await store.aput((label,), key, {"v": 1})
    assert await store.aget((label,), key) is not None
