"""Every route of the API description asks the project's handlers, and tells nobody of the rows of others."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from interlock.server.runs.catalog import Catalog

from .conftest import ServeApi
from .test_project_auth import ALICE, BOB, CAROL, as_user, made_assistant, made_thread

OPEN = frozenset({"/ok", "/info", "/metrics"})
"""Routes that anybody may call; they tell nothing of any tenant."""

BODY: dict[str, Any] = {
    "graph_id": "abc",
    "input": {},
    "schedule": "0 0 1 1 *",
    "version": 1,
    "values": {},
    "namespace": ["notes"],
    "key": "k",
    "value": {"a": 1},
    "metadata": {},
    "checkpoint": {},
    "updates": [],
    "id": 1,
    "method": "state.get",
    "params": {},
}
"""Fields enough for every route that takes a body."""

Operation = tuple[str, str, dict[str, Any]]
"""Method, path and description."""


def operations(http: httpx.AsyncClient) -> Iterator[Operation]:
    """Every operation that the API describes, but those that are open."""
    for path, described in http.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        for method, operation in described.items():
            # The event stream of a thread that is not there waits for it, for ever: it has a test of its own.
            # And a session of MCP cannot be ended, since there is none: it is missing for everybody.
            if (
                path not in OPEN
                and not path.endswith("/stream/events")
                and (method, path) != ("delete", "/mcp")
            ):
                yield method.upper(), path, operation


def request_for(operation: Operation, names: dict[str, str]) -> dict[str, Any]:
    """A request that names these rows wherever the route lets it."""
    method, path, described = operation
    query = {
        "key": "k",
        "namespace": "notes",
        "thread_id": names["thread_id"],
        "assistant_id": names["assistant_id"],
    }
    wanted = {one["name"] for one in described.get("parameters", ()) if one["in"] == "query"}
    body = BODY | {
        "assistant_id": names["named_assistant"] if "/assistants" in path else "abc",
        "thread_id": names["thread_id"],
        "thread_ids": [names["thread_id"]],
        "run_ids": [names["run_id"]],
        "ids": [names["thread_id"]],
    }
    if path == "/mcp":
        body |= {"jsonrpc": "2.0", "method": "tools/list"}
    if path.startswith("/a2a/"):
        task = {"id": f"{names['thread_id']}:{names['run_id']}"}
        body |= {"jsonrpc": "2.0", "method": "tasks/get", "params": task}
    if path.startswith("/ag-ui/"):
        body |= {"threadId": names["thread_id"], "runId": str(uuid4()), "messages": []}
    if path == "/v1/chat/completions":
        body |= {"model": names["model"], "messages": [{"role": "user", "content": "hi"}]}
    many = described.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {
        "method": method,
        "url": path.format(**names),
        "params": {name: value for name, value in query.items() if name in wanted},
        # Streams show nothing to a reader that stands nowhere, and so they end.
        "headers": {"last-event-id": "nowhere"},
        "json": [body] if many.get("schema", {}).get("type") == "array" else body,
    }


@pytest.fixture
async def guarded(serve_api: ServeApi, guarded_catalog: Catalog) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the guarded project with a worker behind it."""
    async with serve_api(worker=True, loaded=guarded_catalog, auth={"tenant_key": "org"}) as http:
        yield http


async def rows_of(http: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, str]:
    """What one user has: a thread with a run that has ended, an assistant, an item."""
    thread = await made_thread(http, headers, title="private")
    run = {"assistant_id": "abc", "input": {}, "metadata": {"note": "private"}}
    done = await http.post(f"/threads/{thread}/runs/wait", json=run, headers=headers)
    assert done.status_code == 200, done.text
    await http.put(
        "/store/items", json={"namespace": ["notes"], "key": "k", "value": {"of": "owner"}}, headers=headers
    )
    state = (await http.get(f"/threads/{thread}/state", headers=headers)).json()
    assistant = await made_assistant(http, headers)
    clock = {"assistant_id": "abc", "input": {}, "schedule": "0 0 1 1 *", "metadata": {"note": "private"}}
    cron = await http.post(f"/threads/{thread}/runs/crons", json=clock, headers=headers)
    assert cron.status_code == 200, cron.text
    return {
        "thread_id": thread,
        "run_id": done.headers["content-location"].rpartition("/")[2],
        "assistant_id": assistant,
        "assistant_or_graph": assistant,
        "named_assistant": assistant,
        "model": assistant,
        "checkpoint_id": state["checkpoint_id"],
        "namespace": "notes",
        "cron_id": cron.json()["cron_id"],
    }


def nobodys() -> dict[str, str]:
    """Names of rows that nobody has."""
    assistant = str(uuid4())
    return {
        "thread_id": str(uuid4()),
        "run_id": str(uuid4()),
        "assistant_id": assistant,
        "assistant_or_graph": assistant,
        "named_assistant": assistant,
        "model": assistant,
        "checkpoint_id": str(uuid4()),
        "namespace": "notes",
        "cron_id": str(uuid4()),
    }


async def everything_of(http: httpx.AsyncClient, headers: dict[str, str], names: dict[str, str]) -> list[Any]:
    """What the owner sees of the rows."""
    thread, assistant = f"/threads/{names['thread_id']}", f"/assistants/{names['assistant_id']}"
    cron = f"/runs/crons/{names['cron_id']}"
    paths = (thread, f"{thread}/state", f"{thread}/history?limit=50", f"{thread}/runs", assistant, cron)
    seen = [(await http.get(path, headers=headers)).json() for path in paths]
    return [*seen, (await http.get("/store/items?key=k&namespace=notes", headers=headers)).json()]


def comparable(answer: httpx.Response, names: dict[str, str]) -> tuple[int, str, str | None]:
    """An answer without what names the rows that were asked for, and what differs between any two answers."""
    text = answer.text
    for value in sorted(set(names.values()) - {"notes"}, key=len, reverse=True):
        text = text.replace(value, "ID")
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(\+00:00|Z)", "TIME", text)
    return answer.status_code, text, answer.headers.get("x-pagination-total")


TAKEN = {("POST", "/threads"): 409, ("POST", "/assistants"): 409}
"""Where the id of a row that exists cannot be used again, which the server has to say."""


@pytest.mark.parametrize("other", [BOB, CAROL], ids=["another user of the tenant", "another tenant"])
async def test_no_route_tells_a_stranger_more_of_a_row_than_of_a_missing_one(
    guarded: httpx.AsyncClient, other: dict[str, str]
) -> None:
    names = await rows_of(guarded, ALICE)
    before = await everything_of(guarded, ALICE, names)
    missing = nobodys()
    differences: list[Any] = []
    # Searches and counts come first, since they would show what other routes make for the stranger.
    # For the same reason what takes an id for itself comes last.
    order = sorted(
        operations(guarded), key=lambda one: (one[:2] in TAKEN, not one[1].endswith(("/search", "/count")))
    )
    for operation in order:
        answers: list[tuple[int, str, str | None]] = []
        for named in (names, missing):
            request = request_for(operation, named)
            request["headers"] |= other
            answers.append(comparable(await guarded.request(**request), named))
        theirs, nothing = answers
        place = operation[:2]
        if place in TAKEN and other is BOB:
            if theirs[0] != TAKEN[place]:
                differences.append((place, theirs))
        elif theirs != nothing:
            differences.append((place, theirs, nothing))
    assert differences == []
    assert await everything_of(guarded, ALICE, names) == before


def handlers_of(catalog: Catalog) -> Any:
    """The module of the project's `Auth` object."""
    assert catalog.auth is not None
    return sys.modules[catalog.auth.authenticate.__module__]


async def test_every_route_asks_the_handlers(guarded: httpx.AsyncClient, guarded_catalog: Catalog) -> None:
    """O28: a route that asks nobody fails here until it does."""
    asked = handlers_of(guarded_catalog).asked
    names = nobodys()
    unasked = []
    for operation in operations(guarded):
        asked.clear()
        request = request_for(operation, names)
        request["headers"] |= ALICE
        answer = await guarded.request(**request)
        if not asked:
            unasked.append((*operation[:2], answer.status_code, answer.text))
    assert unasked == []


READS = re.compile(
    r"/threads/\{thread_id\}(/state.*|/history|/runs.*|/stream|/copy)?|/runs/\{run_id\}/stream|/runs/(wait|stream)"
)


async def test_the_event_stream_of_somebody_elses_thread_is_missing(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog
) -> None:
    names = await rows_of(guarded, ALICE)
    path, wanted = f"/threads/{names['thread_id']}/stream/events", {"channels": ["values"]}
    assert (await guarded.post(path, json=wanted, headers=BOB)).status_code == 404
    blind = as_user("alice", "deny:threads.read")
    assert (await guarded.post(path, json=wanted, headers=blind)).status_code == 403
    told = await guarded.post(
        f"/threads/{names['thread_id']}/commands", json={"id": 1, "method": "state.get"}, headers=BOB
    )
    assert told.json()["error"] == "unknown_error"
    assert told.json()["message"].startswith("404")


async def test_whoever_may_not_read_threads_is_shown_none_by_any_route(guarded: httpx.AsyncClient) -> None:
    """O28: state, history, runs and streams ask as the thread itself does."""
    names = await rows_of(guarded, ALICE)
    blind = as_user("alice", "deny:threads.read", "deny:threads.search")
    shown = []
    for operation in operations(guarded):
        method, path, _ = operation
        if (
            not READS.fullmatch(path)
            or method in ("PATCH", "DELETE")
            or path.endswith(("/cancel", "/resend"))
        ):
            continue
        if method == "POST" and path.removeprefix("/threads/{thread_id}") in (
            "/runs",
            "/runs/crons",
            "/state",
        ):
            continue
        request = request_for(operation, names)
        request["headers"] |= blind
        answer = await guarded.request(**request)
        if answer.status_code != 403 or answer.json()["detail"] != "Forbidden":
            shown.append((method, path, answer.status_code, answer.text))
    assert shown == []


RUN_KEYS = {
    "thread_id",
    "assistant_id",
    "run_id",
    "status",
    "metadata",
    "prevent_insert_if_inflight",
    "multitask_strategy",
    "if_not_exists",
    "after_seconds",
    "kwargs",
}
KEYS: dict[str, set[str]] = {
    "threads.create": {"thread_id", "metadata", "if_exists"},
    "threads.search": {"metadata", "values", "status", "limit", "offset"},
    "threads.read": {"thread_id"},
    "threads.update": {"thread_id", "metadata"},
    "threads.delete": {"thread_id"},
    "threads.create_run": RUN_KEYS,
    "crons.create": {"payload", "schedule", "cron_id", "thread_id", "user_id", "end_time", "metadata"},
    "crons.read": {"cron_id"},
    "crons.update": {"cron_id", "payload", "schedule"},
    "crons.delete": {"cron_id"},
    "crons.search": {"assistant_id", "thread_id", "limit", "offset"},
    "assistants.create": {"assistant_id", "graph_id", "config", "context", "metadata", "if_exists", "name"},
    "assistants.read": {"assistant_id", "metadata"},
    "assistants.search": {"graph_id", "metadata", "limit", "offset"},
    "assistants.delete": {"assistant_id"},
    "store.put": {"namespace", "key", "value", "index", "ttl"},
    "store.get": {"namespace", "key"},
    "store.delete": {"namespace", "key"},
    "store.search": {"namespace", "filter", "limit", "offset", "query"},
    "store.list_namespaces": {"namespace", "suffix", "max_depth", "limit", "offset"},
}
"""What a handler finds in `value`, as the SDK declares it."""


async def test_handlers_are_told_what_the_sdk_says_they_are(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog
) -> None:
    asked = handlers_of(guarded_catalog).asked
    asked.clear()
    names = await rows_of(guarded, ALICE)
    for operation in operations(guarded):
        request = request_for(operation, names)
        request["headers"] |= ALICE
        if not operation[1].startswith("/threads/{thread_id}/runs"):
            await guarded.request(**request)
    told = {f"{resource}.{action}": set[str]() for _, resource, action, _ in asked}
    for _, resource, action, value in asked:
        told[f"{resource}.{action}"] |= value.keys()
    assert {
        what: keys - told.get(what, set()) for what, keys in KEYS.items() if keys - told.get(what, set())
    } == {}


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({"team": "red"}, ["plain"]),
        ({"team": {"$eq": "red"}}, ["plain"]),
        ({"team": {"$contains": "red"}}, ["list", "longer list"]),
        ({"team": {"$contains": ["red", "blue"]}}, ["longer list"]),
        ({"team": "red", "level": 3}, ["plain"]),
        ({"team": "red", "level": 4}, []),
        ({}, ["list", "longer list", "plain"]),
    ],
)
async def test_search_count_read_update_and_delete_agree_on_a_filter(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog, wanted: dict[str, Any], matches: list[str]
) -> None:
    """O29: for plain values and operators, of threads and of assistants."""
    handlers_of(guarded_catalog).ANSWERS["filter"] = lambda _ctx, _value: wanted
    made: dict[str, dict[str, Any]] = {"plain": {"team": "red", "level": 3}, "list": {"team": ["red"]}}
    made["longer list"] = {"team": ["red", "green", "blue"]}
    maker, asker = as_user("maker", "ask:all"), as_user("maker", "ask:filter")
    handlers_of(guarded_catalog).ANSWERS["all"] = lambda _ctx, _value: True
    for kind, body in (("threads", {}), ("assistants", {"graph_id": "abc"})):
        ids: dict[str, str] = {}
        for name, metadata in made.items():
            answer = await guarded.post(
                f"/{kind}", json={**body, "metadata": {**metadata, "mark": "m"}}, headers=maker
            )
            ids[name] = answer.json()[f"{kind[:-1]}_id"]
        only = {"metadata": {"mark": "m"}}
        found = (await guarded.post(f"/{kind}/search", json=only, headers=asker)).json()
        by_id = {identity: name for name, identity in ids.items()}
        assert sorted(by_id[one[f"{kind[:-1]}_id"]] for one in found) == matches
        assert (await guarded.post(f"/{kind}/count", json=only, headers=asker)).json() == len(matches)
        for name, identity in ids.items():
            path, there = f"/{kind}/{identity}", name in matches
            assert (await guarded.get(path, headers=asker)).status_code == (200 if there else 404)
            changed = await guarded.patch(path, json={"metadata": {"seen": 1}}, headers=asker)
            assert changed.status_code == (200 if there else 404)
            assert (await guarded.delete(path, headers=asker)).status_code == (204 if there else 404)


@pytest.mark.parametrize(
    "wanted",
    [
        {"owner": {"$ne": "x"}},
        {"owner": {}},
        {"owner": None},
        {"owner": ["a"]},
        {"owner": {"$contains": []}},
        {"owner": {"$eq": "a", "$contains": "a"}},
        {"owner": "a\0"},
        {1: "a"},
        "owner",
        0,
    ],
    ids=repr,
)
async def test_a_filter_that_is_not_understood_matches_nothing(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog, wanted: Any
) -> None:
    """O29: refused, never "match all"."""
    handlers_of(guarded_catalog).ANSWERS["bad"] = lambda _ctx, _value: wanted
    headers = as_user("alice", "ask:bad")
    for path in ("/threads/search", "/threads/count", "/assistants/search"):
        answer = await guarded.post(path, json={}, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (500, "Internal Server Error")


async def test_metadata_that_a_handler_replaces_are_the_ones_that_count(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog
) -> None:
    def replaced(_ctx: Any, value: dict[str, Any]) -> bool:
        value["metadata"] = {"owner": "the handler"}
        return True

    handlers_of(guarded_catalog).ANSWERS["replaced"] = replaced
    headers = as_user("alice", "ask:replaced")
    made = await guarded.post("/threads", json={"metadata": {"owner": "me", "a": 1}}, headers=headers)
    assert made.json()["metadata"] == {"owner": "the handler"}
    run = await guarded.post(
        "/runs", json={"assistant_id": "abc", "input": {}, "metadata": {"a": 1}}, headers=headers
    )
    assert run.json()["metadata"]["owner"] == "the handler"
    assert "a" not in run.json()["metadata"]
