"""A `run.start` on a thread that waits: an answer, or a new input."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from interlock.server.runs.catalog import Catalog, load_catalog
from interlock.server.runs.project import load_project

from .conftest import ServeApi

Until = Callable[..., Awaitable[Any]]

GRAPHS = """
from langgraph.func import entrypoint
from langgraph.types import interrupt

@entrypoint()
def text(given: str) -> dict:
    return {"said": interrupt(given)}

@entrypoint()
def items(given: list) -> dict:
    return {"said": interrupt(given)}

@entrypoint()
def free(given: dict) -> dict:
    return {"said": interrupt(given)}
"""


@pytest.fixture
def entrypoints(tmp_path: Path) -> Catalog:
    """Graphs that declare no fields of their input."""
    (tmp_path / "agent.py").write_text(GRAPHS)
    graphs = {name: f"./agent.py:{name}" for name in ("text", "items", "free")}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    return load_catalog(load_project(tmp_path / "langgraph.json", {}))


async def started(http: httpx.AsyncClient, thread: str, graph: str, given: Any) -> Any:
    params = {"assistant_id": graph, "input": given}
    body = {"id": 1, "method": "run.start", "params": params}
    return (await http.post(f"/threads/{thread}/commands", json=body)).json()


async def asked(http: httpx.AsyncClient, thread: str) -> list[dict[str, Any]]:
    """What a thread waits for."""
    shown = (await http.get(f"/threads/{thread}")).json()
    return [one for waiting in shown["interrupts"].values() for one in waiting]


@pytest.mark.parametrize(
    ("graph", "first", "second"),
    [
        ("text", "one", "two"),
        ("items", ["one"], ["two"]),
        ("free", {"a": 1}, {"b": 2}),
        ("free", {"a": 1}, {}),
    ],
)
async def test_a_graph_that_declares_no_fields_is_given_a_new_input_and_answered_by_id(
    serve_api: ServeApi, entrypoints: Catalog, until: Until, graph: str, first: Any, second: Any
) -> None:
    thread = str(uuid4())
    async with serve_api(worker=True, loaded=entrypoints) as http:

        async def question(about: Any) -> Any:
            return [one for one in await asked(http, thread) if one["value"] == about]

        for given in (first, second):
            assert (await started(http, thread, graph, given))["type"] == "success"
            [waits] = await until(lambda given=given: question(given))
        assert (await started(http, thread, graph, {waits["id"]: "yes"}))["type"] == "success"

        async def done() -> bool:
            return (await http.get(f"/threads/{thread}")).json()["values"] == {"said": "yes"}

        await until(done)


async def test_nothing_at_all_is_no_answer(working_http: httpx.AsyncClient, until: Until) -> None:
    thread = str(uuid4())

    async def question(before: int) -> Any:
        return [one for one in await asked(working_http, thread) if one["value"]["before"] == before]

    for before in (1, 2):
        assert (await started(working_http, thread, "hitl", {}))["type"] == "success"
        await until(lambda before=before: question(before))


async def test_an_assistant_of_somebody_else_is_as_missing_as_one_that_never_was(
    serve_api: ServeApi, guarded_catalog: Catalog, until: Until
) -> None:
    alice, bob = ({"authorization": f"Bearer acme:{name}"} for name in ("alice", "bob"))
    async with serve_api(worker=True, loaded=guarded_catalog, auth={"tenant_key": "org"}) as http:
        made = await http.post("/assistants", json={"graph_id": "hitl"}, headers=alice)
        theirs, none = made.json()["assistant_id"], str(uuid4())
        http.headers.update(bob)
        thread = str(uuid4())
        assert (await started(http, thread, "hitl", {}))["type"] == "success"
        await until(lambda: asked(http, thread))
        refused = [await started(http, thread, assistant, "an answer") for assistant in (theirs, none)]
        assert refused[0]["type"] == "error"
        assert refused[0] == json.loads(json.dumps(refused[1]).replace(none, theirs))
        http.headers.update(alice)
        own = str(uuid4())
        assert (await started(http, own, theirs, {}))["type"] == "success"
        await until(lambda: asked(http, own))
        assert (await started(http, own, theirs, "an answer"))["type"] == "success"

        async def done() -> bool:
            return (await http.get(f"/threads/{own}")).json()["status"] == "idle"

        await until(done)
