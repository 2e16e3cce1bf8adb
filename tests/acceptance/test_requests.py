"""What a request may say: every field has its effect, or is refused, or is reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient

from .wire import is_running, post_events

SYSTEM = {"created_by": "system"}
Until = Callable[..., Awaitable[Any]]


async def run_of(
    http: httpx.AsyncClient, body: dict[str, Any], *, thread: str | None = None
) -> dict[str, Any]:
    """Create a run in the background, and wait for its end."""
    thread = thread or (await http.post("/threads", json={})).json()["thread_id"]
    created = await http.post(f"/threads/{thread}/runs", json={"assistant_id": "abc", "input": {}, **body})
    assert created.status_code == 200, created.text
    run = created.json()
    run["answer"] = (await http.get(f"/threads/{thread}/runs/{run['run_id']}/join")).json()
    return run


class TestEveryFieldOfARunMakesADifference:
    """O40."""

    async def test_durability_exit_keeps_only_the_last_checkpoint(
        self, client: LangGraphClient, http: httpx.AsyncClient
    ) -> None:
        sizes: dict[str, int] = {}
        for durability in ("sync", "async", "exit"):
            run = await run_of(http, {"durability": durability})
            sizes[durability] = len(await client.threads.get_history(run["thread_id"], limit=50))
            assert run["kwargs"]["durability"] == durability
        assert sizes["exit"] == 1
        assert sizes["sync"] == sizes["async"] == 5

    async def test_checkpoint_during_false_means_exit(
        self, client: LangGraphClient, http: httpx.AsyncClient
    ) -> None:
        run = await run_of(http, {"checkpoint_during": False})
        assert len(await client.threads.get_history(run["thread_id"], limit=50)) == 1

    async def test_if_not_exists_makes_the_thread_or_not(self, http: httpx.AsyncClient) -> None:
        thread = str(uuid4())
        body = {"assistant_id": "abc", "input": {}}
        refused = await http.post(f"/threads/{thread}/runs/wait", json=body)
        assert refused.status_code == 404
        assert (await http.get(f"/threads/{thread}")).status_code == 404
        made = await http.post(f"/threads/{thread}/runs/wait", json=body | {"if_not_exists": "create"})
        assert made.json()["trace"] == ["A", "B", "C"]

    async def test_after_seconds_delays(self, client: LangGraphClient, http: httpx.AsyncClient) -> None:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "abc", input={}, after_seconds=1)
        assert run["status"] == "pending"
        assert (await client.threads.get(thread))["status"] == "busy"
        assert (await client.runs.join(thread, run["run_id"]))["trace"] == ["A", "B", "C"]
        ended = (await client.runs.get(thread, run["run_id"]))["updated_at"]
        assert str(ended) > str(run["created_at"])

    async def test_stream_resumable_shows_ids(self, client: LangGraphClient, http: httpx.AsyncClient) -> None:
        for resumable in (True, False):
            thread = (await client.threads.create())["thread_id"]
            body = {"assistant_id": "abc", "input": {}, "stream_resumable": resumable}
            found = await post_events(http, f"/threads/{thread}/runs/stream", body)
            assert all(bool(frame.id) is resumable for frame in found)

    async def test_stream_mode_may_be_one_text_or_a_list(
        self, client: LangGraphClient, http: httpx.AsyncClient
    ) -> None:
        for given, expected in (
            ("updates", {"updates"}),
            (["tasks", "custom"], {"tasks"}),
            ([], {"values"}),
            (None, {"values"}),
            (["tools"], set()),
        ):
            thread = (await client.threads.create())["thread_id"]
            body = {"assistant_id": "abc", "input": {}, "stream_mode": given}
            found = await post_events(http, f"/threads/{thread}/runs/stream", body)
            assert {frame.event for frame in found} == expected | {"metadata"}

    async def test_metadata_is_merged_from_assistant_configuration_and_run(
        self, client: LangGraphClient, http: httpx.AsyncClient
    ) -> None:
        assistant = await client.assistants.create("abc", metadata={"a": 1, "b": 1, "c": 1})
        body = {
            "assistant_id": assistant["assistant_id"],
            "config": {"metadata": {"b": 2, "c": 2}},
            "metadata": {"c": 3},
        }
        run = await run_of(http, body)
        assert {"a": 1, "b": 2, "c": 3}.items() <= run["metadata"].items()

    async def test_recursion_limit_ends_the_run(
        self, client: LangGraphClient, http: httpx.AsyncClient
    ) -> None:
        run = await run_of(
            http, {"assistant_id": "loop", "input": {"n": 50}, "config": {"recursion_limit": 5}}
        )
        assert run["answer"]["__error__"]["error"] == "GraphRecursionError"

    async def test_context_reaches_the_configuration(self, http: httpx.AsyncClient) -> None:
        run = await run_of(
            http, {"assistant_id": "ident", "input": {"told": {}}, "context": {"colour": "blue"}}
        )
        assert run["answer"]["told"]["colour"] == "blue"
        both = {"assistant_id": "ident", "context": {"a": 1}, "config": {"configurable": {"b": 1}}}
        refused = await http.post("/runs/wait", json=both)
        assert refused.status_code == 400

    async def test_on_completion_keep_keeps_the_thread(
        self, client: LangGraphClient, http: httpx.AsyncClient
    ) -> None:
        for keep in (True, False):
            body = {"assistant_id": "abc", "input": {}, **({"on_completion": "keep"} if keep else {})}
            answer = await http.post("/runs/wait", json=body)
            thread = answer.headers["content-location"].split("/")[2]
            assert (await http.get(f"/threads/{thread}")).status_code == (200 if keep else 404)

    async def test_checkpoint_id_alone_forks(self, client: LangGraphClient, http: httpx.AsyncClient) -> None:
        run = await run_of(http, {})
        history = await client.threads.get_history(run["thread_id"])
        middle = next(s for s in history if s["next"] == ["C"])["checkpoint"]["checkpoint_id"]
        again = await run_of(http, {"input": None, "checkpoint_id": middle}, thread=run["thread_id"])
        assert again["answer"]["trace"] == ["A", "B", "C"]

    @pytest.mark.parametrize(
        "field",
        [
            {"durability": "sometimes"},
            {"multitask_strategy": "hope"},
            {"stream_mode": ["values", "no-such-mode"]},
            {"if_not_exists": "maybe"},
            {"on_disconnect": "shrug"},
            {"interrupt_before": 7},
            {"after_seconds": "soon"},
            {"after_seconds": -1},
            {"metadata": "text"},
            {"config": ["list"]},
            {"webhook": 7},
            {"command": {"goto": 7}},
            {"checkpoint": 7},
        ],
        ids=lambda field: "-".join(field),
    )
    async def test_malformed_field_is_refused_by_name_and_nothing_is_stored(
        self,
        client: LangGraphClient,
        http: httpx.AsyncClient,
        shared_database_url: str,
        field: dict[str, Any],
    ) -> None:
        thread = (await client.threads.create())["thread_id"]
        refused = await http.post(
            f"/threads/{thread}/runs", json={"assistant_id": "abc", "input": {}, **field}
        )
        assert refused.status_code == 422, refused.text
        detail = refused.json()["detail"]
        assert isinstance(detail, str)
        assert next(iter(field)) in detail
        assert await client.runs.list(thread) == []
        with psycopg.connect(shared_database_url) as connection:
            query = "SELECT last_seq FROM interlock.threads WHERE thread_id = %s"
            assert connection.execute(query, (thread,)).fetchone() == (0,)

    async def test_unknown_field_is_reported_in_a_header(
        self, client: LangGraphClient, http: httpx.AsyncClient
    ) -> None:
        thread = (await client.threads.create())["thread_id"]
        body = {"assistant_id": "abc", "input": {}, "foo": 1, "command": {"jump": 1}}
        answer = await http.post(f"/threads/{thread}/runs/wait", json=body)
        assert answer.status_code == 200
        warning = answer.headers["x-interlock-warning"]
        assert "foo" in warning
        assert "jump" in warning
        assert "assistant_id" not in warning

    async def test_fields_that_need_a_service_we_do_not_have_are_accepted(
        self, http: httpx.AsyncClient
    ) -> None:
        run = await run_of(http, {"langsmith_tracer": {"project_name": "p"}, "feedback_keys": ["good"]})
        assert run["answer"]["trace"] == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", {}),
        ("/threads/search", {}),
        ("/threads/count", {}),
        ("/assistants", {"graph_id": "abc"}),
        ("/assistants/search", {}),
        ("/assistants/count", {}),
        ("/runs/wait", {"assistant_id": "abc", "input": {}}),
        ("/runs/stream", {"assistant_id": "abc", "input": {}}),
        ("/runs", {"assistant_id": "abc", "input": {}}),
        ("/store/items/search", {"namespace_prefix": []}),
        ("/store/namespaces", {}),
        ("/threads/THREAD/runs/wait", {"assistant_id": "abc", "input": {}}),
        ("/threads/THREAD/history", {}),
        ("/threads/THREAD/state", {"values": {"trace": ["x"]}, "as_node": "A"}),
        ("/threads/THREAD/state/checkpoint", {"checkpoint": {}}),
    ],
)
async def test_json_sent_as_plain_text_is_read(
    client: LangGraphClient, http: httpx.AsyncClient, path: str, body: Any
) -> None:
    """O56: on every route that takes a body."""
    thread = (await client.threads.create(graph_id="abc"))["thread_id"]
    answer = await http.post(
        path.replace("THREAD", thread),
        content=json.dumps(body),
        headers={"content-type": "text/plain;charset=UTF-8"},
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe"])
@pytest.mark.parametrize("path", ["/threads", "/runs/wait", "/threads/search", "/assistants"])
async def test_malformed_json_is_refused_with_a_readable_reason(
    http: httpx.AsyncClient, path: str, body: bytes
) -> None:
    refused = await http.post(path, content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422
    assert refused.json()["detail"] == "Invalid JSON in request body"


async def test_configuration_of_a_megabyte_works(client: LangGraphClient) -> None:
    """O51: in an assistant, its versions and the runs of it."""
    prompt = "p" * (1 << 20)
    assistant = await client.assistants.create(
        "ident", config={"configurable": {"colour": prompt}}, name="p" * 255
    )
    updated = await client.assistants.update(assistant["assistant_id"], metadata={"prompt": prompt})
    assert updated["version"] == 2
    values = await client.runs.wait(None, assistant["assistant_id"], input={"told": {}})
    assert isinstance(values, dict)
    assert values["told"]["colour"] == prompt
    found = await client.assistants.search(graph_id="ident", limit=100)
    assert assistant["assistant_id"] in {entry["assistant_id"] for entry in found}


async def test_thread_keeps_its_title_and_graph_and_is_found_by_them(client: LangGraphClient) -> None:
    """O65: a run adds what it knows, and never overwrites what is not its own."""
    mark = str(uuid4())
    thread = (await client.threads.create(metadata={"title": "Lorries", "mark": mark}, graph_id="abc"))[
        "thread_id"
    ]
    assert (await client.threads.get(thread))["metadata"]["graph_id"] == "abc"
    await client.runs.wait(thread, "abc", input={}, metadata={"title": "of the run"})

    metadata = (await client.threads.get(thread))["metadata"] or {}
    assistant = (await client.assistants.search(graph_id="abc", metadata=SYSTEM))[0]["assistant_id"]
    assert metadata["title"] == "Lorries"
    assert metadata["graph_id"] == "abc"
    assert metadata["assistant_id"] == assistant
    for wanted in ({"title": "Lorries", "mark": mark}, {"graph_id": "abc", "mark": mark}):
        assert [t["thread_id"] for t in await client.threads.search(metadata=wanted)] == [thread]
    renamed = await client.threads.update(thread, metadata={"title": "Vans"})
    assert renamed["metadata"] == {**metadata, "title": "Vans"}  # pyright: ignore[reportOptionalSubscript]
    await client.runs.wait(thread, "abc", input={})
    assert ((await client.threads.get(thread))["metadata"] or {})["title"] == "Vans"


async def test_multitask_strategies_differ(client: LangGraphClient, until: Until) -> None:
    for strategy, first_ends, trace in (
        ("enqueue", "success", True),
        ("interrupt", "interrupted", False),
    ):
        thread = (await client.threads.create())["thread_id"]
        first = await client.runs.create(thread, "slow", input={"steps": 2, "seconds": 0.4})
        await until(lambda t=thread, f=first: is_running(client, t, f["run_id"]))
        second = await client.runs.create(
            thread,
            "abc",
            input={},
            multitask_strategy=strategy,  # pyright: ignore[reportArgumentType]
        )
        now = (await client.runs.get(thread, first["run_id"]))["status"]
        assert now == ("running" if trace else "interrupted")
        await asyncio.wait_for(client.runs.join(thread, second["run_id"]), 10)
        assert (await client.runs.get(thread, first["run_id"]))["status"] == first_ends
        assert (await client.runs.get(thread, second["run_id"]))["status"] == "success"
