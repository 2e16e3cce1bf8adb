"""A chat model whose answer is known beforehand: no network, no chance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}


class FakeModel(BaseChatModel):
    """Answers with `text`, word by word, or with one call of a tool when `calls` is set.

    The message id is the number of messages it was shown, so a conversation never repeats one and
    every run of a test gives the same.
    """

    text: str = "Red lorry, yellow lorry."
    calls: list[dict[str, Any]] = []  # noqa: RUF012 - a pydantic field, copied for each object
    delay: float = 0.0
    name_of_answer: str = "answer"

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Any, **kwargs: Any) -> FakeModel:
        return self

    def _answer(self, messages: list[BaseMessage]) -> tuple[str, list[dict[str, Any]], str]:
        """Text, tool calls and id: once a tool has answered, the model only talks."""
        number = f"{self.name_of_answer}-{len(messages)}"
        asks = self.calls if messages and messages[-1].type == "human" else []
        calls = [
            call | {"id": f"call-{len(messages)}-{i}", "type": "tool_call"} for i, call in enumerate(asks)
        ]
        return ("" if calls else self.text), calls, number

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        text, calls, number = self._answer(messages)
        message = AIMessage(content=text, tool_calls=calls, id=number, usage_metadata=USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        text, calls, number = self._answer(messages)
        pieces = [word + " " for word in text.split(" ")] if text else [""]
        pieces[-1] = pieces[-1].rstrip(" ")
        for i, piece in enumerate(pieces):
            await asyncio.sleep(self.delay)
            last = i == len(pieces) - 1
            chunk = ChatGenerationChunk(
                message=AIMessageChunk(
                    content=piece,
                    id=number,
                    tool_calls=calls if last else [],
                    usage_metadata=USAGE if last else None,
                    chunk_position="last" if last else None,
                )
            )
            if run_manager:
                await run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
