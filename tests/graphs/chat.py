"""One model call that streams a fixed answer, `delay` seconds a word."""

from fake_model import FakeModel
from langchain_core.messages import BaseMessage
from langgraph.graph import END, START, MessagesState, StateGraph


class State(MessagesState, total=False):
    delay: float


async def model(state: State) -> dict[str, list[BaseMessage]]:
    answer = await FakeModel(delay=state.get("delay") or 0.0).ainvoke(state["messages"])
    return {"messages": [answer]}


builder = StateGraph(State)
builder.add_node("model", model)
builder.add_edge(START, "model")
builder.add_edge("model", END)
graph = builder.compile()
