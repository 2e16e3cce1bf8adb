"""The vectors of the store's items: written with an item, and made anew when the configuration changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from . import vector_index
from .database import Connection, Database, jsonb
from .embedding import (
    MOST_TEXTS,
    EmbeddingFailed,
    IndexSpec,
    StoreIndex,
    Vector,
    embedded,
    texts_of,
    vector_text,
)
from .queries import load_queries

log = structlog.get_logger(__name__)

_QUERIES = load_queries(__file__)
_BATCH = 64
_START: tuple[str, list[str], str] = ("", [], "")

_Address = Mapping[str, Any]
"""Tenant, namespace and key of an item."""


async def replace(
    connection: Connection,
    items: Sequence[_Address],
    vectors: Sequence[Sequence[Vector]],
    spec: IndexSpec | None,
) -> None:
    """Give items, which the caller has locked, these vectors and no others."""
    if not items:
        return
    await connection.execute(_QUERIES.delete_vectors, {"items": jsonb(items)})
    rows = [
        {**item, "place": place, "embedding": vector_text(vector)}
        for item, found in zip(items, vectors, strict=True)
        for place, vector in enumerate(found)
    ]
    if rows and spec is not None:
        await connection.execute(_QUERIES.insert_vectors, {"vectors": jsonb(rows), "model": spec.model})


@dataclass(slots=True)
class Backfill:
    """Embeds, round by round, the items that were stored under another configuration, or without one.

    Until then a search finds them unranked, after all that are ranked. Any number of processes may do it at
    once: what one has embedded is not stale for the next.
    """

    database: Database
    index: StoreIndex
    _after: tuple[str, list[str], str] = field(default=_START)

    async def round(self) -> int:
        """Embed what there is; returns how many items. An item that cannot be embedded is tried in the next.

        The round ends early when all of a batch failed; the next goes on behind it.
        """
        async with self.database.connection() as connection:
            if not await vector_index.in_force(connection, self.index.spec):
                log.warning(
                    "items_not_embedded",
                    model=self.index.spec.model,
                    advice="another process uses another `store.index`; give all the same, then restart them",
                )
                return 0
        done = 0
        while batch := await self._stale():
            last = batch[-1]
            self._after = (last["tenant_id"], last["namespace"], last["key"])
            embedded_now = await self._embed(batch)
            if not embedded_now:
                return done
            done += embedded_now
        self._after = _START
        return done

    async def _stale(self) -> list[dict[str, Any]]:
        tenant_id, namespace, key = self._after
        return await self.database.fetch_all(
            _QUERIES.stale_items,
            {
                "recipe": self.index.spec.recipe,
                "tenant_id": tenant_id,
                "namespace": namespace,
                "key": key,
                "limit": _BATCH,
            },
        )

    async def _embed(self, batch: list[dict[str, Any]]) -> int:
        """Embed all at once, or in parts, if it is too much or fails, so that a bad one stops no other."""
        try:
            texts = [texts_of(item["value"], item["paths"], self.index.spec) for item in batch]
            # Their vectors are held at once, and written as one parameter.
            if len(batch) == 1 or sum(map(len, texts)) <= MOST_TEXTS:
                return await self._embed_together(batch, texts)
        except (EmbeddingFailed, ValueError) as error:
            if len(batch) == 1:
                log.warning("item_not_embedded", key=batch[0]["key"], error=str(error))
                return 0
            if not await self._model_answers():
                return 0
        half = len(batch) // 2
        return await self._embed(batch[:half]) + await self._embed(batch[half:])

    async def _model_answers(self) -> bool:
        try:
            await self.index.embedder.query("ok")
        except EmbeddingFailed as error:
            log.warning("embedding_failed", error=str(error))
            return False
        return True

    async def _embed_together(self, batch: list[dict[str, Any]], texts: list[list[str]]) -> int:
        spec = self.index.spec
        vectors = await embedded(self.index, texts)
        rows = [
            {name: item[name] for name in ("tenant_id", "namespace", "key", "version")} | {"place": place}
            for place, item in enumerate(batch)
        ]
        async with self.database.transaction() as connection:
            marked = await connection.execute(
                _QUERIES.mark_embedded, {"recipe": spec.recipe, "items": jsonb(rows)}
            )
            places = [row["place"] for row in await marked.fetchall()]
            addresses = [
                {name: batch[place][name] for name in ("tenant_id", "namespace", "key")} for place in places
            ]
            await replace(connection, addresses, [vectors[place] for place in places], spec)
        return len(batch)
