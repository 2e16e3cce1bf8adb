"""The one node of the assistant that thinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.runtime import Runtime

from ...tools.answers import stopped
from ...tools.builtin import BUILTIN
from ..context import current
from ..models import chat_model, default_model
from .state import AssistantContext, AssistantState


async def think(state: AssistantState, runtime: Runtime[AssistantContext]) -> dict[str, Any]:
    """Ask the model for the next message: an answer, or calls of tools."""
    # A client may run the graph without any context.
    context = runtime.context or AssistantContext()
    model = await chat_model(context.model or default_model())
    tools = offered(context)
    prompt = SystemMessage(context.system_prompt)
    thinking = model.bind_tools(tools) if tools else model
    return {"messages": [await thinking.ainvoke([prompt, *with_results(state["messages"])])]}


def offered(context: AssistantContext) -> list[BaseTool]:
    """The tools that the caller may hope to use. The gateway decides each call, whatever is offered.

    Raises:
        ValueError: the context names a tool that the assistant does not have.
    """
    known = {tool.name: tool for tool in BUILTIN}
    wanted = list(known) if context.tools is None else context.tools
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"`tools` names {', '.join(unknown)}; the assistant has {', '.join(known)}")
    run = current()
    if run is None:
        return [known[name] for name in wanted]
    allowed = {tool.name for tool in run.registry.langchain_tools(run.principal)}
    return [known[name] for name in wanted if name in allowed]


def with_results(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages with a result for every call: providers refuse a call that a stopped run left open.

    The server adds such results to the input of the next run, but a thread comes here without one too:
    by a command, or by a message that was written into its state.
    """
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    complete: list[AnyMessage] = []
    for message in messages:
        complete.append(message)
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        complete += [stopped(call) for call in calls if call["id"] not in answered]
    return complete
