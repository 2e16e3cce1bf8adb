"""A router and a sub-graph that stops before its second node."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph


class Weather(MessagesState, total=False):
    city: str


class Router(MessagesState, total=False):
    route: Literal["weather", "other"]


def model_node(_: Weather) -> dict[str, Any]:
    return {"city": "San Francisco"}


def weather_node(state: Weather) -> dict[str, Any]:
    return {"messages": [AIMessage(f"It's sunny in {state['city']}!")]}


def router_node(_: Router) -> dict[str, Any]:
    return {"route": "weather"}


def normal_llm_node(_: Router) -> dict[str, Any]:
    return {"messages": [AIMessage("Hello")]}


def after_router(state: Router) -> str:
    return "weather_graph" if state.get("route") == "weather" else "normal_llm_node"


inner = StateGraph(Weather)
inner.add_node("model_node", model_node)
inner.add_node("weather_node", weather_node)
inner.add_edge(START, "model_node")
inner.add_edge("model_node", "weather_node")
inner.add_edge("weather_node", END)

outer = StateGraph(Router)
outer.add_node("router_node", router_node)
outer.add_node("normal_llm_node", normal_llm_node)
outer.add_node("weather_graph", inner.compile(interrupt_before=["weather_node"]))
outer.add_edge(START, "router_node")
outer.add_conditional_edges("router_node", after_router, ["weather_graph", "normal_llm_node"])
outer.add_edge("weather_graph", END)
outer.add_edge("normal_llm_node", END)
graph = outer.compile()
