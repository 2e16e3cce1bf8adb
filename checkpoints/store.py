"""LangGraph's long-term store on our pool, one tenant at a time."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
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
)

from .database import Connection, Database, jsonb
from .queries import load_queries

_QUERIES = load_queries(__file__)

OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
"""What a filter may ask of a field; a plain value means `$eq`."""

LONGEST_ADDRESS = 2_000
"""Bytes of a namespace and a key together; the index of the items takes no more than 2,700."""

# An escaped NUL whose backslash is not itself escaped.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


class PostgresStore(BaseStore):
    """Items of one tenant, shared by its graphs and the store API.

    Made on the loop that serves `database`. A synchronous node, which runs in a thread, may call the
    synchronous methods; the loop's own thread may not.
    """

    supports_ttl = True

    def __init__(self, database: Database, *, tenant_id: str) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._loop = asyncio.get_running_loop()

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
        """
        ordered = list(ops)
        for op in ordered:
            if isinstance(op, GetOp | PutOp):
                check_address(op.namespace, op.key)
        results: list[Result] = [None] * len(ordered)
        async with self._database.transaction() as connection:
            await self._get(connection, ordered, results)
            for place, op in enumerate(ordered):
                if isinstance(op, SearchOp):
                    results[place] = await self._search(connection, op)
                elif isinstance(op, ListNamespacesOp):
                    results[place] = await self._list(connection, op)
            await self._put(connection, [op for op in ordered if isinstance(op, PutOp)])
        return results

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

    async def _put(self, connection: Connection, ops: list[PutOp]) -> None:
        last = {(op.namespace, op.key): op for op in ops}.values()
        kept = [_item(op) for op in last if op.value is not None]
        gone = [{"namespace": op.namespace, "key": op.key} for op in last if op.value is None]
        if gone:
            await connection.execute(
                _QUERIES.delete_items, {"tenant_id": self._tenant_id, "items": jsonb(gone)}
            )
        if kept:
            await connection.execute(_QUERIES.put_items, {"tenant_id": self._tenant_id, "items": jsonb(kept)})
            await connection.execute(_QUERIES.delete_expired, {"tenant_id": self._tenant_id})

    async def _search(self, connection: Connection, op: SearchOp) -> list[SearchItem]:
        conditions = list(conditions_of(op.filter or {}))
        prefix = list(op.namespace_prefix)
        cursor = await connection.execute(
            _QUERIES.search_items,
            {
                "tenant_id": self._tenant_id,
                "lower": prefix or None,
                # Nothing lies between a label and the label with the smallest character behind it.
                "upper": [*prefix[:-1], prefix[-1] + "\x01"] if prefix else None,
                "conditions": jsonb(conditions),
                "limit": op.limit,
                "offset": op.offset,
                "refresh": op.refresh_ttl,
            },
        )
        return [SearchItem(**_fields(row)) for row in await cursor.fetchall()]

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


def check_address(namespace: Iterable[str], key: str) -> None:
    """Refuse what cannot name an item.

    Raises:
        ValueError: NUL, a lone surrogate, or too long.
    """
    labels = (*namespace, key)
    try:
        size = sum(len(label.encode()) for label in labels)
    except UnicodeEncodeError as error:
        raise ValueError(f"the namespace and key of an item are Unicode text: {error}") from error
    if any("\0" in label for label in labels):
        raise ValueError("the namespace and key of an item cannot hold the character NUL")
    if size > LONGEST_ADDRESS:
        raise ValueError(
            f"the namespace and key of an item have {size} bytes together; {LONGEST_ADDRESS} can be stored"
        )


def conditions_of(wanted: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The single conditions of a filter: a path into the value, an operator, an operand.

    Raises:
        ValueError: an operator is unknown, or stands where there is no field.
    """
    for name, operand in wanted.items():
        if name.startswith("$"):
            if not path or name not in OPERATORS:
                known = ", ".join(OPERATORS)
                raise ValueError(f"{name!r} is not an operator of a filter; known below a field: {known}")
            yield {"path": path, "operator": name, "operand": operand}
        elif isinstance(operand, dict) and operand:
            yield from conditions_of(operand, (*path, name))
        else:
            yield {"path": (*path, name), "operator": "$eq", "operand": operand}


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
    }


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "namespace": tuple(row["namespace"]),
        "key": row["key"],
        "value": row["value"] if row["exact"] is None else orjson.loads(row["exact"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
