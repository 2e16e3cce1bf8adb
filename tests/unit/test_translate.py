"""What LangGraph streams, as events of the log."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessageChunk

from interlock.server.worker.translate import Translator, graph_modes, runnable_event


def translator() -> Translator:
    return Translator(lambda channel, value: None)


SECRETS = {"langgraph_auth_user": {"token": "hush"}, "langgraph_auth_user_id": "ann", "__pregel_send": 1}


@pytest.mark.parametrize(
    ("asked", "modes"),
    [
        (["values"], ["values"]),
        ([], ["values"]),
        (["messages", "messages-tuple", "updates"], ["values", "messages", "updates"]),
        (["events"], ["values"]),
        (["debug", "tasks", "checkpoints", "custom", "tools"], None),
    ],
)
def test_the_graph_is_asked_for_each_mode_once_and_always_for_values(
    asked: list[str], modes: list[str] | None
) -> None:
    assert graph_modes(asked) == (modes if modes is not None else ["values", *asked])


def test_a_token_is_its_chunk_and_its_metadata_without_secrets() -> None:
    metadata = {"langgraph_node": "model", **SECRETS}
    event = translator().event_of((("sub:1",), "messages", (AIMessageChunk(content="a", id="m"), metadata)))
    message, shown = orjson.loads(event.data)
    assert (event.kind, event.namespace) == ("messages", ("sub:1",))
    assert (message["content"], message["type"], message["id"]) == ("a", "AIMessageChunk", "m")
    assert shown == {"langgraph_node": "model"}


def test_messages_that_stream_at_once_keep_their_own_metadata() -> None:
    translating = translator()
    streams = [{"langgraph_node": f"n{number}"} for number in range(200)]
    for _ in range(2):
        for number, metadata in enumerate(streams):
            event = translating.event_of(((), "messages", (AIMessageChunk(content="a"), metadata)))
            assert orjson.loads(event.data)[1] == {"langgraph_node": f"n{number}"}


def test_a_checkpoint_tells_no_secret_and_a_debug_one_tells_its_places() -> None:
    config = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "2", **SECRETS}}
    parent = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "1", **SECRETS}}
    child = {"configurable": {"thread_id": "t", "checkpoint_ns": "child:1"}}
    tasks = [{"id": "1", "name": "child", "state": child}, {"id": "2", "name": "plan", "state": None}]
    payload: dict[str, Any] = {"config": config, "parent_config": parent, "values": {}, "tasks": tasks}
    translating = translator()
    plain = orjson.loads(translating.event_of(((), "checkpoints", payload)).data)
    debug = orjson.loads(
        translating.event_of(((), "debug", {"type": "checkpoint", "step": 1, "payload": payload})).data
    )
    for shown in (plain, debug["payload"]):
        assert shown["config"]["configurable"] == {
            "thread_id": "t",
            "checkpoint_ns": "",
            "checkpoint_id": "2",
        }
        assert "hush" not in str(shown)
    assert debug["payload"]["checkpoint"]["checkpoint_id"] == "2"
    assert debug["payload"]["parent_checkpoint"]["checkpoint_id"] == "1"
    assert plain["tasks"] == tasks
    assert debug["payload"]["tasks"] == [
        {"id": "1", "name": "child", "checkpoint": child["configurable"]},
        tasks[1],
    ]
    first = {**payload, "parent_config": None}
    shown = orjson.loads(translating.event_of(((), "debug", {"type": "checkpoint", "payload": first})).data)
    assert shown["payload"]["parent_checkpoint"] is None
    assert config["configurable"].keys() > {"langgraph_auth_user"}


def test_other_parts_are_shown_as_they_are() -> None:
    event = translator().event_of((("a:1", "b:2"), "custom", {"progress": {1}}))
    assert (event.kind, event.namespace, event.data) == ("custom", ("a:1", "b:2"), b'{"progress":[1]}')
    task = translator().event_of(((), "debug", {"type": "task", "payload": {"id": "1"}}))
    assert orjson.loads(task.data) == {"type": "task", "payload": {"id": "1"}}


def test_an_event_of_a_runnable_tells_no_secret() -> None:
    event = runnable_event({"event": "on_chain_start", "data": {"input": 1}, "metadata": {"a": 1, **SECRETS}})
    assert orjson.loads(event.data) == {"event": "on_chain_start", "data": {"input": 1}, "metadata": {"a": 1}}
