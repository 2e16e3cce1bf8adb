"""Holds the conversation of one case with a server, through the official SDK."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph_sdk.client import LangGraphClient

from .dataset import Case, Dataset, Review
from .outcome import Outcome, answer_in, calls_in, text_of, tokens_in

_REVIEWS_AT_MOST = 20
"""A graph that asks again and again must not hold the runner for ever."""


@dataclass(slots=True)
class _Seen:
    """What the turns of a case showed so far."""

    values: dict[str, Any] | None = None
    answers: list[str] = field(default_factory=list)
    reviews: list[str] = field(default_factory=list)
    error: str | None = None
    first_token_s: float | None = None


async def hold(client: LangGraphClient, dataset: Dataset, case: Case) -> Outcome:
    """Run one case on a thread of its own, which is deleted afterwards."""
    started = time.perf_counter()
    thread_id = (await client.threads.create(metadata={"eval": dataset.name, "case": case.id}))["thread_id"]
    try:
        talk = _Talk(client, dataset, case, thread_id)
        for turn in case.turns:
            if talk.seen.error is None:
                await talk.take(turn)
        waiting = await talk.waiting()
    finally:
        await client.threads.delete(thread_id)
    seen = talk.seen
    messages = (seen.values or {}).get("messages", [])
    return Outcome(
        answers=tuple(seen.answers),
        calls=calls_in(messages),
        reviews=tuple(seen.reviews),
        waiting=tuple(waiting.values()),
        values=seen.values,
        error=seen.error,
        tokens=tokens_in(messages),
        first_token_s=seen.first_token_s,
        seconds=time.perf_counter() - started,
    )


class _Talk:
    """The conversation while it goes on."""

    def __init__(self, client: LangGraphClient, dataset: Dataset, case: Case, thread_id: str) -> None:
        self._client = client
        self._assistant = dataset.assistant
        self._context = {**dataset.context, **case.context}
        self._thread_id = thread_id
        self._left: list[Review] = list(case.reviews)
        self.seen = _Seen()

    async def take(self, text: str) -> None:
        """Say something, answer what a person is asked, and keep the answer."""
        await self._run(input={"messages": [{"role": "user", "content": text}]})
        for _ in range(_REVIEWS_AT_MOST):
            waiting = await self.waiting()
            self.seen.reviews += waiting.values()
            answers = self._answers(waiting)
            if not answers or self.seen.error is not None:
                break
            await self._run(command={"resume": answers})
        self.seen.answers.append(answer_in((self.seen.values or {}).get("messages", [])))

    async def waiting(self) -> dict[str, str]:
        """The actions that wait for a person, by the id of their interrupt."""
        thread = await self._client.threads.get(self._thread_id)
        interrupts = [i for waiting in (thread.get("interrupts") or {}).values() for i in waiting]
        return {str(i["id"]): _action(i["value"]) for i in interrupts}

    def _answers(self, waiting: Mapping[str, str]) -> dict[str, Any]:
        """The answers that the case has for what waits; each is used once."""
        answers: dict[str, Any] = {}
        for interrupt_id, action in waiting.items():
            review = next((r for r in self._left if r.action == action), None)
            if review is not None:
                self._left.remove(review)
                answers[interrupt_id] = {"decisions": [review.decision]}
        return answers

    async def _run(self, **given: Any) -> None:
        started = time.perf_counter()
        first: float | None = None
        parts = self._client.runs.stream(
            self._thread_id,
            self._assistant,
            stream_mode=["values", "messages-tuple"],
            context=self._context,
            **given,
        )
        async for part in parts:
            match part.event:
                case "values":
                    self.seen.values = part.data
                case "error":
                    self.seen.error = f"{part.data.get('error')}: {part.data.get('message')}"
                case "messages" if first is None and _is_text(part.data):
                    first = time.perf_counter() - started
                case _:
                    pass
        if first is not None:
            self.seen.first_token_s = max(first, self.seen.first_token_s or 0.0)


def _is_text(data: Any) -> bool:
    """Whether a `messages` event carries text of the assistant."""
    message = data[0] if isinstance(data, list) and data else {}
    return str(message.get("type", "")).lower().startswith("ai") and bool(text_of(message))


def _action(value: Any) -> str:
    """The name of what an interrupt asks about."""
    if isinstance(value, list) and value:  # the older inbox schema
        value = value[0]
    requests = value.get("action_requests") if isinstance(value, Mapping) else None
    if requests:
        return str(requests[0]["name"])
    if isinstance(value, Mapping) and isinstance(request := value.get("action_request"), Mapping):
        return str(request.get("action"))
    return "interrupt"
