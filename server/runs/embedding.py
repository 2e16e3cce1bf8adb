"""The model that says what items of the store mean: found and checked at start, called from any loop."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property, partial
from typing import Any

import structlog
from langchain_core.embeddings import Embeddings
from langgraph.store.base.embed import EmbeddingsLambda

from ...checkpoints.embedding import EmbeddingFailed, IndexSpec, StoreIndex, Vector
from ...graphs.offline.vectors import DIMENSIONS, OfflineEmbeddings, installed
from ..loose_threads import LooseThreads
from ..settings import StoreIndexSettings
from .catalog import CatalogError, describe, value_of
from .modules import ModuleNames
from .project import GraphSource, Project

log = structlog.get_logger(__name__)

OFFLINE = "offline"
_TEXTS_AT_ONCE = 256


class WrongDimensions(EmbeddingFailed):
    """The vectors of the model have another number of dimensions than is configured."""


class ModelEmbedder:
    """Calls a LangChain embeddings object on a loop of its own.

    A client keeps connections of the loop it was first used on, and a function of the project may block:
    neither reaches the loops that serve requests and runs.
    """

    def __init__(self, name: str, embeddings: Embeddings, *, dims: int, deadline_s: float) -> None:
        self.name = name
        self._embeddings = embeddings
        self._dims = dims
        self._deadline_s = deadline_s
        self._starting = threading.Lock()

    async def documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector for each text; many texts in several calls."""
        vectors: list[Vector] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            found = await self._call(partial(self._embeddings.aembed_documents, part))
            vectors += self._checked(found, expected=len(part))
        return vectors

    async def query(self, text: str) -> Vector:
        """The vector of what somebody asks."""
        found = await self._call(partial(self._embeddings.aembed_query, text))
        return self._checked([found], expected=1)[0]

    async def _call(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        with self._starting:
            loop = self._loop
        calling = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(call), loop))
        try:
            async with asyncio.timeout(self._deadline_s):
                return await calling
        except TimeoutError as error:
            # The model's own timeout is as much a failure as ours.
            raise EmbeddingFailed(
                f"the embedding model {self.name!r} gave no answer in {self._deadline_s:g} s"
            ) from error
        except Exception as error:
            # What it says may hold a key or a text of another tenant; that is for the log alone.
            log.warning("embedding_failed", model=self.name, error=describe(error))
            raise EmbeddingFailed(
                f"the embedding model {self.name!r} failed with {type(error).__name__}; "
                "the log of the server says more"
            ) from error

    def _checked(self, found: Any, *, expected: int) -> list[Vector]:
        try:
            vectors = [[float(number) for number in vector] for vector in found]
        except (TypeError, ValueError, OverflowError) as error:
            raise EmbeddingFailed(
                f"the embedding model {self.name!r} returned no lists of numbers"
            ) from error
        if len(vectors) != expected:
            raise EmbeddingFailed(
                f"the embedding model {self.name!r} returned {len(vectors)} vectors for {expected} texts"
            )
        if wrong := {len(vector) for vector in vectors} - {self._dims}:
            raise WrongDimensions(
                f"the embedding model {self.name!r} returns vectors of {min(wrong)} numbers, "
                f"`store.index.dims` is {self._dims}"
            )
        return vectors

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        # A model that never answers keeps neither others from being asked nor the process from ending.
        loop.set_default_executor(LooseThreads("embedding"))
        threading.Thread(target=loop.run_forever, name="embedding", daemon=True).start()
        return loop


async def _awaited(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    # Not `call()` outside: a synchronous part of it belongs to the other loop as well.
    try:
        return await call()
    except (SystemExit, KeyboardInterrupt) as error:
        # Either would end the loop, and with it every later call.
        raise RuntimeError(f"it called for the end of the process: {error!r}") from error


def spec_of(settings: StoreIndexSettings) -> IndexSpec | None:
    """What is configured; None when the store searches without meaning.

    Raises:
        CatalogError: it cannot be.
    """
    if settings.embed == "none" or (settings.embed == "auto" and not installed()):
        return None
    if settings.embed not in ("auto", OFFLINE):
        assert settings.dims is not None
        return IndexSpec(settings.embed, settings.dims, settings.fields)
    if not installed():
        raise CatalogError("`store.index.embed` is 'offline'; that needs `pip install 'interlock[embedded]'`")
    if settings.dims not in (None, DIMENSIONS):
        raise CatalogError(
            f"`store.index.dims` is {settings.dims}, vectors of the offline model have {DIMENSIONS} numbers"
        )
    return IndexSpec(OFFLINE, DIMENSIONS, settings.fields)


def load_index(project: Project, settings: StoreIndexSettings) -> StoreIndex | None:
    """Find the model of the store's index and ask it once, to see that it does what is configured.

    One that does not answer now is only warned about: it may answer later.

    Raises:
        CatalogError: there is no such model, or its vectors have the wrong number of dimensions.
    """
    spec = spec_of(settings)
    if spec is None:
        return None
    if spec.embed == OFFLINE:
        embedder = ModelEmbedder(OFFLINE, OfflineEmbeddings(), dims=spec.dims, deadline_s=settings.deadline_s)
        return StoreIndex(spec, embedder)
    embeddings = _embeddings(spec.embed, project)
    embedder = ModelEmbedder(spec.embed, embeddings, dims=spec.dims, deadline_s=settings.deadline_s)
    try:
        asyncio.run(embedder.query("what does it mean?"))
    except WrongDimensions as error:
        raise CatalogError(f"{error}; correct `dims`, or choose another model") from error
    except EmbeddingFailed as error:
        log.warning("embedding_model_not_ready", problem=str(error))
    return StoreIndex(spec, embedder)


def _embeddings(name: str, project: Project) -> Embeddings:
    location, _, attribute = name.rpartition(":")
    if not location or not attribute:
        raise CatalogError(
            f"`store.index.embed` is {name!r}; it must be `provider:model`, as in "
            "`openai:text-embedding-3-small`, or `./file.py:name`"
        )
    try:
        if re.search(r"[./\\]", location) is None:
            # Only for those who name a provider: it takes its time to load.
            from langchain.embeddings import init_embeddings

            return init_embeddings(name)
        source = GraphSource(graph_id="store.index.embed", spec=name)
        value = value_of(source, project, ModuleNames(project.directory))
    # A provider's package and the project's own code may raise anything.
    except (Exception, SystemExit) as error:
        cause = describe(error, project.directory)
        raise CatalogError(f"`store.index.embed` {name!r} cannot be used: {cause}") from error
    if isinstance(value, Embeddings):
        return value
    if isinstance(value, type) or not callable(value):
        raise CatalogError(
            f"`store.index.embed` {name!r} is {type(value).__name__}; it must be a function from a list of "
            "texts to a list of vectors, async or not, or an `Embeddings` object of LangChain"
        )
    return EmbeddingsLambda(value)
