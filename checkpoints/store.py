"""LangGraph's long-term store on our pool, one tenant at a time."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import orjson
import structlog
from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from . import store_vectors
from .database import Connection, Database, jsonb
from .embedding import StoreIndex, Vector, direction, embedded, paths_of, texts_of
from .queries import load_queries
from .sealed import About, Context, SealedJsonBytes, current_context, sealed_json
from .sealer import Sealer
from .store_search import Search

log = structlog.get_logger(__name__)

_QUERIES = load_queries(__file__)

LONGEST_ADDRESS = 2_000
"""Bytes of a namespace and a key together; the index of the items takes no more than 2,700."""

_BYTES_OF_A_LABEL = 7
"""What an array of labels needs for each on top of its text: a length, and padding."""

# An escaped NUL whose backslash is not itself escaped.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


class PostgresStore(BaseStore):
    """Items of one tenant, shared by its graphs and the store API.

    Made on the loop that serves `database`. A synchronous node, which runs in a thread, may call the
    synchronous methods; the loop's own thread may not.
    """

    supports_ttl = True

    def __init__(
        self,
        database: Database,
        *,
        tenant_id: str,
        index: StoreIndex | None = None,
        ttl_config: TTLConfig | None = None,
    ) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._index = index
        self.ttl_config = ttl_config
        self.shortfall = 0
        """Items found so far that may not be the nearest, as there was too much to compare."""
        self._loop = asyncio.get_running_loop()
        # A node may use the store from a thread of its own, which knows of no run.
        self._context = current_context()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations from another thread than the loop's."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            raise asyncio.InvalidStateError(
                "the synchronous methods of the store would block the event loop; await `aget`, `aput`, "
                "`asearch`, … or make the node synchronous"
            )
        return asyncio.run_coroutine_threadsafe(self.abatch(ops), self._loop).result()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations in one transaction: reads first, then puts, the last one of a key.

        Raises:
            ValueError: a namespace or key cannot be stored, or a value is not JSON.
            EmbeddingFailed: the model of the index failed; nothing was stored.
        """
        ordered = list(ops)
        for op in ordered:
            if isinstance(op, GetOp | PutOp):
                check_address(op.namespace, op.key)
        results: list[Result] = [None] * len(ordered)
        last = {(op.namespace, op.key): op for op in ordered if isinstance(op, PutOp)}.values()
        puts = _Puts([op for op in last if op.value is not None])
        gone = [{"namespace": op.namespace, "key": op.key} for op in last if op.value is None]
        # A model may take seconds, for which no connection is held.
        searches = [await self._planned(place, op) for place, op in enumerate(ordered) if _searches(op)]
        await puts.embed(self._index)
        await puts.seal(self._database.sealer, current_context() or self._context)
        async with self._database.transaction() as connection:
            await self._get(connection, ordered, results)
            for place, search in searches:
                results[place] = await self._search(connection, search)
            for place, op in enumerate(ordered):
                if isinstance(op, ListNamespacesOp):
                    results[place] = await self._list(connection, op)
            if gone:
                await connection.execute(
                    _QUERIES.delete_items, {"tenant_id": self._tenant_id, "items": jsonb(gone)}
                )
            await self._put(connection, puts)
        return results

    async def _planned(self, place: int, op: SearchOp) -> tuple[int, Search]:
        if not op.query or self._index is None:
            return place, Search(self._tenant_id, op)
        query = direction(await self._index.embedder.query(op.query))
        return place, Search(self._tenant_id, op, query, self._index.spec)

    async def _get(self, connection: Connection, ops: list[Op], results: list[Result]) -> None:
        wanted = [
            {"place": place, "namespace": op.namespace, "key": op.key, "refresh": op.refresh_ttl}
            for place, op in enumerate(ops)
            if isinstance(op, GetOp)
        ]
        if not wanted:
            return
        cursor = await connection.execute(
            _QUERIES.get_items, {"tenant_id": self._tenant_id, "wanted": jsonb(wanted)}
        )
        for row in await cursor.fetchall():
            results[row["place"]] = Item(**_fields(row))

    async def _put(self, connection: Connection, puts: _Puts) -> None:
        if not puts.items:
            return
        spec = self._index.spec if self._index else None
        await connection.execute(
            _QUERIES.put_items,
            {
                "tenant_id": self._tenant_id,
                "items": jsonb(puts.items),
                "embedded_by": spec.recipe if spec else "",
            },
        )
        addresses = [
            {"tenant_id": self._tenant_id, "namespace": item["namespace"], "key": item["key"]}
            for item in puts.items
        ]
        await store_vectors.replace(connection, addresses, puts.vectors, spec)

    async def _search(self, connection: Connection, search: Search) -> list[SearchItem]:
        rows, shortfall = await search.run(connection)
        if shortfall:
            self.shortfall += shortfall
            log.warning("search_shortfall", namespace=search.op.namespace_prefix, items=shortfall)
        return [SearchItem(**_fields(row), score=row["score"]) for row in rows]

    async def _list(self, connection: Connection, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        patterns = [
            {"kind": condition.match_type, "path": condition.path} for condition in op.match_conditions or ()
        ]
        cursor = await connection.execute(
            _QUERIES.list_namespaces,
            {
                "tenant_id": self._tenant_id,
                "patterns": jsonb(patterns),
                "max_depth": op.max_depth,
                "limit": op.limit,
                "offset": op.offset,
            },
        )
        return [tuple(row["namespace"]) for row in await cursor.fetchall()]


class _Puts:
    """What a batch stores, with the vectors of each item."""

    def __init__(self, ops: list[PutOp]) -> None:
        self._ops = ops
        self.items = [_item(op) for op in ops]
        self.vectors: list[list[Vector]] = [[] for _ in ops]

    async def embed(self, index: StoreIndex | None) -> None:
        if index is not None and self._ops:
            texts = [
                texts_of(op.value or {}, item["paths"], index.spec)
                for op, item in zip(self._ops, self.items, strict=True)
            ]
            self.vectors = await embedded(index, texts)

    async def seal(self, sealer: Sealer | None, context: Context) -> None:
        if sealer is None:
            return
        for op, item in zip(self._ops, self.items, strict=True):
            # Without the characters that jsonb cannot hold.
            value = orjson.loads(orjson.dumps(item["value"]))
            item["value"] = (await sealer.sealed(sealed_json("store", "value", value, context=context))).obj
            if item["exact"] is not None:
                text = orjson.dumps(op.value, option=orjson.OPT_NON_STR_KEYS)
                exact = SealedJsonBytes.of(text, About("store", "value", context))
                item["exact"] = base64.b64encode(await sealer.sealed(exact)).decode()


def _searches(op: Op) -> TypeGuard[SearchOp]:
    return isinstance(op, SearchOp)


async def delete_expired(connection: Connection, *, limit: int) -> int:
    """Remove items of all tenants whose time is over; returns how many."""
    return (await connection.execute(_QUERIES.delete_expired, {"limit": limit})).rowcount


def check_address(namespace: Iterable[str], key: str) -> None:
    """Refuse what cannot name an item.

    Raises:
        ValueError: NUL, a lone surrogate, or too long.
    """
    labels = (*namespace, key)
    try:
        size = sum(len(label.encode()) + _BYTES_OF_A_LABEL for label in labels)
    except UnicodeEncodeError as error:
        raise ValueError(f"the namespace and key of an item are Unicode text: {error}") from error
    if any("\0" in label for label in labels):
        raise ValueError("the namespace and key of an item cannot hold the character NUL")
    if size > LONGEST_ADDRESS:
        raise ValueError(
            f"the namespace and key of an item need {size} bytes together, {_BYTES_OF_A_LABEL} for each "
            f"label; {LONGEST_ADDRESS} can be stored"
        )


def _item(op: PutOp) -> dict[str, Any]:
    try:
        text = orjson.dumps(op.value, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"the value of item {op.key!r} is not JSON: {error}") from error
    searchable = _NUL.sub(rb"\1\\ufffd", text)
    return {
        "namespace": op.namespace,
        "key": op.key,
        "value": orjson.Fragment(searchable),
        "exact": None if searchable == text else base64.b64encode(text).decode(),
        "ttl_minutes": op.ttl,
        "paths": paths_of(op),
    }


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "namespace": tuple(row["namespace"]),
        "key": row["key"],
        "value": row["value"] if row["exact"] is None else orjson.loads(row["exact"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
