"""A model of meaning that is small enough to know what it must answer: one number for each topic."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from interlock.checkpoints.embedding import EmbeddingFailed, IndexSpec, StoreIndex

TOPICS = {
    "animals": ("dog", "puppy", "cat", "kitten", "horse"),
    "food": ("bread", "soup", "apple", "dinner", "cook"),
    "travel": ("train", "plane", "ticket", "hotel", "journey"),
    "money": ("bank", "loan", "salary", "price", "invoice"),
}
DIMS = len(TOPICS) + 1


def topics_of(text: str) -> list[float]:
    """How much a text says about each topic, and a little of nothing, so that no text points nowhere."""
    words = [word.strip('.,:{}[]"').lower() for word in text.split()]
    counts = [float(sum(word in known for word in words)) for known in TOPICS.values()]
    return [*counts, 0.1]


class Topics:
    """An embedder that notes what it was asked, and can be told to fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = False

    async def documents(self, texts: Sequence[str]) -> list[list[float]]:
        if self.fails or any("unembeddable" in text for text in texts):
            raise EmbeddingFailed("the model is not there")
        self.asked += texts
        return [topics_of(text) for text in texts]

    async def query(self, text: str) -> list[float]:
        return (await self.documents([text]))[0]


class Numbers:
    """An embedder of random directions, the same for the same text."""

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def direction(self, text: str) -> list[float]:
        source = random.Random(text)
        return [source.gauss(0, 1) for _ in range(self.dims)]

    async def documents(self, texts: Sequence[str]) -> list[list[float]]:
        return [self.direction(text) for text in texts]

    async def query(self, text: str) -> list[float]:
        return self.direction(text)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


def topics_index(embedder: Topics | None = None, **spec: object) -> StoreIndex:
    return StoreIndex(
        IndexSpec(**{"embed": "topics", "dims": DIMS, **spec}), embedder if embedder is not None else Topics()
    )
