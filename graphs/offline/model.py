"""The chat model that needs no key and no network."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from .answer import answer
from .choose import Call, plan, score
from .classify import classify
from .conversation import Turn, message_text
from .extract import Source
from .offered import OfferedTool
from .smalltalk import small_talk
from .vectors import word_vectors

_TOKEN = re.compile(r"\w+|[^\w\s]")
_ARGUMENTS_PIECE = 16
_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class _Reply:
    """A whole answer before it is cut into pieces."""

    id: str
    text: str
    calls: tuple[ToolCall, ...]
    usage: UsageMetadata


class OfflineModel(BaseChatModel):
    """Chooses tools by rules and word vectors and tells their results in plain sentences.

    It is no language model and says so. The same messages give the same answer, with the same ids.
    Without the extra `embedded` there are no word vectors; it then goes by rules alone.
    """

    model_name: str = "offline"
    pause_s: float = 0.015
    """Time between two pieces of a streamed answer, so that a person can see it come."""

    @property
    def _llm_type(self) -> str:
        return "interlock-offline"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model_name": self.model_name}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model.

        Args:
            tools: in any form that LangChain can convert.
            tool_choice: `auto`; `any`, `required` or true for some tool; `none`; or the name of one.
            kwargs: kept with the binding.
        """
        offered = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=offered, tool_choice=_choice(tool_choice), **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - nothing to report on the way
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._reply(messages, stop, **kwargs)
        message = AIMessage(
            content=reply.text,
            tool_calls=list(reply.calls),
            id=reply.id,
            usage_metadata=reply.usage,
            response_metadata={"model_name": self.model_name, "finish_reason": _reason(reply)},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - nothing to report on the way
        **kwargs: Any,
    ) -> ChatResult:
        # Beside the loop: the first question reads the weights from disk, and a long one takes its time.
        return await asyncio.to_thread(self._generate, messages, stop, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for number, chunk in enumerate(self._pieces(self._reply(messages, stop, **kwargs))):
            if number and self.pause_s:
                time.sleep(self.pause_s)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        reply = await asyncio.to_thread(self._reply, messages, stop, **kwargs)
        for number, chunk in enumerate(self._pieces(reply)):
            if number:
                await asyncio.sleep(self.pause_s)
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _reply(self, messages: Sequence[BaseMessage], stop: list[str] | None, **kwargs: Any) -> _Reply:
        tools = [OfferedTool.of(tool) for tool in kwargs.get("tools") or ()]
        text, calls = _decide(Turn.of(messages), tools, kwargs.get("tool_choice") or "auto")
        for mark in stop or ():
            text = text.partition(mark)[0]
        digest = _digest(messages, tools)
        made = tuple(
            ToolCall(name=c.tool, args=c.arguments, id=f"call_{digest}_{i}", type="tool_call")
            for i, c in enumerate(calls)
        )
        read = sum(_tokens(message_text(m)) + _tokens(_calls_text(m)) for m in messages)
        written = _tokens(text) + sum(_tokens(json.dumps(c["args"])) + 1 for c in made)
        usage = UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
        return _Reply(f"offline-{digest}", text, made, usage)

    def _pieces(self, reply: _Reply) -> Iterator[ChatGenerationChunk]:
        """Words, then calls bit by bit, then an empty last piece with the usage."""
        for word in re.findall(r"\s*\S+", reply.text):
            yield _chunk(reply, content=word)
        for index, call in enumerate(reply.calls):
            first = tool_call_chunk(name=call["name"], args="", id=call["id"], index=index)
            yield _chunk(reply, tool_call_chunks=[first])
            arguments = json.dumps(call["args"], ensure_ascii=False)
            for at in range(0, len(arguments), _ARGUMENTS_PIECE):
                piece = arguments[at : at + _ARGUMENTS_PIECE]
                yield _chunk(reply, tool_call_chunks=[tool_call_chunk(args=piece, index=index)])
        yield _chunk(
            reply,
            usage_metadata=reply.usage,
            response_metadata={"model_name": self.model_name, "finish_reason": _reason(reply)},
            chunk_position="last",
        )


def _decide(turn: Turn, tools: Sequence[OfferedTool], choice: str) -> tuple[str, Sequence[Call]]:
    """Text to say, or calls to make."""
    vectors = word_vectors()

    def similarity(text: str, fixed: str) -> float:
        return vectors.similarity(text, fixed) if vectors else 0.0

    if choice not in ("auto", "none") and tools:
        source = Source(turn.question, turn.earlier, turn.results)
        candidates = [t for t in tools if choice in ("any", t.name)] or tools
        tool = max(candidates, key=lambda t: score(t, source, similarity))
        return "", [Call(tool.name, classify(tool, source, similarity))]
    offered = [] if choice == "none" else tools
    step = plan(turn, offered, similarity)
    if step.calls:
        return "", step.calls
    if turn.calls or step.questions:
        return answer(turn, step, similarity), ()
    return small_talk(turn.question, tools, has_vectors=vectors is not None), ()


def _choice(tool_choice: str | dict[str, Any] | bool | None) -> str:
    match tool_choice:
        case None | False | "auto":
            return "auto"
        case True | "any" | "required":
            return "any"
        case str():
            return tool_choice
        case _:
            return tool_choice.get("function", tool_choice).get("name", "any")


def _reason(reply: _Reply) -> Literal["tool_calls", "stop"]:
    return "tool_calls" if reply.calls else "stop"


def _chunk(reply: _Reply, **fields: Any) -> ChatGenerationChunk:
    complete: dict[str, Any] = {"content": "", "id": reply.id, **fields}
    return ChatGenerationChunk(message=AIMessageChunk(**complete))


def _digest(messages: Sequence[BaseMessage], tools: Sequence[OfferedTool]) -> str:
    """Stands for the whole conversation: a question that is asked again gets an id of its own."""
    read = [[m.type, m.id, m.content, _calls_text(m)] for m in messages]
    text = json.dumps([read, [t.name for t in tools]], default=str)
    return hashlib.blake2s(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()


def _calls_text(message: BaseMessage) -> str:
    return (
        json.dumps(message.tool_calls, default=str)
        if isinstance(message, AIMessage) and message.tool_calls
        else ""
    )


def _tokens(text: str) -> int:
    """Words and signs: an honest size, not that of any vendor's tokenizer. Of a long text an estimate."""
    counted = len(_TOKEN.findall(text[:_COUNTED]))
    return counted if len(text) <= _COUNTED else counted * len(text) // _COUNTED
