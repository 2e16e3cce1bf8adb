"""A model that sends its words to a tool, until it says the end."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import AnyMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_store
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send
from models import model_of
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    key_one: str
    key_two: str
    sleep: float


async def agent(state: State, config: RunnableConfig) -> dict[str, Any]:
    settings = config["configurable"]
    if header := settings.get("x-configurable-header"):
        return {"messages": [("ai", f"end: {header}")]}
    user = settings.get("langgraph_auth_user")
    place = (user["identity"] if user else "ALL",)
    if await get_store().aget(place, "key_one") is None:
        await get_store().aput(place, "key_one", {"text": state["messages"][-1].content})
    return {"messages": [await model_of(config, ("begin", "end\u2028")).ainvoke(state["messages"], config)]}


async def tool(message: AnyMessage) -> dict[str, Any]:
    return {"messages": [ToolMessage(f"tool_call__{message.content}", tool_call_id="tool_call_id")]}


def after_agent(state: State) -> str | Send:
    last = state["messages"][-1]
    return END if str(last.content).startswith("end") else Send("tool", last)


workflow = StateGraph(State)
workflow.add_node("agent", agent)
workflow.add_node("tool", tool)
workflow.add_edge(START, "agent")
workflow.add_conditional_edges("agent", after_agent, ["tool", END])
workflow.add_edge("tool", "agent")
graph = workflow.compile()
