"""Runs over HTTP: made, followed, joined, listed, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from .conftest import ServeApi

HUMAN = {"messages": [{"type": "human", "content": "hi", "id": "h1"}]}


async def new_thread(http: httpx.AsyncClient) -> str:
    return f"/threads/{(await http.post('/threads', json={})).json()['thread_id']}"


def frames(answer: httpx.Response) -> list[tuple[str, Any, str | None]]:
    """Event name, data and id of each frame; comments are passed over."""
    assert answer.status_code == 200, answer.text
    found = []
    for block in answer.text.split("\r\n\r\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\r\n") if line and not line.startswith(":")
        )
        if fields:
            found.append((fields["event"], orjson.loads(fields["data"]), fields.get("id")))
    return found


def names(answer: httpx.Response) -> list[str]:
    return [name for name, _, _ in frames(answer)]


@pytest.mark.parametrize("asked", [{}, {"stream_mode": None}, {"stream_mode": []}])
async def test_a_run_that_asks_for_no_stream_mode_shows_values(
    http: httpx.AsyncClient, asked: dict[str, Any]
) -> None:
    made = await http.post("/runs", json={"assistant_id": "chat", "input": HUMAN, **asked})
    assert made.json()["kwargs"]["stream_mode"] == ["values"]


async def test_a_background_run_has_the_shape_that_clients_expect(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    wanted = {
        "assistant_id": "chat",
        "input": HUMAN,
        "metadata": {"m": 1},
        "config": {"configurable": {"k": 1}, "tags": ["t"]},
        "stream_mode": ["values", "updates"],
        "stream_resumable": True,
        "multitask_strategy": "reject",
        "durability": "async",
    }
    answer = await http.post(f"{path}/runs", json=wanted)
    made = answer.json()
    assert answer.headers["content-location"] == f"{path}/runs/{made['run_id']}"
    assert "location" not in answer.headers
    assert UUID(made["run_id"]).version == 7
    assert (made["status"], made["thread_id"]) == ("pending", path.removeprefix("/threads/"))
    assert made["multitask_strategy"] == "reject"
    assert made["metadata"]["m"] == 1
    kwargs = made["kwargs"]
    assert kwargs.keys() >= {
        "input",
        "command",
        "config",
        "context",
        "stream_mode",
        "interrupt_before",
        "interrupt_after",
        "webhook",
        "feedback_keys",
        "temporary",
        "subgraphs",
        "resumable",
        "checkpoint_during",
        "durability",
    }
    assert kwargs["input"] == HUMAN
    assert (kwargs["stream_mode"], kwargs["resumable"]) == (["values", "updates"], True)
    assert (kwargs["durability"], kwargs["subgraphs"]) == ("async", False)
    assert (await http.get(f"{path}/runs/{made['run_id']}")).json() == made
    thread = (await http.get(path)).json()
    assert thread["metadata"]["graph_id"] == "chat"
    assert thread["metadata"]["assistant_id"] == made["assistant_id"]
    assert thread["status"] == "busy"


async def test_a_refused_run_leaves_nothing_behind(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    missing = f"/threads/{uuid4()}"
    for place, body, status in [
        (path, {}, 422),
        (path, {"assistant_id": "nope"}, 422),
        (path, {"assistant_id": str(uuid4())}, 404),
        (path, {"assistant_id": "chat", "stream_mode": "nope"}, 422),
        (path, {"assistant_id": "chat", "webhook": "http://example.org"}, 422),
        (path, {"assistant_id": "chat", "webhook": "https://127.0.0.1/hook"}, 422),
        (path, {"assistant_id": "chat", "multitask_strategy": "nope"}, 422),
        (path, {"assistant_id": "chat", "context": {"a": 1}, "config": {"configurable": {"a": 1}}}, 400),
        (missing, {"assistant_id": "chat"}, 404),
        ("", {"assistant_id": "chat", "command": {"resume": 1}}, 400),
        ("", {"assistant_id": "nope"}, 422),
    ]:
        for kind in ("", "/stream", "/wait"):
            answer = await http.post(f"{place}/runs{kind}", json=body)
            assert answer.status_code == status, (place, body, kind, answer.text)
    assert (await http.get(f"{path}/runs")).json() == []
    assert (await http.post("/threads/count", json={})).json() == 1
    unknown = await http.post(f"{path}/runs", json={"assistant_id": "nope"})
    assert unknown.json()["detail"].startswith("Invalid assistant: 'nope'. Must be either:")


async def test_runs_are_listed_newest_first_by_status_with_single_fields(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    ids = [
        (await http.post(f"{path}/runs", json={"assistant_id": "chat", "input": HUMAN})).json()["run_id"]
        for _ in range(4)
    ]
    listed = (await http.get(f"{path}/runs")).json()
    assert [one["run_id"] for one in listed] == ids[::-1]
    page = (await http.get(f"{path}/runs", params={"limit": 2, "offset": 1})).json()
    assert [one["run_id"] for one in page] == ids[2:0:-1]
    assert (await http.get(f"{path}/runs?limit=0")).json() == []
    assert (await http.get(f"{path}/runs?status=running")).json() == []
    assert len((await http.get(f"{path}/runs?status=pending")).json()) == 4
    some = (await http.get(f"{path}/runs?select=run_id&select=kwargs")).json()
    assert some[0].keys() == {"run_id", "kwargs"}
    assert some[0]["kwargs"]["input"] == HUMAN
    for query in ("status=nope", "limit=-1", "limit=1001", "offset=-1", "select=nope"):
        assert (await http.get(f"{path}/runs?{query}")).status_code == 422, query
    assert (await http.get(f"/threads/{uuid4()}/runs")).status_code == 404


async def test_a_stream_names_one_run_everywhere_and_ends_with_its_values(
    working_http: httpx.AsyncClient,
) -> None:
    path = await new_thread(working_http)
    answer = await working_http.post(
        f"{path}/runs/stream", json={"assistant_id": "abc", "input": {"trace": []}, "stream_mode": ["values"]}
    )
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = frames(answer)
    name, first, first_id = found[0]
    assert name == "metadata"
    assert first_id is None
    assert answer.headers["content-location"] == f"{path}/runs/{first['run_id']}"
    assert answer.headers["location"] == f"{path}/runs/{first['run_id']}/stream"
    assert first["attempt"] == 1
    assert found[-1][:2] == ("values", {"trace": ["A", "B", "C"]})
    run = (await working_http.get(answer.headers["content-location"])).json()
    assert run["status"] == "success"


async def test_a_wait_answers_with_the_values_or_with_the_error_inside(
    working_http: httpx.AsyncClient,
) -> None:
    path = await new_thread(working_http)
    good = await working_http.post(f"{path}/runs/wait", json={"assistant_id": "abc", "input": {"trace": []}})
    assert good.json() == {"trace": ["A", "B", "C"]}
    run_path = good.headers["content-location"]
    assert good.headers["location"] == f"{run_path}/join"
    assert (await working_http.get(f"{run_path}/join")).json() == good.json()
    bad = await working_http.post(f"{path}/runs/wait", json={"assistant_id": "err", "input": {"seconds": 0}})
    assert bad.status_code == 200
    assert bad.json()["__error__"].keys() == {"error", "message"}
    assert (await working_http.get(path)).json()["status"] == "error"
    gone = await working_http.get(f"{path}/runs/{uuid4()}/join")
    assert gone.status_code == 200
    assert gone.json() == {"__error__": {"error": "HTTPException", "message": "404: Run not found"}}


async def test_a_finished_run_is_replayed_from_where_the_reader_stands(
    working_http: httpx.AsyncClient,
) -> None:
    path = await new_thread(working_http)
    body = {
        "assistant_id": "abc",
        "input": {"trace": []},
        "stream_mode": ["values", "updates"],
        "stream_resumable": True,
    }
    first = await working_http.post(f"{path}/runs/stream", json=body)
    whole = frames(first)
    ids = [one_id for _, _, one_id in whole]
    assert None not in ids
    assert len(set(ids)) == len(ids)
    where = first.headers["location"]

    async def again(last_event_id: str | None, query: str = "") -> list[tuple[str, Any, str | None]]:
        headers = {"last-event-id": last_event_id} if last_event_id else {}
        answer = await working_http.get(f"{where}{query}", headers=headers)
        assert answer.headers["location"] == where
        assert answer.headers["content-location"] == first.headers["content-location"]
        return frames(answer)

    assert await again("-1") == whole
    assert await again(ids[3]) == whole[4:]
    assert await again(ids[-1]) == []
    assert await again(None) == [("end", None, None)]
    assert await again("never heard of") == []
    updates = [frame for frame in whole if frame[0] == "updates"]
    assert await again("-1", "?stream_mode=updates") == updates
    assert await again("-1", "?stream_mode=nope") == []
    stateless_way = await working_http.get(
        f"/runs/{whole[0][1]['run_id']}/stream", headers={"last-event-id": "-1"}
    )
    assert frames(stateless_way) == whole


async def test_a_stream_of_nothing_says_so_inside(http: httpx.AsyncClient) -> None:
    for path in (f"/threads/{uuid4()}/runs/{uuid4()}/stream", f"/runs/{uuid4()}/stream"):
        answer = await http.get(path)
        assert frames(answer) == [
            ("error", {"error": "HTTPException", "message": "404: Run not found"}, None)
        ]


async def test_a_stateless_run_leaves_no_thread_unless_it_is_kept(working_http: httpx.AsyncClient) -> None:
    body = {"assistant_id": "abc", "input": {"trace": []}}
    waited = await working_http.post("/runs/wait", json=body)
    assert waited.json() == {"trace": ["A", "B", "C"]}
    assert waited.headers["location"].startswith("/threads/")
    streamed = await working_http.post("/runs/stream", json=body)
    run_id = frames(streamed)[0][1]["run_id"]
    assert streamed.headers["content-location"] == f"/runs/{run_id}"
    assert streamed.headers["location"] == f"/runs/{run_id}/stream"
    background = await working_http.post("/runs", json=body)
    assert background.headers["content-location"] == f"/runs/{background.json()['run_id']}"
    joined = await working_http.get(
        f"/threads/{background.json()['thread_id']}/runs/{background.json()['run_id']}/join"
    )
    assert joined.json() == {"trace": ["A", "B", "C"]}
    assert (await working_http.post("/threads/count", json={})).json() == 0
    kept = await working_http.post("/runs/wait", json={**body, "on_completion": "keep"})
    [thread] = (await working_http.post("/threads/search", json={})).json()
    assert thread["values"] == kept.json()


async def test_a_batch_starts_all_runs_in_order_or_none(http: httpx.AsyncClient) -> None:
    good = {"assistant_id": "chat", "input": HUMAN}
    runs = (await http.post("/runs/batch", json=[good, good, good])).json()
    assert len({run["thread_id"] for run in runs}) == 3
    assert [run["run_id"] for run in runs] == sorted(run["run_id"] for run in runs)
    before = (await http.get("/metrics?format=json")).json()["queue"]["n_pending"]
    for bad in ([good, {"assistant_id": "nope"}, good], [good, {}], [], {}, [1]):
        assert (await http.post("/runs/batch", json=bad)).status_code == 422, bad
    assert (await http.get("/metrics?format=json")).json()["queue"]["n_pending"] == before


@pytest.mark.parametrize(
    ("query", "status", "body"),
    [
        ("", 202, b""),
        ("?wait=0", 202, b""),
        ("?wait=false", 202, b""),
        ("?wait=1", 200, b"{}"),
        ("?wait=true", 200, b"{}"),
        ("?wait=maybe", 422, None),
        ("?action=nope", 422, None),
    ],
)
async def test_a_cancel_takes_its_booleans_in_every_spelling(
    http: httpx.AsyncClient, query: str, status: int, body: bytes | None
) -> None:
    path = await new_thread(http)
    run = (await http.post(f"{path}/runs", json={"assistant_id": "chat", "input": HUMAN})).json()
    run_path = f"{path}/runs/{run['run_id']}"
    answer = await http.post(f"{run_path}/cancel{query}")
    assert answer.status_code == status, answer.text
    if body is None:
        assert (await http.get(run_path)).json()["status"] == "pending"
        return
    assert answer.content == body
    if status == 200:
        assert answer.headers["location"] == f"{run_path}/join"
    assert (await http.get(run_path)).json()["status"] == "interrupted"
    assert (await http.post(f"{run_path}/cancel")).status_code == 404
    assert frames(await http.get(f"{run_path}/stream", headers={"last-event-id": "-1"})) == []


async def test_a_cancel_with_rollback_removes_the_run(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    run = (await http.post(f"{path}/runs", json={"assistant_id": "chat", "input": HUMAN})).json()
    run_path = f"{path}/runs/{run['run_id']}"
    assert (await http.post(f"{run_path}/cancel?action=rollback&wait=1")).status_code == 200
    assert (await http.get(run_path)).status_code == 404
    assert (await http.get(path)).json()["status"] == "idle"


async def test_many_runs_are_cancelled_by_id_or_by_status(http: httpx.AsyncClient) -> None:
    path, other = await new_thread(http), await new_thread(http)
    body = {"assistant_id": "chat", "input": HUMAN}
    ids = [(await http.post(f"{path}/runs", json=body)).json()["run_id"] for _ in range(3)]
    elsewhere = (await http.post(f"{other}/runs", json=body)).json()["run_id"]
    thread_id = path.removeprefix("/threads/")
    named = {"thread_id": thread_id, "run_ids": [ids[0], str(uuid4()), elsewhere]}
    assert (await http.post("/runs/cancel", json=named)).status_code == 204
    assert [one["status"] for one in (await http.get(f"{path}/runs")).json()] == [
        "pending",
        "pending",
        "interrupted",
    ]
    assert (await http.get(f"{other}/runs/{elsewhere}")).json()["status"] == "pending"
    assert (await http.post("/runs/cancel", json={**named, "status": "all"})).status_code == 422
    assert (await http.post("/runs/cancel", json={"thread_id": thread_id})).status_code == 422
    assert (await http.post("/runs/cancel", json={"status": "running"})).status_code == 404
    assert (await http.post("/runs/cancel", json={"status": "all"})).status_code == 204
    assert (await http.post("/runs/cancel", json={"status": "all"})).status_code == 404
    for one in (path, other):
        assert (await http.get(f"{one}/runs?status=pending")).json() == []


async def test_a_deleted_run_is_gone_and_a_busy_thread_can_be_deleted(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    body = {"assistant_id": "chat", "input": HUMAN}
    run = (await http.post(f"{path}/runs", json=body)).json()["run_id"]
    assert (await http.delete(f"{path}/runs/{run}")).status_code == 204
    assert (await http.delete(f"{path}/runs/{run}")).status_code == 404
    await http.post(f"{path}/runs", json=body)
    assert (await http.delete(path)).status_code == 204
    assert (await http.get(path)).status_code == 404


async def test_deleting_a_thread_stops_its_run_and_ends_its_readers(
    working_http: httpx.AsyncClient, until: Callable[..., Awaitable[Any]]
) -> None:
    path = await new_thread(working_http)
    body = {"assistant_id": "never", "input": HUMAN, "stream_mode": "updates"}
    run = (await working_http.post(f"{path}/runs", json=body)).json()["run_id"]
    reading = asyncio.create_task(
        working_http.get(f"{path}/runs/{run}/stream", headers={"last-event-id": "-1"})
    )

    async def is_running() -> bool:
        return (await working_http.get(f"{path}/runs/{run}")).json()["status"] == "running"

    await until(is_running)
    assert (await working_http.delete(path)).status_code == 204
    async with asyncio.timeout(20):
        await reading
    assert (await working_http.get(f"{path}/runs/{run}")).status_code == 404


async def test_a_repeated_create_with_the_same_key_is_the_same_run(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    body = {"assistant_id": "chat", "input": HUMAN}
    keyed = {"idempotency-key": "k1"}
    answers = await asyncio.gather(*(http.post(f"{path}/runs", json=body, headers=keyed) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    changed = await http.post(f"{path}/runs", json={**body, "metadata": {"x": 1}}, headers=keyed)
    assert changed.status_code == 422
    other = await http.post(f"{path}/runs", json=body, headers={"idempotency-key": "k2"})
    assert other.json()["run_id"] != answers[0].json()["run_id"]
    assert len((await http.get(f"{path}/runs")).json()) == 2
    batch = [body, body]
    first = (await http.post("/runs/batch", json=batch, headers=keyed | {"idempotency-key": "b"})).json()
    again = (await http.post("/runs/batch", json=batch, headers=keyed | {"idempotency-key": "b"})).json()
    assert [run["run_id"] for run in first] == [run["run_id"] for run in again]


async def test_fields_that_mean_nothing_here_are_named_in_a_warning(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    body = {
        "assistant_id": "chat",
        "input": HUMAN,
        "feedback_keys": ["f"],
        "langsmith_tracer": {"a": 1},
        "zz": 1,
    }
    answer = await http.post(f"{path}/runs", json=body)
    assert answer.status_code == 200
    warning = answer.headers["x-interlock-warning"]
    for name in ("feedback_keys", "langsmith_tracer", "zz"):
        assert name in warning
    inside = {**body, "command": {"reusme": 1}, "config": {"max_concurrency": 2}}
    answer = await http.post(f"{path}/runs", json=inside)
    assert "command.reusme" in answer.headers["x-interlock-warning"]
    assert "max_concurrency" not in answer.headers["x-interlock-warning"]


async def test_a_pending_run_can_be_joined_and_is_told_when_it_is_cancelled(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    run = (await http.post(f"{path}/runs", json={"assistant_id": "chat", "input": HUMAN})).json()["run_id"]
    joining = asyncio.create_task(http.get(f"{path}/runs/{run}/join"))
    streaming = asyncio.create_task(http.get(f"{path}/runs/{run}/stream"))
    await http.post(f"{path}/runs/{run}/cancel?wait=1")
    async with asyncio.timeout(10):
        assert (await joining).json() == {}
        assert names(await streaming) == []


async def test_a_thread_stream_wants_a_thread_and_modes_that_exist(http: httpx.AsyncClient) -> None:
    path = await new_thread(http)
    assert (await http.get(f"{path}/stream?stream_mode=nope")).status_code == 422
    assert (await http.get(f"/threads/{uuid4()}/stream")).status_code == 404
    unknown_cursor = await http.get(f"{path}/stream", headers={"last-event-id": "-1"})
    assert frames(unknown_cursor) == []


async def test_more_runs_in_a_batch_than_the_server_takes_are_refused_whole(serve_api: ServeApi) -> None:
    one = {"assistant_id": "chat", "input": HUMAN}
    async with serve_api(http={"max_batch_runs": 3}) as http:
        refused = await http.post("/runs/batch", json=[one] * 4)
        assert refused.status_code == 422
        assert "4 runs in one batch; this server takes up to 3" in refused.json()["detail"]
        assert (await http.post("/threads/count", json={})).json() == 0
        assert len((await http.post("/runs/batch", json=[one] * 3)).json()) == 3


async def test_a_recursion_limit_above_that_of_the_server_is_refused_wherever_it_is_set(
    serve_api: ServeApi,
) -> None:
    async with serve_api(graphs={"max_recursion_limit": 50}) as http:
        path = await new_thread(http)

        async def ask(assistant_id: str, limit: int | None) -> httpx.Response:
            config = {} if limit is None else {"recursion_limit": limit}
            wanted = {"assistant_id": assistant_id, "input": HUMAN, "config": config}
            return await http.post(f"{path}/runs", json=wanted)

        saved = {"graph_id": "chat", "config": {"recursion_limit": 51}}
        made = (await http.post("/assistants", json=saved)).json()["assistant_id"]
        for refused in (await ask("chat", 51), await ask(made, None)):
            assert refused.status_code == 422
            assert "`recursion_limit` is 51; this server allows up to 50" in refused.json()["detail"]
        assert (await http.get(f"{path}/runs")).json() == []
        assert (await ask("chat", 50)).status_code == 200
        assert (await ask(made, 20)).status_code == 200
