"""A graph of ours as a node of somebody else's graph, through the official `RemoteGraph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk.client import LangGraphClient

Remote = Callable[[str], RemoteGraph]
HUMAN = {"messages": [{"type": "human", "content": "hello", "id": "question"}]}


class State(TypedDict, total=False):
    before: int
    answer: Any
    after: int


@pytest.fixture
def remote(client: LangGraphClient) -> Remote:
    """A graph of the server by its name: `graph = remote("abc")`."""
    return lambda name: RemoteGraph(name, client=client)


async def test_state_and_history_of_a_remote_graph_are_readable(remote: Remote) -> None:
    """O60."""
    graph = remote("abc")
    config: RunnableConfig = {"configurable": {"thread_id": str(uuid4())}}
    assert (await graph.ainvoke({}, config))["trace"] == ["A", "B", "C"]

    state = await graph.aget_state(config)
    assert state.values == {"trace": ["A", "B", "C"]}
    assert state.next == ()
    history = [snapshot async for snapshot in graph.aget_state_history(config)]
    assert [snapshot.next for snapshot in history][-2:] == [("A",), ("__start__",)]
    updated = await graph.aupdate_state(config, {"trace": ["by hand"]}, as_node="A")
    assert (await graph.aget_state(updated)).next == ("B",)
    drawn = await graph.aget_graph()
    assert set(drawn.nodes) == {"__start__", "A", "B", "C", "__end__"}


async def test_remote_graph_is_a_node_whose_stream_shows_inside_the_parents(remote: Remote) -> None:
    """O60: stream with sub-graphs."""
    builder = StateGraph(MessagesState)
    builder.add_node("far", remote("sub"))
    builder.add_edge(START, "far")
    builder.add_edge("far", END)
    graph = builder.compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": str(uuid4())}}

    parts = [part async for part in graph.astream(HUMAN, config, stream_mode="updates", subgraphs=True)]
    inside = [(namespace, data) for namespace, data in parts if namespace]
    assert {name for _, data in inside for name in data} >= {"plan", "think"}
    deepest = max(len(namespace) for namespace, _ in inside)
    assert deepest >= 2, "the sub-graph of the remote graph keeps its own level"


async def test_interrupt_of_a_remote_node_passes_through_to_the_parent(remote: Remote) -> None:
    """O60: interrupts pass through, both ways."""

    far = remote("hitl")
    builder = StateGraph(State)
    builder.add_node("far", far)
    builder.add_edge(START, "far")
    builder.add_edge("far", END)
    graph = builder.compile(checkpointer=InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": str(uuid4())}}

    stopped = await graph.ainvoke({"before": 0}, config)
    assert stopped["__interrupt__"][0].value == {"question": "go on?", "before": 1}
    asked = (await far.aget_state(config)).tasks[0].interrupts[0]
    assert asked.id == stopped["__interrupt__"][0].id
    # This client hands a resume of the parent to its node as new input, so the answer goes to the node.
    values = await far.ainvoke(Command(resume="yes"), config)
    assert values == {"before": 1, "answer": "yes", "after": 1}


async def test_error_of_a_remote_graph_reaches_its_caller(remote: Remote) -> None:
    """O60."""
    with pytest.raises(Exception, match="boom happened"):
        await remote("err").ainvoke({}, {"configurable": {"thread_id": str(uuid4())}})
