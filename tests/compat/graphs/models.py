"""The model of these graphs: says fixed texts in turn, letter by letter, apart for each thread."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableConfig

_models: dict[str, FakeListChatModel] = {}


def model_of(config: RunnableConfig, texts: Sequence[str]) -> FakeListChatModel:
    """The model of the thread of a run; it goes on where the last run there left it."""
    thread_id = str(config.get("configurable", {}).get("thread_id"))
    return _models.setdefault(thread_id, FakeListChatModel(responses=list(texts)))
