"""Counts supersteps, model calls and tokens from outside: any graph, whatever it knows of budgets."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGeneration, LLMResult

from .errors import BudgetReached
from .policy.budget import Limit, Meter


class UsageCallback(BaseCallbackHandler):
    """Counts on a meter; a call beyond the limit is stopped before it reaches the provider."""

    raise_error = True
    run_inline = True

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._prompts: dict[UUID, list[BaseMessage] | list[str]] = {}
        self._steps: set[tuple[str, int]] = set()
        self._lock = threading.Lock()

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """A node, or something inside one, begins: the first of its superstep counts it."""
        del serialized, inputs
        facts = metadata or {}
        if (number := facts.get("langgraph_step")) is None:
            return
        graph, _, _ = facts.get("langgraph_checkpoint_ns", "").rpartition("|")
        with self._lock:
            known = (graph, number) in self._steps
            self._steps.add((graph, number))
        if not known:
            _stop_at(self._meter.take_step())

    def on_chat_model_start(
        self, serialized: dict[str, Any] | None, messages: list[list[BaseMessage]], *, run_id: UUID, **_: Any
    ) -> None:
        """A chat model is about to be called."""
        del serialized
        self._begin(run_id, [message for batch in messages for message in batch])

    def on_llm_start(
        self, serialized: dict[str, Any] | None, prompts: list[str], *, run_id: UUID, **_: Any
    ) -> None:
        """A text model is about to be called."""
        del serialized
        self._begin(run_id, prompts)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """A model has answered."""
        prompt = self._prompts.pop(run_id, [])
        reported = [_reported(g) for batch in response.generations for g in batch[:1]]
        counts = [r for r in reported if r is not None]
        if counts and len(counts) == len(reported):
            spent_in, spent_out = (sum(column) for column in zip(*counts, strict=True))
            self._meter.record_tokens(input_tokens=spent_in, output_tokens=spent_out)
            return
        answers = [g.text for batch in response.generations for g in batch[:1]]
        self._meter.record_tokens(
            input_tokens=_estimated(prompt), output_tokens=_estimated(answers), estimated=True
        )

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        """A model failed: what was sent counts, since providers charge for it more often than not."""
        del error
        prompt = self._prompts.pop(run_id, None)
        if prompt is not None:
            self._meter.record_tokens(input_tokens=_estimated(prompt), output_tokens=0, estimated=True)

    def _begin(self, run_id: UUID, prompt: list[BaseMessage] | list[str]) -> None:
        _stop_at(self._meter.take_model_call())
        self._prompts[run_id] = prompt


def _stop_at(limit: Limit | None) -> None:
    if limit is not None:
        raise BudgetReached(limit)


def _reported(generation: Any) -> tuple[int, int] | None:
    message = generation.message if isinstance(generation, ChatGeneration) else None
    usage = message.usage_metadata if isinstance(message, AIMessage) else None
    return None if usage is None else (usage["input_tokens"], usage["output_tokens"])


def _estimated(texts: list[BaseMessage] | list[str]) -> int:
    messages = [t if isinstance(t, BaseMessage) else AIMessage(t) for t in texts]
    return count_tokens_approximately(messages)
