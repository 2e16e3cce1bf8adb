"""Assistants over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import pytest

NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


async def make(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/assistants", json={"graph_id": "chat", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_every_graph_has_a_default_assistant_with_a_computable_id(http: httpx.AsyncClient) -> None:
    found = (await http.get(f"/assistants/{uuid5(NAMESPACE, 'chat')}")).json()
    assert found["graph_id"] == found["name"] == "chat"
    assert found["metadata"] == {"created_by": "system"}
    assert found["version"] == 1
    assert found["description"] == "Streams the words of a fixed answer"


async def test_an_assistant_has_the_shape_that_clients_expect(http: httpx.AsyncClient) -> None:
    made = await make(http, context={"model": "m"}, config={"tags": ["t"]}, metadata={"team": "a"})
    assert made.keys() == {
        "assistant_id",
        "graph_id",
        "name",
        "description",
        "version",
        "config",
        "context",
        "metadata",
        "created_at",
        "updated_at",
    }
    assert (made["name"], made["version"], made["description"]) == ("Untitled", 1, None)
    assert made["config"] == {"tags": ["t"], "configurable": {"model": "m"}}
    assert made["context"] == {"model": "m"}
    assert UUID(made["assistant_id"]).version == 4
    assert (await http.get(f"/assistants/{made['assistant_id']}")).json() == made


async def test_configurable_is_mirrored_into_context_and_both_are_refused(http: httpx.AsyncClient) -> None:
    made = await make(http, config={"configurable": {"k": 1}})
    assert made["context"] == {"k": 1}
    both = {"graph_id": "chat", "config": {"configurable": {"k": 1}}, "context": {"k": 2}}
    assert (await http.post("/assistants", json=both)).status_code == 400
    patched = await http.patch(f"/assistants/{made['assistant_id']}", json={"context": {"z": 1}})
    assert patched.json()["config"] == {"configurable": {"z": 1}}


@pytest.mark.parametrize(
    "config",
    [
        {"budget": "x"},
        {"budget": {"steps": -1}},
        {"budget": {"stepz": 1}},
        {"configurable": "x"},
        {"configurable": {"__pregel_checkpointer": None}},
        {"recursion_limit": "a"},
        {"recursion_limit": 0},
        {"max_concurrency": "many"},
        {"tags": 5},
        {"metadata": []},
    ],
)
async def test_a_config_that_no_run_could_use_is_not_saved(
    http: httpx.AsyncClient, config: dict[str, Any]
) -> None:
    answer = await http.post("/assistants", json={"graph_id": "chat", "config": config})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    made = await make(http)
    answer = await http.patch(f"/assistants/{made['assistant_id']}", json={"config": config})
    assert answer.status_code == 422
    usable = {"recursion_limit": 5, "tags": ["t"], "budget": {"steps": 2}, "own": 1}
    assert (await make(http, config=usable))["config"] == usable


async def test_an_unknown_graph_is_not_found_and_the_known_ones_are_named(http: httpx.AsyncClient) -> None:
    answer = await http.post("/assistants", json={"graph_id": "zzz"})
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Graph 'zzz' not found. Expected one of: [")


async def test_an_id_that_is_taken_conflicts_or_is_left_alone(http: httpx.AsyncClient) -> None:
    made = await make(http, name="first")
    again = {"graph_id": "chat", "assistant_id": made["assistant_id"], "name": "second"}
    assert (await http.post("/assistants", json=again)).status_code == 409
    kept = await http.post("/assistants", json={**again, "if_exists": "do_nothing"})
    assert kept.json() == made


async def test_ten_equal_creates_at_once_make_one_assistant(http: httpx.AsyncClient) -> None:
    wanted = {"graph_id": "chat", "assistant_id": str(uuid4())}
    answers = await asyncio.gather(*(http.post("/assistants", json=wanted) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    lenient = {**wanted, "assistant_id": str(uuid4()), "if_exists": "do_nothing"}
    answers = await asyncio.gather(*(http.post("/assistants", json=lenient) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


async def test_every_change_is_a_version_and_what_is_left_out_carries_over(http: httpx.AsyncClient) -> None:
    made = await make(http, name="n", metadata={"a": 1, "b": {"x": 1}}, description="d")
    path = f"/assistants/{made['assistant_id']}"
    second = (await http.patch(path, json={"metadata": {"b": {"y": 2}}})).json()
    assert second["version"] == 2
    assert second["metadata"] == {"a": 1, "b": {"y": 2}}
    assert (second["name"], second["description"]) == ("n", "d")
    third = (await http.patch(path, json={})).json()
    assert third["version"] == 3
    fourth = (await http.patch(path, json={"graph_id": "abc", "description": None})).json()
    assert (fourth["graph_id"], fourth["description"]) == ("abc", None)
    versions = (await http.post(f"{path}/versions", json={})).json()
    assert [one["version"] for one in versions] == [4, 3, 2, 1]
    assert "updated_at" not in versions[0]
    page = (await http.post(f"{path}/versions", json={"limit": 1, "offset": 1})).json()
    assert [one["version"] for one in page] == [3]


async def test_an_older_version_returns_and_the_next_change_still_gets_a_new_number(
    http: httpx.AsyncClient,
) -> None:
    made = await make(http, name="one")
    path = f"/assistants/{made['assistant_id']}"
    await http.patch(path, json={"name": "two"})
    restored = (await http.post(f"{path}/latest", json={"version": 1})).json()
    assert (restored["version"], restored["name"]) == (1, "one")
    assert (await http.patch(path, json={})).json()["version"] == 3
    missing = await http.post(f"{path}/latest", json={"version": 99})
    assert missing.status_code == 404
    assert missing.json()["detail"].startswith("Version 99 not found")


async def test_changes_at_once_each_get_their_own_version(http: httpx.AsyncClient) -> None:
    made = await make(http)
    path = f"/assistants/{made['assistant_id']}"
    answers = await asyncio.gather(*(http.patch(path, json={"name": f"n{i}"}) for i in range(8)))
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 10))


async def test_a_search_filters_sorts_pages_and_selects(http: httpx.AsyncClient) -> None:
    for number in range(5):
        await make(http, name=f"Search Me {number}", metadata={"batch": "s", "n": number})
    wanted: dict[str, Any] = {"metadata": {"batch": "s"}, "limit": 2}
    first = await http.post("/assistants/search", json=wanted)
    assert [one["metadata"]["n"] for one in first.json()] == [4, 3]
    assert first.headers["x-pagination-total"] == "5"
    assert first.headers["x-pagination-next"] == "2"
    last = await http.post("/assistants/search", json={**wanted, "offset": 4})
    assert [one["metadata"]["n"] for one in last.json()] == [0]
    assert last.headers["x-pagination-total"] == "5"
    assert "x-pagination-next" not in last.headers
    past = await http.post("/assistants/search", json={**wanted, "offset": 40})
    assert past.json() == []
    assert past.headers["x-pagination-total"] == "5"
    by_name = await http.post(
        "/assistants/search",
        json={"name": "search me", "sort_by": "name", "sort_order": "asc", "select": ["name"]},
    )
    assert by_name.json() == [{"name": f"Search Me {number}"} for number in range(5)]
    assert (await http.post("/assistants/count", json={"metadata": {"batch": "s"}})).json() == 5
    assert (await http.post("/assistants/count", json={"name": "100%"})).json() == 0
    assert (await http.post("/assistants/count", json={"graph_id": "abc"})).json() == 1


@pytest.mark.parametrize("sort_by", ["assistant_id", "created_at", "updated_at", "name", "graph_id"])
@pytest.mark.parametrize("sort_order", ["asc", "desc"])
async def test_every_order_covers_all_assistants_once(
    http: httpx.AsyncClient, sort_by: str, sort_order: str
) -> None:
    seen: list[str] = []
    offset: str | None = "0"
    while offset is not None:
        wanted = {"limit": 4, "offset": int(offset), "sort_by": sort_by, "sort_order": sort_order}
        page = await http.post("/assistants/search", json=wanted)
        seen += [one["assistant_id"] for one in page.json()]
        offset = page.headers.get("x-pagination-next")
        total = int(page.headers["x-pagination-total"])
        assert len(seen) == len(set(seen)) <= total
        assert (len(seen) == total) == (offset is None)


async def test_a_deleted_assistant_is_gone_with_its_versions(http: httpx.AsyncClient) -> None:
    made = await make(http)
    path = f"/assistants/{made['assistant_id']}"
    assert (await http.delete(path)).status_code == 204
    for answer in (await http.get(path), await http.delete(path), await http.patch(path, json={})):
        assert (answer.status_code, answer.json()["detail"]) == (404, "Not Found")
    assert (await http.post(f"{path}/versions", json={})).status_code == 404
    again = await make(http, assistant_id=made["assistant_id"])
    assert again["version"] == 1


async def test_deleting_an_assistant_with_its_threads_spares_the_others(http: httpx.AsyncClient) -> None:
    made = await make(http)
    stamped = {"metadata": {"assistant_id": made["assistant_id"]}}
    mine = (await http.post("/threads", json=stamped)).json()["thread_id"]
    other = (await http.post("/threads", json={})).json()["thread_id"]
    await http.delete(f"/assistants/{made['assistant_id']}?delete_threads=true")
    assert (await http.get(f"/threads/{mine}")).status_code == 404
    assert (await http.get(f"/threads/{other}")).status_code == 200


async def test_deleting_an_assistant_stops_its_runs_and_no_others(http: httpx.AsyncClient) -> None:
    doomed, kept = await make(http), await make(http)
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    path = f"/threads/{thread}/runs"
    runs = [
        (await http.post(path, json={"assistant_id": one["assistant_id"], "input": {}})).json()["run_id"]
        for one in (doomed, kept, doomed)
    ]
    assert (await http.delete(f"/assistants/{doomed['assistant_id']}")).status_code == 204
    left = [(await http.get(f"{path}/{run}")).json() for run in runs]
    assert [run["status"] for run in left] == ["interrupted", "pending", "interrupted"]
    assert left[0]["cancel_reason"] == "the assistant was deleted"
    assert (await http.delete(f"/assistants/{kept['assistant_id']}")).status_code == 204
    assert (await http.get(f"/threads/{thread}")).json()["status"] != "busy"


async def test_a_megabyte_of_config_is_kept_and_changed(http: httpx.AsyncClient) -> None:
    prompt = "x" * 1_000_000
    made = await make(http, config={"configurable": {"prompt": prompt}})
    patched = await http.patch(f"/assistants/{made['assistant_id']}", json={"name": "big"})
    assert patched.json()["config"]["configurable"]["prompt"] == prompt


async def test_a_graph_is_drawn_by_id_or_name_and_opened_by_xray(http: httpx.AsyncClient) -> None:
    by_name = (await http.get("/assistants/sub/graph")).json()
    by_id = (await http.get(f"/assistants/{uuid5(NAMESPACE, 'sub')}/graph")).json()
    assert by_name == by_id
    assert {"source", "target"} <= by_name["edges"][0].keys() <= {"source", "target", "data", "conditional"}
    assert not any(":" in node["id"] for node in by_name["nodes"])
    for xray in ("true", "1"):
        opened = (await http.get(f"/assistants/sub/graph?xray={xray}")).json()
        assert any(":" in node["id"] for node in opened["nodes"])
    for xray in ("0", "-1", "maybe", "1.5"):
        assert (await http.get(f"/assistants/sub/graph?xray={xray}")).status_code == 422
    assert (await http.get("/assistants/nope/graph")).status_code == 422
    assert (await http.get(f"/assistants/{uuid4()}/graph")).status_code == 404


async def test_schemas_of_a_graph_and_of_its_sub_graphs_are_json_schemas(http: httpx.AsyncClient) -> None:
    found = (await http.get(f"/assistants/{uuid5(NAMESPACE, 'sub')}/schemas")).json()
    assert found.keys() == {
        "graph_id",
        "input_schema",
        "output_schema",
        "state_schema",
        "config_schema",
        "context_schema",
    }
    assert found["input_schema"]["type"] == "object"
    assert found["state_schema"]["properties"]
    children = (await http.get("/assistants/sub/subgraphs?recurse=true")).json()
    assert children
    name = next(iter(children))
    assert "graph_id" not in children[name]
    assert (await http.get(f"/assistants/sub/subgraphs/{name}")).json().keys() == {name}
    assert (await http.get("/assistants/sub/subgraphs/nothing")).json() == {}


async def test_every_graph_can_be_drawn_and_described(http: httpx.AsyncClient) -> None:
    found = (await http.post("/assistants/search", json={"limit": 100})).json()
    for one in found:
        for what in ("graph?xray=true", "schemas", "subgraphs?recurse=true"):
            answer = await http.get(f"/assistants/{one['assistant_id']}/{what}")
            assert answer.status_code == 200, (one["graph_id"], what, answer.text)
