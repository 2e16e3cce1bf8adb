"""No request, however odd, is answered with a fault of ours: bodies, queries, paths and headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from interlock.server.api.openapi import PROBLEM
from interlock.server.api.routes import served_routes

from .conftest import ServeApi

BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"1e999",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"metadata": {"a": "\\u0000"}}',
    b'{"metadata": {"\\u0000": 1}}',
    b'{"metadata": {"a": "\\ud800"}}',
    b'{"metadata": "text"}',
    b'{"metadata": [], "limit": "x", "values": 3, "graph_id": 5, "assistant_id": {}}',
    b'{"thread_id": "not-a-uuid", "assistant_id": "\\u0000", "graph_id": "\\ud83d"}',
    b'{"limit": 99999999999999999999999999, "offset": -1}',
    b'{"offset": 99999999999999999999999999}',
    b'{"extract": {"\\ud800": "values.a"}, "select": ["metadata"]}',
    b'{"extract": {"a": "values.\\ud800"}}',
    b'{"assistant_id": "abc", "input": {"a": "\\ud800"}, "metadata": {"n": 123456789012345678901234567890}}',
    b'{"assistant_id": "abc", "input": {"a": "\\ud800", "n": ' + b"9" * 5_000 + b"}}",
    b'{"assistant_id": "abc", "config": {"recursion_limit": "x"}}',
    b'{"assistant_id": "abc", "after_seconds": 1e308}',
    b'{"assistant_id": "abc", "after_seconds": -1}',
    b'{"assistant_id": "abc", "input": ' + b"[" * 140 + b"]" * 140 + b"}",
    b'{"namespace": [1], "key": 2, "value": 3}',
    b'{"namespace": ["a"], "key": "k", "value": {"a": "\\ud800"}}',
    b'{"namespace": ["a"], "key": "k", "value": {"a": "\\u0000"}, "filter": {"a": "\\u0000"}}',
    b'{"assistant_id": "abc", "input": {"a": "\\ud800\\u0000"}, "context": {"a": "\\ud800"}}',
    b'{"assistant_id": "abc", "config": {"tags": ["\\u0000"]}}',
    b'{"assistant_id": "abc", "config": {"budget": {"steps": "many"}}}',
    b'{"assistant_id": "abc", "config": {"budget": {"steps": -1, "nope": 1}}}',
    b'{"assistant_id": "abc", "checkpoint": {"checkpoint_id": "\\u0000"}}',
    b'{"assistant_id": "abc", "checkpoint_id": "x", "command": {"goto": {"node": 5}}}',
    b'{"values": {"a": "\\ud800"}, "as_node": "__end__", "checkpoint_id": "nope"}',
    b'{"before": "nope", "limit": 5, "checkpoint": {"checkpoint_ns": "a|b:c"}}',
    b'{"version": 0}',
    b'{"version": 99999999999}',
]

BODY = {
    "id": 1,
    "method": "state.get",
    "channels": ["values"],
    "assistant_id": "abc",
    "graph_id": "abc",
    "input": {},
    "version": 1,
    "values": {},
    "namespace": ["n"],
    "key": "k",
    "value": {},
    "thread_ids": [],
}
"""Fields enough for every route that takes a body to go on to what its other parameters say."""

VALUES = {
    "nothing": b"",
    "NUL": b"\x00",
    "NUL inside": b"a\x00b",
    "half of a surrogate pair": b"\xed\xa0\x80",
    "no UTF-8": b"\xff\xfe",
    "a digit that is no number": "²".encode(),
    "digits of another script": "٣".encode(),
    "a large number": b"9" * 30,
    "more digits than Python converts": b"9" * 5_000,
    "a negative number": b"-1",
    "a fraction": b"1e3",
    "a long text": b"x" * 20_000,
    "quotes and wildcards": b"'\"%_*{}[]..\\",
    "control characters": b"\r\n\t\x1b[0m",
}

Parameter = tuple[str, str, str, str]
"""Method, path, place and name."""


def parameters(http: httpx.AsyncClient) -> Iterator[Parameter]:
    """Every parameter of every route that the API describes."""
    for path, operations in http.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        for method, operation in operations.items():
            for one in operation.get("parameters", ()):
                yield method, path, one["in"], one["name"]


async def known_names(http: httpx.AsyncClient) -> dict[str, str]:
    """What a path may name: a thread with a run that has ended, and the like."""
    run = await http.post("/runs/wait", json={"assistant_id": "abc", "input": {}, "on_completion": "keep"})
    _, _, thread, _, run_id = run.headers["content-location"].split("/")
    [assistant] = (await http.post("/assistants/search", json={"graph_id": "abc"})).json()
    return {
        "thread_id": thread,
        "run_id": run_id,
        "assistant_id": assistant["assistant_id"],
        "assistant_or_graph": "abc",
        "checkpoint_id": str(uuid4()),
        "cron_id": str(uuid4()),
        "delivery_id": str(uuid4()),
        "namespace": "n",
    }


def request_with(names: dict[str, str], parameter: Parameter, value: bytes) -> dict[str, Any]:
    """A request that says nothing odd but this value of this parameter."""
    method, path, place, name = parameter
    filled = path.format(**{**names, name: quote(value, safe="")} if place == "path" else names)
    # Streams show nothing to a reader that stands nowhere, and so they end.
    headers = {b"last-event-id": b"nowhere"} | ({name.encode(): value} if place == "header" else {})
    query = f"?{name}={quote(value, safe='')}" if place == "query" else ""
    other = "&key=k&namespace=n" if name not in ("key", "namespace") else "&key=k" * (name != "key")
    return {
        "method": method.upper(),
        "url": filled + (query + other if query else ""),
        "headers": list(headers.items()),
        "json": BODY,
    }


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_no_hostile_parameter_is_answered_with_a_fault_of_ours(
    working_http: httpx.AsyncClient, value: bytes
) -> None:
    names = await known_names(working_http)
    walked = [one for one in parameters(working_http) if value or one[2] != "path"]
    assert {place for _, _, place, _ in walked} >= {"query", "header"}
    faults = []
    for parameter in walked:
        answer = await working_http.request(**request_with(names, parameter, value))
        if answer.status_code >= 500:
            faults.append((*parameter, answer.status_code, answer.text))
    assert faults == []


async def test_a_parameter_with_a_nul_is_refused_whatever_becomes_of_it(
    working_http: httpx.AsyncClient,
) -> None:
    names = await known_names(working_http)
    for parameter in parameters(working_http):
        answer = await working_http.request(**request_with(names, parameter, b"\x00"))
        assert answer.status_code == 422, (parameter, answer.text)


@pytest.mark.parametrize(
    "metadata",
    [b"[" + b",".join([b"[]"] * 3_000_000) + b"]", b"[" + b",".join([b'{"n":1}'] * 80_000) + b"]"],
    ids=["more objects and lists than are allowed", "nearly as many as are allowed"],
)
async def test_others_are_answered_while_a_large_body_is_read(
    http: httpx.AsyncClient, metadata: bytes
) -> None:
    posting = asyncio.create_task(http.post("/threads", content=b'{"metadata":{"a":%b}}' % metadata))
    waits = []
    while not posting.done():
        asked = time.perf_counter()
        await http.get("/ok")
        await asyncio.wait({posting}, timeout=0.005)
        waits.append(time.perf_counter() - asked)
    assert max(waits) < 1
    answer = await posting
    if answer.status_code != 200:
        assert answer.status_code == 422
        assert answer.json()["detail"] == "the request body has more than 100000 objects and lists"


async def test_only_bodies_that_hold_values_may_be_large(serve_api: ServeApi) -> None:
    large = {"metadata": {"a": "x" * 3000}}
    async with serve_api(http={"max_plain_body_bytes": 2048}) as http:
        thread = await http.post("/threads", json=large)
        assert thread.status_code == 200
        path = f"/threads/{thread.json()['thread_id']}"
        run = {"assistant_id": "chat", "input": {"a": "x" * 3000}}
        assert (await http.post(f"{path}/runs", json=run)).status_code == 200
        item = {"namespace": ["n"], "key": "k", "value": {"a": "x" * 3000}}
        assert (await http.put("/store/items", json=item)).status_code == 204
        for method, plain in [
            ("PATCH", path),
            ("POST", "/threads/search"),
            ("POST", "/threads/count"),
            ("POST", f"{path}/history"),
            ("POST", "/assistants/search"),
            ("POST", "/store/items/search"),
        ]:
            refused = await http.request(method, plain, json=large)
            assert refused.status_code == 413, plain


@pytest.mark.parametrize("length", ["²".encode("latin-1"), b"9" * 5_000, b"-1", b"x"])
async def test_a_length_that_is_no_number_is_no_fault_of_ours(http: httpx.AsyncClient, length: bytes) -> None:
    answer = await http.post("/threads", content=b"{}", headers=[(b"content-length", length)])
    assert answer.status_code in (200, 413)


async def test_no_hostile_body_is_answered_with_a_fault_of_ours(working_http: httpx.AsyncClient) -> None:
    http = working_http
    thread = await http.post("/threads", json={"metadata": {"graph_id": "abc"}})
    names = {
        "thread_id": thread.json()["thread_id"],
        "run_id": str(uuid4()),
        "assistant_id": str(uuid4()),
        "assistant_or_graph": "abc",
        "checkpoint_id": str(uuid4()),
        "cron_id": str(uuid4()),
        "delivery_id": str(uuid4()),
        "namespace": "n",
    }
    for route in served_routes(http.app):  # type: ignore[attr-defined]
        for method in (route.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}:
            path = route.path_format.format(**names)
            for body in BODIES:
                answer = await http.request(method, path, content=body)
                assert answer.status_code < 500, (method, path, body[:80], answer.text)
                if answer.status_code >= 400 and "bridges" not in route.tags:
                    problem = answer.json()
                    assert problem.keys() == set(PROBLEM["required"]), (path, body[:80])
                    assert isinstance(problem["detail"], str)
