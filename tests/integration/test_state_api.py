"""The state of threads over HTTP, on threads that real runs have written."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from interlock.checkpoints.database import Database


async def ran(http: httpx.AsyncClient, graph: str, given: Any = None, **fields: Any) -> tuple[str, Any]:
    """A new thread on which a graph has run; its path and what the run came to."""
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    return f"/threads/{thread}", await run(http, f"/threads/{thread}", graph, given, **fields)


async def run(http: httpx.AsyncClient, path: str, graph: str, given: Any = None, **fields: Any) -> Any:
    answer = await http.post(f"{path}/runs/wait", json={"assistant_id": graph, "input": given, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def state(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    return (await http.get(f"{path}/state")).json()


async def test_a_thread_without_state_answers_with_an_empty_one(http: httpx.AsyncClient) -> None:
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    empty = await state(http, f"/threads/{thread}")
    assert empty == {
        "values": {},
        "next": [],
        "tasks": [],
        "metadata": None,
        "created_at": None,
        "checkpoint": None,
        "parent_checkpoint": None,
        "interrupts": [],
        "checkpoint_id": None,
        "parent_checkpoint_id": None,
    }
    assert (await http.post(f"/threads/{thread}/history", json={})).json() == []
    stamped = (await http.post("/threads", json={"metadata": {"graph_id": "abc"}})).json()["thread_id"]
    assert await state(http, f"/threads/{stamped}") == empty
    assert (await http.get(f"/threads/{uuid4()}/state")).status_code == 404
    assert (await http.post(f"/threads/{uuid4()}/history", json={})).status_code == 404


async def test_a_state_has_the_shape_that_clients_expect(working_http: httpx.AsyncClient) -> None:
    path, values = await ran(working_http, "abc", {"trace": []})
    now = await state(working_http, path)
    assert values == now["values"] == {"trace": ["A", "B", "C"]}
    assert (now["next"], now["tasks"], now["interrupts"]) == ([], [], [])
    assert now["checkpoint"] == {
        "thread_id": path.removeprefix("/threads/"),
        "checkpoint_ns": "",
        "checkpoint_id": now["checkpoint_id"],
    }
    assert now["parent_checkpoint"]["checkpoint_id"] == now["parent_checkpoint_id"]
    assert (now["metadata"]["source"], now["metadata"]["step"]) == ("loop", 3)
    assert datetime.fromisoformat(now["created_at"]).tzinfo is not None
    thread = (await working_http.get(path)).json()
    assert thread["values"] == now["values"]
    assert (thread["status"], thread["config"]) == ("idle", {"configurable": {}})


async def test_a_checkpoint_is_read_by_path_and_by_body_alike(working_http: httpx.AsyncClient) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    history = (await working_http.post(f"{path}/history", json={"limit": 10})).json()
    assert [one["next"] for one in history] == [[], ["C"], ["B"], ["A"], ["__start__"]]
    middle = history[2]
    by_path = (await working_http.get(f"{path}/state/{middle['checkpoint_id']}")).json()
    wanted = {"checkpoint": middle["checkpoint"], "subgraphs": False}
    by_body = (await working_http.post(f"{path}/state/checkpoint", json=wanted)).json()
    assert by_path == by_body == middle
    latest = (await working_http.post(f"{path}/state/checkpoint", json={})).json()
    assert latest == await state(working_http, path)
    unknown = (await working_http.get(f"{path}/state/{uuid4()}")).json()
    assert (unknown["values"], unknown["checkpoint"]) == ({}, None)
    only = (await working_http.get(f"{path}/state", params={"select": ["values", "next"]})).json()
    assert only.keys() == {"values", "next"}


async def test_history_tasks_tell_what_each_node_returned(working_http: httpx.AsyncClient) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    history = (await working_http.post(f"{path}/history", json={"limit": 10})).json()
    [task] = history[2]["tasks"]
    assert task["name"] == "B"
    assert task["result"] == {"trace": ["B"]}
    assert task["path"] == ["__pregel_pull", "B"]
    assert (task["error"], task["interrupts"], task["checkpoint"], task["state"]) == (None, [], None, None)


async def test_pages_of_history_cover_everything_once_newest_first(
    working_http: httpx.AsyncClient, database: Database
) -> None:
    """O10."""
    path, _ = await ran(working_http, "abc", {"trace": []})
    for _ in range(19):
        await run(working_http, path, "abc", {"trace": []})
    # Whatever is forgotten by age would be gone by now.
    await database.execute(b"UPDATE interlock.threads SET created_at = now() - interval '1 year'")
    await database.execute(b"UPDATE interlock.runs SET ended_at = now() - interval '1 year'")
    seen: list[str] = []
    before: Any = None
    while True:
        page = (await working_http.post(f"{path}/history", json={"limit": 10, "before": before})).json()
        if not page:
            break
        seen += [one["checkpoint_id"] for one in page]
        before = page[-1]["checkpoint"]
    assert len(seen) == len(set(seen)) == 100
    assert seen == sorted(seen, reverse=True)
    for limit in (9, 10, 11, 20, 100, 1000):
        whole = (await working_http.post(f"{path}/history", json={"limit": limit})).json()
        assert [one["checkpoint_id"] for one in whole] == seen[:limit]
    by_id = (await working_http.get(f"{path}/history", params={"limit": 2, "before": seen[4]})).json()
    assert [one["checkpoint_id"] for one in by_id] == seen[5:7]
    inputs = {"limit": 100, "metadata": {"source": "input"}}
    assert len((await working_http.post(f"{path}/history", json=inputs)).json()) == 20
    assert len((await working_http.post(f"{path}/history", json={})).json()) == 1


async def test_a_pending_question_is_the_same_on_thread_state_and_task(
    working_http: httpx.AsyncClient,
) -> None:
    path, values = await ran(working_http, "hitl", {"before": 0})
    [shown] = values["__interrupt__"]
    now = await state(working_http, path)
    thread = (await working_http.get(path)).json()
    assert now["next"] == ["ask"]
    [task] = now["tasks"]
    assert task["interrupts"] == now["interrupts"] == [{"id": shown["id"], "value": shown["value"]}]
    assert thread["status"] == "interrupted"
    assert thread["interrupts"] == {task["id"]: task["interrupts"]}
    other, _ = await ran(working_http, "abc", {"trace": []})
    assert (await working_http.get(other)).json()["interrupts"] == {}
    assert (await state(working_http, other))["interrupts"] == []


async def test_a_sub_graph_is_read_through_its_task(working_http: httpx.AsyncClient) -> None:
    given = {"messages": [{"type": "human", "content": "hi", "id": "h1"}]}
    path, _ = await ran(working_http, "sub", given)
    [task] = (await state(working_http, path))["tasks"]
    assert task["name"] == "child"
    assert task["state"] is None
    namespace = task["checkpoint"]["checkpoint_ns"]
    assert namespace == f"child:{task['id']}"
    [open_task] = (await working_http.get(f"{path}/state?subgraphs=true")).json()["tasks"]
    assert open_task["checkpoint"] is None
    assert open_task["state"]["next"] == ["confirm"]
    assert open_task["state"]["checkpoint"]["checkpoint_ns"] == namespace
    child = (
        await working_http.post(f"{path}/state/checkpoint", json={"checkpoint": task["checkpoint"]})
    ).json()
    assert child["values"] == open_task["state"]["values"]
    wanted = {"checkpoint": {"checkpoint_ns": namespace}, "limit": 10}
    history = (await working_http.post(f"{path}/history", json=wanted)).json()
    assert history[0]["next"] == ["confirm"]
    assert {one["checkpoint"]["checkpoint_ns"] for one in history} == {namespace}


async def test_an_update_writes_as_a_node_and_the_thread_waits_for_the_next(
    working_http: httpx.AsyncClient,
) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    written = await working_http.post(f"{path}/state", json={"values": {"trace": ["X"]}, "as_node": "A"})
    assert written.status_code == 200, written.text
    now = await state(working_http, path)
    assert written.json() == {
        "checkpoint": now["checkpoint"],
        "configurable": now["checkpoint"],
        "checkpoint_id": now["checkpoint_id"],
    }
    assert now["values"] == {"trace": ["A", "B", "C", "X"]}
    assert now["next"] == ["B"]
    assert now["metadata"]["source"] == "update"
    thread = (await working_http.get(path)).json()
    assert (thread["status"], thread["values"]) == ("interrupted", now["values"])
    assert await run(working_http, path, "abc") == {"trace": ["A", "B", "C", "X", "B", "C"]}


async def test_an_update_at_a_checkpoint_branches_there_and_becomes_the_head(
    working_http: httpx.AsyncClient,
) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    history = (await working_http.post(f"{path}/history", json={"limit": 10})).json()
    base = history[2]
    await working_http.post(
        f"{path}/state",
        json={"values": {"trace": ["other"]}, "as_node": "B", "checkpoint_id": base["checkpoint_id"]},
    )
    now = await state(working_http, path)
    assert now["values"] == {"trace": ["A", "other"]}
    assert now["parent_checkpoint_id"] == base["checkpoint_id"]
    assert await run(working_http, path, "abc") == {"trace": ["A", "other", "C"]}


async def test_ending_a_waiting_thread_by_hand_lets_it_go_on(working_http: httpx.AsyncClient) -> None:
    path, _ = await ran(working_http, "hitl", {"before": 0})
    ended = await working_http.post(f"{path}/state", json={"values": None, "as_node": "__end__"})
    assert ended.status_code == 200, ended.text
    thread = (await working_http.get(path)).json()
    assert (thread["status"], thread["interrupts"]) == ("idle", {})
    assert (await state(working_http, path))["next"] == []
    again = await run(working_http, path, "hitl", {"before": 5})
    assert again["before"] == 6
    assert again["__interrupt__"]


async def test_a_copy_of_the_last_checkpoint_is_a_fork_with_the_same_next(
    working_http: httpx.AsyncClient,
) -> None:
    path, _ = await ran(working_http, "hitl", {"before": 0})
    before = await state(working_http, path)
    await working_http.post(f"{path}/state", json={"values": None, "as_node": "__copy__"})
    after = await state(working_http, path)
    assert after["checkpoint_id"] != before["checkpoint_id"]
    assert (after["values"], after["next"]) == (before["values"], before["next"])
    assert after["metadata"]["source"] == "fork"
    assert after["metadata"]["step"] == before["metadata"]["step"] + 1


async def test_several_updates_in_a_list_go_through_the_reducers_one_after_the_other(
    working_http: httpx.AsyncClient,
) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    updates = [{"trace": ["first"]}, {"trace": ["second"]}]
    written = await working_http.post(f"{path}/state", json={"values": updates, "as_node": "C"})
    assert written.status_code == 200, written.text
    now = await state(working_http, path)
    assert now["values"] == {"trace": ["A", "B", "C", "first", "second"]}
    assert now["checkpoint"] == written.json()["checkpoint"]


async def test_an_update_that_says_nothing_is_a_question(working_http: httpx.AsyncClient) -> None:
    path, _ = await ran(working_http, "hitl", {"before": 0})
    before = await state(working_http, path)
    asked = await working_http.post(f"{path}/state", json={})
    assert asked.status_code == 200, asked.text
    assert asked.json() == before == await state(working_http, path)
    as_if_returned = await working_http.post(f"{path}/state", json={"values": None, "as_node": "ask"})
    assert as_if_returned.json()["checkpoint_id"] != before["checkpoint_id"]
    assert (await working_http.post(f"/threads/{uuid4()}/state", json={})).status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"values": {"trace": []}, "as_node": "zz"}, "Node zz does not exist"),
        ({"values": [1, 2], "as_node": "A"}, "Expected dict"),
        ({"values": [{"trace": ["x"]}, 2], "as_node": "A"}, "Expected dict"),
        ({"values": [], "as_node": "A"}, "Expected dict"),
        ({"values": {"trace": 5}, "as_node": "A"}, "the graph refuses the update"),
        ({"values": {}, "as_node": "A", "checkpoint": {"checkpoint_ns": "nope"}}, "nope"),
    ],
)
async def test_an_update_that_the_graph_refuses_leaves_everything_as_it_was(
    working_http: httpx.AsyncClient, body: dict[str, Any], words: str
) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    before = await state(working_http, path)
    refused = await working_http.post(f"{path}/state", json=body)
    assert refused.status_code == 400, refused.text
    assert words in refused.json()["detail"]
    assert await state(working_http, path) == before
    assert (await working_http.get(path)).json()["status"] == "idle"


async def test_an_update_needs_a_graph_a_thread_and_peace(http: httpx.AsyncClient) -> None:
    body = {"values": {"trace": ["X"]}, "as_node": "A"}
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    without_graph = await http.post(f"/threads/{thread}/state", json=body)
    assert without_graph.status_code == 400
    assert "no associated graph" in without_graph.json()["detail"]
    assert "graph_id" in without_graph.json()["detail"]
    assert (await http.post(f"/threads/{uuid4()}/state", json=body)).status_code == 404
    await http.post(f"/threads/{thread}/runs", json={"assistant_id": "abc", "input": {}})
    busy = await http.post(f"/threads/{thread}/state", json=body)
    assert busy.status_code == 409
    assert busy.json()["code"] == "conflict"


async def test_a_thread_may_begin_with_supersteps(working_http: httpx.AsyncClient) -> None:
    steps = [
        {"updates": [{"values": {"trace": ["given"]}, "as_node": "__input__"}]},
        {"updates": [{"values": {"trace": ["given"]}, "as_node": "__start__"}]},
        {"updates": [{"values": {"trace": ["A"]}, "as_node": "A"}]},
    ]
    made = await working_http.post("/threads", json={"metadata": {"graph_id": "abc"}, "supersteps": steps})
    assert made.status_code == 200, made.text
    path = f"/threads/{made.json()['thread_id']}"
    assert made.json()["values"] == {"trace": ["given", "A"]}
    assert made.json()["status"] == "interrupted"
    assert (await state(working_http, path))["next"] == ["B"]
    assert await run(working_http, path, "abc") == {"trace": ["given", "A", "B", "C"]}


async def test_supersteps_may_be_commands(working_http: httpx.AsyncClient) -> None:
    steps = [
        {"updates": [{"values": {"before": 1}, "as_node": "__input__"}]},
        {
            "updates": [
                {"command": {"update": {"before": 7}, "goto": "count_after"}, "as_node": "count_before"}
            ]
        },
    ]
    made = await working_http.post("/threads", json={"metadata": {"graph_id": "hitl"}, "supersteps": steps})
    assert made.status_code == 200, made.text
    assert made.json()["values"] == {"before": 7}
    assert "count_after" in (await state(working_http, f"/threads/{made.json()['thread_id']}"))["next"]


async def test_supersteps_that_cannot_be_applied_leave_no_thread(http: httpx.AsyncClient) -> None:
    good = {"updates": [{"values": {"trace": []}, "as_node": "__input__"}]}
    bad = {"updates": [{"values": {"trace": []}, "as_node": "zz"}]}
    for body in (
        {"supersteps": [good]},
        {"metadata": {"graph_id": "abc"}, "supersteps": [good, bad]},
        {"metadata": {"graph_id": "nope"}, "supersteps": [good]},
        {"metadata": {"graph_id": "abc"}, "supersteps": [{"updates": []}]},
    ):
        answer = await http.post("/threads", json=body)
        assert 400 <= answer.status_code < 500, answer.text
    assert (await http.post("/threads/count", json={})).json() == 0


async def test_a_copied_thread_has_the_history_and_goes_its_own_way(
    working_http: httpx.AsyncClient,
) -> None:
    path, _ = await ran(working_http, "hitl", {"before": 0}, metadata={})
    await working_http.patch(path, json={"metadata": {"title": "T"}})
    copied = (await working_http.post(f"{path}/copy")).json()
    copy = f"/threads/{copied['thread_id']}"
    assert copied["metadata"]["title"] == "T"
    assert copied["status"] == "interrupted"
    theirs = (await working_http.post(f"{path}/history", json={"limit": 10})).json()
    ours = (await working_http.post(f"{copy}/history", json={"limit": 10})).json()
    assert [one["checkpoint_id"] for one in ours] == [one["checkpoint_id"] for one in theirs]
    assert {one["checkpoint"]["thread_id"] for one in ours} == {copied["thread_id"]}
    answered = await run(working_http, copy, "hitl", command={"resume": "yes"})
    assert answered == {"before": 1, "answer": "yes", "after": 1}
    assert (await working_http.get(path)).json()["status"] == "interrupted"
    assert (await working_http.get(f"{path}/runs")).json()
    assert len((await working_http.get(f"{copy}/runs")).json()) == 1


async def test_pruning_to_the_latest_state_keeps_the_thread_going(working_http: httpx.AsyncClient) -> None:
    path, _ = await ran(working_http, "hitl", {"before": 0})
    before = await state(working_http, path)
    wanted = {"thread_ids": [path.removeprefix("/threads/")], "strategy": "keep_latest"}
    assert (await working_http.post("/threads/prune", json=wanted)).json() == {"pruned_count": 1}
    assert len((await working_http.post(f"{path}/history", json={"limit": 10})).json()) == 1
    after = await state(working_http, path)
    assert (after["values"], after["next"], after["interrupts"]) == (
        before["values"],
        before["next"],
        before["interrupts"],
    )
    answered = await run(working_http, path, "hitl", command={"resume": "yes"})
    assert answered["answer"] == "yes"


async def test_updates_at_once_are_applied_one_after_the_other_or_refused(
    working_http: httpx.AsyncClient,
) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    body = {"values": {"trace": ["X"]}, "as_node": "C"}
    answers = await asyncio.gather(*(working_http.post(f"{path}/state", json=body) for _ in range(5)))
    stored = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert stored
    trace = (await state(working_http, path))["values"]["trace"]
    assert trace.count("X") >= len(stored)
    assert (await working_http.get(path)).json()["values"]["trace"] == trace


async def test_the_last_values_the_state_and_the_first_of_history_are_equal(
    working_http: httpx.AsyncClient,
) -> None:
    given = {"messages": [{"type": "human", "content": "hi", "id": "h1"}]}
    path, values = await ran(working_http, "chat", given)
    now = await state(working_http, path)
    [newest] = (await working_http.post(f"{path}/history", json={"limit": 1})).json()
    assert values == now["values"] == newest["values"] == (await working_http.get(path)).json()["values"]
    assert now["checkpoint"] == newest["checkpoint"]


@pytest.mark.parametrize("given", [{}, {"input": None}])
async def test_a_run_from_a_checkpoint_without_input_does_not_begin_anew(
    working_http: httpx.AsyncClient, given: dict[str, Any]
) -> None:
    path, _ = await ran(working_http, "abc", {"trace": []})
    history = (await working_http.post(f"{path}/history", json={"limit": 10})).json()
    base = next(one for one in history if one["next"] == ["B"])
    answer = await working_http.post(
        f"{path}/runs/wait", json={"assistant_id": "abc", "checkpoint": base["checkpoint"], **given}
    )
    assert answer.json() == {"trace": ["A", "B", "C"]}
    after = (await working_http.post(f"{path}/history", json={"limit": 20})).json()
    new = after[: len(after) - len(history)]
    assert [one["metadata"]["source"] for one in new] == ["loop", "loop", "fork"]
    assert new[-1]["parent_checkpoint_id"] in (base["checkpoint_id"], base["parent_checkpoint_id"])


async def test_values_that_json_has_no_word_for_are_read_back(working_http: httpx.AsyncClient) -> None:
    path, values = await ran(working_http, "odd", {})
    now = await state(working_http, path)
    assert now["values"] == {name: value for name, value in values.items() if name != "__interrupt__"}
    assert (await working_http.get(path)).json()["values"] == now["values"]
    assert (await working_http.post(f"{path}/history", json={"limit": 5})).status_code == 200
