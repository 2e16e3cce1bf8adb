"""A parent with a sub-graph that calls a model, asks for a tool and, unless `ask` is false, a person."""

from typing import Any

from fake_model import FakeModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt


class State(MessagesState, total=False):
    ask: bool
    plan: str


async def plan(state: State) -> dict[str, Any]:
    """Speak to a model in private: the tag keeps it out of every message stream."""
    quiet = FakeModel(text="keep this to yourself", name_of_answer="private").with_config(tags=["nostream"])
    answer = await quiet.ainvoke(state["messages"])
    return {"plan": str(answer.content)}


async def think(state: State) -> dict[str, list[BaseMessage]]:
    model = FakeModel(calls=[{"name": "lookup", "args": {"key": "lorry"}}], name_of_answer="thought")
    return {"messages": [await model.ainvoke(state["messages"])]}


async def confirm(state: State) -> dict[str, list[BaseMessage]]:
    answer = "yes" if state.get("ask") is False else interrupt({"question": "look it up?"})
    asking = state["messages"][-1]
    assert isinstance(asking, AIMessage)
    call = asking.tool_calls[0]
    return {
        "messages": [
            ToolMessage(content=f"confirmed: {answer}", tool_call_id=call["id"], id=f"{call['id']}-result")
        ]
    }


async def close(state: State) -> dict[str, list[BaseMessage]]:
    return {
        "messages": [await FakeModel(text="All done.", name_of_answer="close").ainvoke(state["messages"])]
    }


inner = StateGraph(State)
inner.add_node("think", think)
inner.add_node("confirm", confirm)
inner.add_edge(START, "think")
inner.add_edge("think", "confirm")
inner.add_edge("confirm", END)

builder = StateGraph(State)
builder.add_node("plan", plan)
builder.add_node("child", inner.compile())
builder.add_node("close", close)
builder.add_edge(START, "plan")
builder.add_edge("plan", "child")
builder.add_edge("child", "close")
builder.add_edge("close", END)
graph = builder.compile()
