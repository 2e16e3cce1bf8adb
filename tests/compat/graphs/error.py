"""A node that fails after a second."""

from __future__ import annotations

import asyncio

from langgraph.graph import START, MessagesState, StateGraph


class CustomError(Exception):
    """What the node fails with."""


async def error_node(_: MessagesState) -> None:
    await asyncio.sleep(1)
    raise CustomError("Boo!")


workflow = StateGraph(MessagesState)
workflow.add_node("error_node", error_node)
workflow.add_edge(START, "error_node")
graph = workflow.compile()
