"""From a run's row to what its graph is started with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.runtime import BaseUser
from langgraph.types import Command, Send
from pydantic import BaseModel

from interlock.server.domain import Run
from interlock.server.runs.user import RunUser
from interlock.server.worker.request import graph_config, graph_context, graph_input, with_orphans_answered
from interlock.tools.policy.permissions import Principal

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ANN = Principal(
    tenant="acme", subject="ann", permissions=frozenset({"b", "a"}), attributes={"team": "x", "token": "hush"}
)


def a_run(**kwargs: Any) -> Run:
    return Run(
        tenant_id="acme",
        thread_id=UUID(int=1),
        run_id=UUID(int=2),
        assistant_id=UUID(int=3),
        graph_id="chat",
        status="running",
        multitask_strategy="enqueue",
        metadata={},
        kwargs={"config": {}, "input": None, "command": None} | kwargs,
        principal=ANN,
        priority=0,
        run_at=NOW,
        temporary=False,
        attempt=2,
        crashes=0,
        worker_id="w",
        fence=1,
        lease_until=NOW,
        cancel_reason=None,
        error=None,
        budget={},
        usage={},
        first_seq=1,
        created_at=NOW,
        updated_at=NOW,
        started_at=NOW,
        ended_at=None,
    )


def test_a_node_learns_which_run_it_is_part_of() -> None:
    """O61."""
    config = graph_config(a_run(), callbacks=[], continues=False)
    expected = {
        "thread_id": str(UUID(int=1)),
        "run_id": str(UUID(int=2)),
        "assistant_id": str(UUID(int=3)),
        "graph_id": "chat",
    }
    assert expected.items() <= config["configurable"].items()
    assert expected.items() <= config["metadata"].items()
    assert config["metadata"]["run_attempt"] == 2
    assert config["run_id"] == UUID(int=2)


def test_a_client_cannot_name_another_thread_run_or_user() -> None:
    forged = dict.fromkeys(
        ["thread_id", "run_id", "graph_id", "assistant_id", "user_id", "langgraph_auth_user_id"], "forged"
    )
    run = a_run(config={"configurable": {**forged, "colour": "red"}, "metadata": dict(forged)})
    config = graph_config(run, callbacks=[], continues=False)
    assert "forged" not in config["configurable"].values()
    assert config["configurable"]["colour"] == "red"
    assert config["metadata"]["run_id"] == str(UUID(int=2))


def test_what_a_graph_does_to_its_config_stays_with_the_run() -> None:
    """O12."""
    run = a_run(config={"configurable": {"colour": "red"}, "tags": ["a"], "recursion_limit": 7})
    first = graph_config(run, callbacks=[], continues=False)
    first["configurable"]["colour"] = "blue"
    first["metadata"]["mine"] = True
    second = graph_config(run, callbacks=[], continues=False)
    assert second["configurable"]["colour"] == "red"
    assert "mine" not in second["metadata"]
    assert (second["tags"], second["recursion_limit"]) == (["a"], 7)


def test_a_fork_is_made_once() -> None:
    fork = {"checkpoint_id": "1", "checkpoint_ns": "", "checkpoint_map": {}}
    run = a_run(config={"configurable": fork})
    assert fork.items() <= graph_config(run, callbacks=[], continues=False)["configurable"].items()
    assert not fork.keys() & graph_config(run, callbacks=[], continues=True)["configurable"].keys()


def test_the_user_is_read_by_attribute_and_by_key_and_tells_no_secret() -> None:
    user = RunUser(ANN)
    assert isinstance(user, BaseUser)
    assert (user.identity, user["identity"], user.display_name) == ("ann", "ann", "ann")
    assert (user.permissions, user.is_authenticated, user.team) == (["a", "b"], True, "x")
    assert "team" in user
    assert "hush" not in repr(user)
    with pytest.raises(AttributeError, match="nothing"):
        _ = user.nothing
    assert not RunUser(replace(ANN, subject="anonymous")).is_authenticated


COMMANDS = [
    ({"resume": "yes"}, Command(resume="yes")),
    ({"resume": {"a": 1}}, Command(resume={"a": 1})),
    ({"update": {"x": 1}}, Command(update={"x": 1})),
    ({"update": [["x", 1], ["x", 2]]}, Command(update=[("x", 1), ("x", 2)])),
    ({"goto": "node"}, Command(goto="node")),
    ({"goto": {"node": "n", "input": 1}}, Command(goto=Send("n", 1))),
    ({"goto": ["a", {"node": "n"}]}, Command(goto=["a", Send("n", None)])),
]


@pytest.mark.parametrize(("command", "expected"), COMMANDS)
def test_a_command_wins_over_the_input(command: dict[str, Any], expected: Command[Any]) -> None:
    assert graph_input(a_run(command=command, input={"x": 9}), continues=False) == expected


def test_a_later_attempt_goes_on_from_its_checkpoint() -> None:
    run = a_run(command={"resume": 1}, input={"x": 1})
    assert graph_input(run, continues=True) is None
    assert graph_input(a_run(input={"x": 1}), continues=False) == {"x": 1}


def test_a_context_holds_what_its_schema_declares() -> None:
    @dataclass
    class AsDataclass:
        colour: str = "red"

    class AsModel(BaseModel):
        colour: str = "red"

    class AsDict(TypedDict, total=False):
        colour: str

    for schema in (AsDataclass, AsModel, AsDict):
        assert graph_context(schema, {"colour": "blue", "other": 1}) == {"colour": "blue"}
    assert graph_context(None, {}) is None
    assert graph_context(None, {"other": 1}) == {"other": 1}


def called(*ids: str) -> AIMessage:
    return AIMessage(content="", tool_calls=[{"name": "t", "args": {}, "id": identity} for identity in ids])


def test_tool_calls_that_a_cancelled_run_left_open_are_answered_before_the_next_message() -> None:
    """O23."""
    before = [HumanMessage(content="hi"), called("1", "2"), ToolMessage(content="x", tool_call_id="1")]
    new: dict[str, Any] = {"messages": [{"role": "user", "content": "again"}], "other": 1}
    given = with_orphans_answered(new, before)
    [answer, message] = given["messages"]
    assert (answer.tool_call_id, answer.status, answer.name) == ("2", "error", "t")
    assert message == new["messages"][0]
    assert given["other"] == 1


@pytest.mark.parametrize(
    "before",
    [
        None,
        [],
        "text",
        [HumanMessage(content="hi")],
        [called("1"), ToolMessage(content="x", tool_call_id="1")],
        [called("1"), HumanMessage(content="later")],
    ],
)
def test_a_whole_conversation_is_left_alone(before: Any) -> None:
    new = {"messages": [{"role": "user", "content": "again"}]}
    assert with_orphans_answered(new, before) is new


@pytest.mark.parametrize("given", [None, "text", {"x": 1}, {"messages": "text"}, Command(resume=1)])
def test_an_input_without_messages_is_left_alone(given: Any) -> None:
    assert with_orphans_answered(given, [called("1")]) is given
