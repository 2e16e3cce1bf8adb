"""Threads over HTTP."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from interlock.checkpoints.database import Database


async def make(http: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/threads", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_new_thread_has_the_shape_that_clients_expect(http: httpx.AsyncClient) -> None:
    made = await make(http, metadata={"title": "T", "graph_id": None})
    assert made["metadata"] == {"title": "T"}
    assert (made["status"], made["values"], made["interrupts"], made["error"]) == ("idle", None, {}, None)
    assert made["config"] == {}
    assert UUID(made["thread_id"]).version == 7
    for name in ("created_at", "updated_at", "state_updated_at"):
        assert datetime.fromisoformat(made[name]).tzinfo is not None
    assert (await http.get(f"/threads/{made['thread_id']}")).json() == made


async def test_ten_equal_creates_at_once_make_one_thread(http: httpx.AsyncClient) -> None:
    wanted = {"thread_id": str(uuid4())}
    answers = await asyncio.gather(*(http.post("/threads", json=wanted) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    assert "already exists" in next(a for a in answers if a.status_code == 409).json()["detail"]
    lenient = {"thread_id": str(uuid4()), "if_exists": "do_nothing"}
    answers = await asyncio.gather(*(http.post("/threads", json=lenient) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1


async def test_metadata_is_merged_one_level_deep_and_null_is_kept(http: httpx.AsyncClient) -> None:
    made = await make(http, metadata={"title": "T", "nested": {"a": 1}})
    path = f"/threads/{made['thread_id']}"
    changed = await http.patch(path, json={"metadata": {"nested": {"b": 2}, "gone": None}})
    assert changed.json()["metadata"] == {"title": "T", "nested": {"b": 2}, "gone": None}
    assert changed.json()["updated_at"] > made["updated_at"]
    minimal = await http.patch(path, json={"metadata": {}}, headers={"prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (204, b"")
    assert (await http.patch(f"/threads/{uuid4()}", json={"metadata": {}})).status_code == 404


async def test_a_deleted_thread_is_gone(http: httpx.AsyncClient) -> None:
    path = f"/threads/{(await make(http))['thread_id']}"
    assert (await http.delete(path)).status_code == 204
    assert (await http.delete(path)).status_code == 404
    missing = await http.get(path)
    assert missing.status_code == 404
    assert missing.json()["detail"].endswith("not found")


async def test_a_search_filters_by_metadata_ids_values_and_status(
    http: httpx.AsyncClient, database: Database
) -> None:
    made = [await make(http, metadata={"n": number, "tag": {"x": [number]}}) for number in range(4)]
    ids = [one["thread_id"] for one in made]
    await database.execute(
        b"UPDATE interlock.threads SET settled_status = 'interrupted', values = '{\"a\": {\"b\": 1}}' "
        b"WHERE thread_id = %s",
        (ids[2],),
    )

    async def found(**wanted: Any) -> list[str]:
        answer = await http.post("/threads/search", json=wanted)
        count = {name: wanted[name] for name in ("metadata", "values", "status") if name in wanted}
        if "ids" not in wanted:
            total = (await http.post("/threads/count", json=count)).json()
            assert total == int(answer.headers["x-pagination-total"])
        return [one["thread_id"] for one in answer.json()]

    assert await found(metadata={"n": 1}) == [ids[1]]
    assert await found(metadata={"tag": {"x": [3]}}) == [ids[3]]
    assert await found(ids=ids[:2], sort_by="created_at", sort_order="asc") == ids[:2]
    assert await found(ids=[]) == []
    assert await found(status="interrupted") == [ids[2]]
    assert await found(values={"a": {"b": 1}}) == [ids[2]]
    assert await found(status="busy") == []
    assert len(await found()) == 4


async def test_a_thread_with_a_run_in_flight_is_busy_in_every_answer(http: httpx.AsyncClient) -> None:
    busy, idle = (await make(http))["thread_id"], (await make(http))["thread_id"]
    run = await http.post(f"/threads/{busy}/runs", json={"assistant_id": "chat", "input": {}})
    assert run.status_code == 200, run.text
    assert (await http.get(f"/threads/{busy}")).json()["status"] == "busy"
    assert (await http.patch(f"/threads/{busy}", json={"metadata": {}})).json()["status"] == "busy"
    for status, thread_id in (("busy", busy), ("idle", idle)):
        found = (await http.post("/threads/search", json={"status": status})).json()
        assert [(one["thread_id"], one["status"]) for one in found] == [(thread_id, status)]


async def test_an_order_may_be_given_as_one_text(http: httpx.AsyncClient) -> None:
    ids = [(await make(http))["thread_id"] for _ in range(3)]
    for order_by, expected in (
        ("created_at ASC", ids),
        ("created_at DESC", ids[::-1]),
        ("created_at", ids[::-1]),
        ("thread_id asc", ids),
    ):
        answer = await http.post("/threads/search", json={"order_by": order_by})
        assert [one["thread_id"] for one in answer.json()] == expected
        assert "x-interlock-warning" not in answer.headers
    for unheeded in (
        {"order_by": "colour ASC"},
        {"order_by": "created_at upwards"},
        {"sort_by": "created_at", "order_by": "created_at ASC"},
    ):
        answer = await http.post("/threads/search", json=unheeded)
        assert [one["thread_id"] for one in answer.json()] == ids[::-1]
        assert "order_by" in answer.headers["x-interlock-warning"]


async def test_the_thread_changed_last_comes_first(http: httpx.AsyncClient) -> None:
    ids = [(await make(http))["thread_id"] for _ in range(3)]
    await http.patch(f"/threads/{ids[0]}", json={"metadata": {"touched": True}})
    found = (await http.post("/threads/search", json={})).json()
    assert [one["thread_id"] for one in found] == [ids[0], ids[2], ids[1]]


@pytest.mark.parametrize("sort_by", ["thread_id", "status", "created_at", "updated_at", "state_updated_at"])
@pytest.mark.parametrize("sort_order", ["asc", "desc"])
async def test_every_order_covers_all_threads_once(
    http: httpx.AsyncClient, sort_by: str, sort_order: str
) -> None:
    made = {(await make(http))["thread_id"] for _ in range(11)}
    seen: list[str] = []
    offset: str | None = "0"
    while offset is not None:
        wanted = {"limit": 5, "offset": int(offset), "sort_by": sort_by, "sort_order": sort_order}
        page = await http.post("/threads/search", json=wanted)
        seen += [one["thread_id"] for one in page.json()]
        offset = page.headers.get("x-pagination-next")
    assert len(seen) == len(made)
    assert set(seen) == made


async def test_a_search_selects_fields_and_extracts_paths(
    http: httpx.AsyncClient, database: Database
) -> None:
    await make(http, metadata={"title": "T"})
    await database.execute(
        b'UPDATE interlock.threads SET values = \'{"messages": [{"content": "a"}, {"content": "b"}]}\''
    )
    wanted = {
        "select": ["metadata", "status"],
        "extract": {"last": "values.messages[-1].content", "none": "values.x.y", "title": "metadata.title"},
    }
    [found] = (await http.post("/threads/search", json=wanted)).json()
    assert found == {
        "metadata": {"title": "T"},
        "status": "idle",
        "extracted": {"last": "b", "none": None, "title": "T"},
    }
    assert (await http.post("/threads/search", json={"select": ["nope"]})).status_code == 422
    assert (await http.post("/threads/search", json={"extract": {"a": "status"}})).status_code == 422


async def test_values_that_jsonb_cannot_hold_are_shown_as_they_are(
    http: httpx.AsyncClient, database: Database
) -> None:
    made = await make(http)
    await database.execute(
        b'UPDATE interlock.threads SET values = \'{"t": "ab"}\', exact = %s',
        (b'{"values": {"t": "a\\u0000b"}, "interrupts": {}, "error": null}',),
    )
    assert (await http.get(f"/threads/{made['thread_id']}")).json()["values"] == {"t": "a\x00b"}
    [found] = (await http.post("/threads/search", json={})).json()
    assert found["values"] == {"t": "a\x00b"}


async def test_pruning_passes_over_unknown_and_busy_threads(http: httpx.AsyncClient) -> None:
    idle, busy = (await make(http))["thread_id"], (await make(http))["thread_id"]
    await http.post(f"/threads/{busy}/runs", json={"assistant_id": "chat", "input": {}})
    answer = await http.post("/threads/prune", json={"thread_ids": [idle, busy, str(uuid4()), idle]})
    assert answer.json() == {"pruned_count": 1}
    assert (await http.get(f"/threads/{idle}")).status_code == 404
    assert (await http.get(f"/threads/{busy}")).status_code == 200


async def test_a_copy_of_nothing_conflicts(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"/threads/{uuid4()}/copy")
    assert (answer.status_code, answer.json()["detail"]) == (409, "Conflict")


async def test_a_title_and_a_given_graph_id_stay_when_runs_come(http: httpx.AsyncClient) -> None:
    made = await make(http, metadata={"title": "Mine", "graph_id": "chat", "assistant_id": "chat"})
    path = f"/threads/{made['thread_id']}"
    await http.post(f"{path}/runs", json={"assistant_id": "chat", "input": {}})
    metadata = (await http.get(path)).json()["metadata"]
    assert metadata["title"] == "Mine"
    assert metadata["graph_id"] == "chat"
    found = await http.post("/threads/search", json={"metadata": {"title": "Mine", "graph_id": "chat"}})
    assert [one["thread_id"] for one in found.json()] == [made["thread_id"]]


async def test_the_storage_of_a_thread_is_told_by_kind_and_channel(working_http: httpx.AsyncClient) -> None:
    made = await make(working_http)
    path = f"/threads/{made['thread_id']}"
    empty = (await working_http.get(f"{path}/storage")).json()
    assert empty == {
        "thread_id": made["thread_id"],
        "total_bytes": 0,
        "checkpoints": {"count": 0, "bytes": 0},
        "channel_values": {"count": 0, "bytes": 0, "by_channel": {}},
        "pending_writes": {"count": 0, "bytes": 0},
    }
    ask = {"assistant_id": "chat", "input": {"messages": [{"role": "user", "content": "hi"}]}}
    await working_http.post(f"{path}/runs/wait", json=ask)
    told = (await working_http.get(f"{path}/storage")).json()
    history = (await working_http.post(f"{path}/history", json={"limit": 100})).json()
    assert told["checkpoints"]["count"] == len(history)
    assert told["channel_values"]["by_channel"]["messages"] > 0
    assert told["channel_values"]["bytes"] == sum(told["channel_values"]["by_channel"].values())
    kinds = ("checkpoints", "channel_values", "pending_writes")
    assert told["total_bytes"] == sum(told[kind]["bytes"] for kind in kinds)
    missing = await working_http.get(f"/threads/{uuid4()}/storage")
    assert missing.status_code == 404
