"""Tells for whom it runs; waits once when it is told to, so that somebody can break the server."""

from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class State(TypedDict, total=False):
    waits: bool
    told: dict[str, Any]


async def tell(state: State, config: RunnableConfig) -> dict[str, Any]:
    if state.get("waits"):
        interrupt("go on?")
    configurable = config.get("configurable", {})
    user = configurable["langgraph_auth_user"]
    return {
        "told": {
            "id": configurable["langgraph_auth_user_id"],
            "permissions": configurable["langgraph_auth_permissions"],
            "identity": user.identity,
            "display_name": user["display_name"],
            "org": user.org,
            "token": user["token"],
            "colour": user["colour"],
            "is_authenticated": user.is_authenticated,
        }
    }


graph = StateGraph(State).add_node("tell", tell).add_edge(START, "tell").add_edge("tell", END).compile()
