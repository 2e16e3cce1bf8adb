"""What the store embeds, and into what: texts of items become vectors that can be compared. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from langgraph.store.base import PutOp
from langgraph.store.base.embed import get_text_at_path

MOST_TEXTS = 1_000
"""Texts of one item that are embedded at most."""

MOST_FIELDS = 100
"""Fields that the paths of one item can name: each is looked up, and a whole document written out, anew."""

Vector = list[float]


class EmbeddingFailed(Exception):
    """The embedding model gave no vectors, or unusable ones; nothing was stored or searched."""


class Embedder(Protocol):
    """Turns texts into vectors. It has a deadline of its own and may be called from any event loop."""

    async def documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector for each text.

        Raises:
            EmbeddingFailed: it could not.
        """
        ...

    async def query(self, text: str) -> Vector:
        """The vector of what somebody asks.

        Raises:
            EmbeddingFailed: it could not.
        """
        ...


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """What is configured; known before any model is loaded."""

    embed: str
    """The model, as the configuration names it."""
    dims: int
    fields: tuple[str, ...] = ("$",)
    """Paths of the texts of an item that names none itself."""

    @property
    def model(self) -> str:
        """Only vectors of one model are compared."""
        return f"{self.embed}@{self.dims}"

    @property
    def recipe(self) -> str:
        """Items that were embedded by another recipe are embedded anew."""
        return f"{self.model} {json.dumps(self.fields)}"

    @property
    def index_name(self) -> str:
        """The index that shows which recipe is in force."""
        return f"store_vectors_hnsw_{hashlib.blake2b(self.recipe.encode(), digest_size=8).hexdigest()}"


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """A configuration and the model that serves it."""

    spec: IndexSpec
    embedder: Embedder


def paths_of(op: PutOp) -> list[str] | None:
    """The paths that are stored with an item: None for the configured ones, none to embed nothing.

    Raises:
        ValueError: one cannot be stored, or they are too many.
    """
    if op.index is None:
        return None
    paths = list(dict.fromkeys(op.index)) if op.index else []
    for path in paths:
        if "\0" in path or path != path.encode(errors="replace").decode():
            raise ValueError(f"`index` names the path {path!r}, which is no text that can be stored")
    if (fields := sum(1 + path.count(",") for path in paths)) > MOST_FIELDS:
        raise ValueError(f"the paths of `index` name {fields} fields; {MOST_FIELDS} can be embedded")
    return paths


def texts_of(value: Mapping[str, Any], paths: Sequence[str] | None, spec: IndexSpec) -> list[str]:
    """The texts of a value that are embedded, each once; an element that `[*]` finds is one of its own.

    Raises:
        ValueError: there are too many.
    """
    # As JSON holds it, which is what anybody who reads the item sees.
    plain = orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    wanted = spec.fields if paths is None else paths
    found = list(
        dict.fromkeys(text for path in wanted for text in get_text_at_path(plain, path) if text.strip())
    )
    if len(found) > MOST_TEXTS:
        raise ValueError(
            f"the paths of `index` find {len(found)} texts; an item can have {MOST_TEXTS}: "
            "name fewer, or split the item"
        )
    return found


async def embedded(index: StoreIndex, items: Sequence[Sequence[str]]) -> list[list[Vector]]:
    """The vectors of some items, whose texts are given. A text that says nothing has none.

    Raises:
        EmbeddingFailed: the model failed; a failing item fails all.
    """
    texts = list(dict.fromkeys(text for item in items for text in item))
    if not texts:
        return [[] for _ in items]
    vectors = dict(zip(texts, await index.embedder.documents(texts), strict=True))
    directions = {text: direction(vector) for text, vector in vectors.items()}
    return [[found for text in item if (found := directions[text]) is not None] for item in items]


def direction(vector: Sequence[float]) -> Vector | None:
    """The vector at length 1, which half precision can hold; None when it points nowhere.

    Raises:
        EmbeddingFailed: it has a number that is not finite.
    """
    length = math.hypot(*vector)
    if not math.isfinite(length):
        raise EmbeddingFailed("the embedding model returned a vector with a number that is not finite")
    return [number / length for number in vector] if length else None


def vector_text(vector: Vector) -> str:
    """As pgvector reads it."""
    return orjson.dumps(vector).decode()
