"""Graphs that talk: one that repeats, one that fails at first, one that needs many steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph

PAUSE_S = 0.03


class Parrot(BaseChatModel):
    """Answers with the text of the last message, a word at a time."""

    @property
    def _llm_type(self) -> str:
        return "parrot"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answer = AIMessage(content=str(messages[-1].content), id=f"answer-{messages[-1].id}")
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        pieces = str(messages[-1].content).split(" ")
        for at, piece in enumerate(pieces):
            await asyncio.sleep(PAUSE_S)
            last = at == len(pieces) - 1
            yield ChatGenerationChunk(
                message=AIMessageChunk(
                    content=piece if last else f"{piece} ",
                    id=f"answer-{messages[-1].id}",
                    chunk_position="last" if last else None,
                )
            )


class Stumbling(MessagesState, total=False):
    tries: int


class Rambling(MessagesState, total=False):
    step: int


async def repeat(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await Parrot().ainvoke(state["messages"])]}


_failed: set[str] = set()


async def fail_first(state: Stumbling) -> dict[str, Any]:
    question = str(state["messages"][-1].id)
    if question not in _failed:
        _failed.add(question)
        raise ValueError("the parrot is asleep")
    return await repeat(state)


async def walk(state: Rambling) -> dict[str, Any]:
    step = state.get("step", 0) + 1
    return {"step": step, "messages": [AIMessage(f"Step {step} of 4.", id=f"step-{step}")]}


def _one_node(name: str, node: Any, schema: Any) -> StateGraph[Any]:
    builder = StateGraph(schema)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    return builder


echo = _one_node("repeat", repeat, MessagesState).add_edge("repeat", END).compile()
stumble = _one_node("fail_first", fail_first, Stumbling).add_edge("fail_first", END).compile()
_ramble = _one_node("walk", walk, Rambling)
_ramble.add_conditional_edges("walk", lambda state: END if state["step"] == 4 else "walk", ["walk", END])
ramble = _ramble.compile()
