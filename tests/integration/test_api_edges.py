"""What every route does alike: errors, headers, hostile requests, tenants."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.routing import APIRoute
from prometheus_client.parser import text_string_to_metric_families

from interlock.checkpoints.database import Database
from interlock.server.api.callers import Guard
from interlock.server.api.routes import served_routes
from interlock.server.records import reviews
from interlock.tools.policy.review import ReviewRequest

from .conftest import ServeApi, api_key

OPEN = {"/", "/ok", "/info", "/metrics", "/openapi.json", "/docs", "/console"}
"""Paths that ask for no credentials."""


def routes(http: httpx.AsyncClient) -> list[APIRoute]:
    return list(served_routes(http.app))  # type: ignore[attr-defined]


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: "chat" if "graph" in m[1] else str(uuid4()), path)


async def test_every_route_has_a_rule_or_is_known_to_be_open(http: httpx.AsyncClient) -> None:
    without = {
        route.path
        for route in routes(http)
        if not any(isinstance(one.call, Guard) for one in route.dependant.dependencies)
    }
    assert without == OPEN


async def test_every_guarded_route_refuses_a_caller_without_a_key(serve_api: ServeApi) -> None:
    async with serve_api(auth={"api_keys": [api_key("one", "acme")]}) as http:
        for route in routes(http):
            for method in route.methods or ():
                answer = await http.request(method, filled(route.path), content=b"{}")
                if route.path in OPEN:
                    assert answer.status_code < 400, route.path
                else:
                    assert answer.status_code == 401, (method, route.path, answer.text)
                    assert "an API key is required" in answer.text
                    if "bridges" not in route.tags:
                        assert answer.json()["code"] == "unauthenticated"


async def test_a_role_that_may_only_look_cannot_change_anything(serve_api: ServeApi) -> None:
    async with serve_api(auth={"api_keys": [api_key("look", "acme", "viewer")]}) as http:
        http.headers["x-api-key"] = "look"
        assert (await http.post("/threads/search", json={})).status_code == 200
        for method, path in [
            ("POST", "/threads"),
            ("POST", "/assistants"),
            ("POST", "/runs"),
            ("PUT", "/store/items"),
            ("DELETE", f"/threads/{uuid4()}"),
        ]:
            answer = await http.request(method, path, json={})
            assert (answer.status_code, answer.json()["detail"]) == (403, "Forbidden"), path


async def test_a_key_of_another_service_hides_no_valid_token(serve_api: ServeApi) -> None:
    """The SDK sends what the environment has as `x-api-key`, beside the headers it is told to send."""
    async with serve_api(auth={"api_keys": [api_key("one", "acme")]}) as http:
        headers = {"x-api-key": "lsv2_of_another_service", "authorization": "Bearer one"}
        assert (await http.post("/threads", json={}, headers=headers)).status_code == 200
        headers["authorization"] = "Bearer two"
        assert (await http.post("/threads", json={}, headers=headers)).status_code == 401


async def test_who_may_only_read_a_run_cannot_stop_it_by_leaving(serve_api: ServeApi) -> None:
    keys = [api_key("own", "acme"), api_key("look", "acme", "viewer")]
    async with serve_api(auth={"api_keys": keys}) as http:
        run = {"assistant_id": "chat", "input": {}}
        made = (await http.post("/runs", json=run, headers={"x-api-key": "own"})).json()
        path = f"/threads/{made['thread_id']}/runs/{made['run_id']}"
        http.headers["x-api-key"] = "look"
        for join in (f"{path}/join", f"{path}/stream", f"/runs/{made['run_id']}/stream"):
            asking = http.get(join, params={"cancel_on_disconnect": "1"})
            answer = await asyncio.wait_for(asking, 5)
            assert (answer.status_code, answer.json()["detail"]) == (403, "Forbidden"), join
        assert (await http.get(path)).json()["status"] == "pending"


async def test_another_tenant_finds_nothing_of_ours_on_any_route(serve_api: ServeApi) -> None:
    keys = [api_key("one", "acme"), api_key("two", "globex")]
    async with serve_api(auth={"api_keys": keys}) as http:
        http.headers["x-api-key"] = "one"
        assistant = (await http.post("/assistants", json={"graph_id": "chat"})).json()["assistant_id"]
        thread = (await http.post("/threads", json={"metadata": {"graph_id": "chat"}})).json()["thread_id"]
        run_request = {"assistant_id": assistant, "input": {}}
        run = (await http.post(f"/threads/{thread}/runs", json=run_request)).json()["run_id"]
        await http.put("/store/items", json={"namespace": ["n"], "key": "k", "value": {"v": 1}})
        yearly = {"assistant_id": "chat", "input": {}, "schedule": "0 0 1 1 *"}
        made = await http.post(f"/threads/{thread}/runs/crons", json=yearly)
        assert made.status_code == 200, made.text
        cron = made.json()["cron_id"]
        http.headers["x-api-key"] = "two"
        ids = {
            "thread_id": thread,
            "run_id": run,
            "assistant_id": assistant,
            "assistant_or_graph": assistant,
            "checkpoint_id": "c",
            "namespace": "n",
            "model": assistant,
            "cron_id": cron,
        }
        body = {
            "assistant_id": assistant,
            "graph_id": "chat",
            "version": 1,
            "metadata": {"seen": True},
            "values": {},
            "thread_id": thread,
            "run_ids": [run],
            "input": {},
            "schedule": "0 0 1 1 *",
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tasks/get",
            "params": {"id": f"{thread}:{run}"},
            "threadId": thread,
            "runId": str(uuid4()),
            "messages": [],
        }
        for route in routes(http):
            # The thread protocol attaches to threads that are still to come; it has a test of its own.
            if "{" not in route.path or route.path.endswith(("/commands", "/stream/events")):
                continue
            path = route.path_format.format(**ids)
            for method in route.methods or ():
                answer = await http.request(method, path, json=body)
                hidden = answer.status_code == 404 or (path.endswith("/copy") and answer.status_code == 409)
                # A stream and a join have begun to answer before they look.
                in_stream = answer.status_code == 200 and "404: Run not found" in answer.text
                # To JSON-RPC a refusal is an answer.
                in_answer = answer.status_code == 200 and '{"code":"not_found"}' in answer.text
                assert hidden or in_stream or in_answer, (method, path, answer.status_code, answer.text)
        assert (await http.post("/runs", json=run_request)).status_code == 404
        assert (await http.post("/runs/batch", json=[run_request])).status_code == 404
        assert (
            await http.post("/runs/cancel", json={"thread_id": thread, "run_ids": [run]})
        ).status_code == 404
        assert (await http.post("/runs/cancel", json={"status": "all"})).status_code == 404
        assert (await http.post("/threads/prune", json={"thread_ids": [thread]})).json() == {
            "pruned_count": 0
        }
        assert (await http.post("/threads/search", json={})).json() == []
        assert (await http.post("/threads/search", json={"ids": [thread]})).json() == []
        assert (await http.post("/threads/count", json={})).json() == 0
        named = {"namespace": "n", "key": "k"}
        assert (await http.get("/store/items", params=named)).json() is None
        assert (await http.post("/store/items/search", json={})).json() == {"items": []}
        ours = await http.post("/threads", json={"thread_id": thread})
        assert ours.status_code == 200, "the same id in another tenant is another thread"
        defaults = (await http.post("/assistants/search", json={"limit": 100})).json()
        assert assistant not in {one["assistant_id"] for one in defaults}
        assert {one["metadata"]["created_by"] for one in defaults} == {"system"}
        http.headers["x-api-key"] = "one"
        assert (await http.get(f"/threads/{thread}")).json()["metadata"].get("seen") is None
        assert (await http.get(f"/threads/{thread}/runs/{run}")).json()["status"] == "pending"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"NaN"])
async def test_an_empty_or_malformed_body_is_refused_in_the_known_words(
    http: httpx.AsyncClient, content: bytes
) -> None:
    answer = await http.post("/threads", content=content)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "Invalid JSON in request body"
    assert (await http.post("/threads/count", json={})).json() == 0


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", None],
)
async def test_json_is_taken_whatever_the_content_type_says(
    http: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await http.post("/threads", content=b'{"metadata": {"a": 1}}', headers=headers)
    assert answer.json()["metadata"] == {"a": 1}


async def test_ids_that_are_no_uuids_are_refused_by_name(http: httpx.AsyncClient) -> None:
    for path, name in [
        ("/threads/nope", "thread"),
        (f"/threads/{uuid4()}/runs/nope", "run"),
        ("/assistants/nope", "assistant"),
        ("/threads/%00", "thread"),
    ]:
        answer = await http.get(path)
        assert answer.status_code == 422, path
        assert answer.json()["detail"] == f"Invalid {name} ID: must be a UUID"


async def test_unknown_paths_and_methods_are_told_apart(http: httpx.AsyncClient) -> None:
    unknown = await http.get("/nothing")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found", "code": "not_found"})
    wrong = await http.put("/threads", json={})
    assert wrong.status_code == 405
    assert wrong.json()["detail"] == "Method Not Allowed"
    assert wrong.headers["allow"] == "POST"
    several = await http.put(f"/threads/{uuid4()}")
    assert several.headers["allow"] == "DELETE, GET, PATCH"


async def test_a_trailing_slash_is_served_and_not_redirected(http: httpx.AsyncClient) -> None:
    made = await http.post("/threads/", json={"metadata": {"a": 1}})
    assert made.json()["metadata"] == {"a": 1}
    assert (await http.get(f"/threads/{made.json()['thread_id']}/")).status_code == 200


async def test_unknown_fields_are_named_in_a_header_or_refused(
    http: httpx.AsyncClient, serve_api: ServeApi
) -> None:
    answer = await http.post("/threads", json={"metadata": {}, "tittle": 1, "ünï": 2})
    assert answer.status_code == 200
    assert answer.headers["x-interlock-warning"] == "unknown field(s) ignored: tittle, \\xfcn\\xef"
    assert "x-interlock-warning" not in (await http.post("/threads", json={})).headers
    hostile = json.dumps({"a\r\nset-cookie: x": 1, "long" * 1000: 1})
    forged = await http.post("/threads", content=hostile)
    assert forged.status_code == 200, forged.text
    warning = forged.headers["x-interlock-warning"]
    assert "\\r\\n" in warning
    assert not set("\r\n") & set(warning)
    assert len(warning) < 500
    async with serve_api(unknown_fields="refuse") as strict:
        before = (await strict.post("/threads/count", json={})).json()
        refused = await strict.post("/threads", json={"tittle": 1})
        assert refused.status_code == 422
        assert "tittle" in refused.json()["detail"]
        assert (await strict.post("/threads/count", json={})).json() == before


async def test_a_request_has_an_id_and_may_bring_its_own(http: httpx.AsyncClient) -> None:
    own = await http.get("/ok", headers={"x-request-id": "mine-1"})
    assert own.headers["x-request-id"] == "mine-1"
    unusable = await http.get("/nothing", headers={"x-request-id": "a b\tc" + "x" * 500})
    assert re.fullmatch(r"[0-9a-f-]{36}", unusable.headers["x-request-id"])


async def test_the_largest_body_is_a_setting(serve_api: ServeApi) -> None:
    async with serve_api(http={"max_body_bytes": 2048}) as http:
        fits = {"metadata": {"a": "x" * 1000}}
        assert (await http.post("/threads", json=fits)).status_code == 200
        too_large = {"metadata": {"a": "x" * 3000}}
        assert (await http.post("/threads", json=too_large)).status_code == 413

        async def chunks() -> Any:
            for _ in range(3):
                yield b'"' + b"x" * 1000

        assert (await http.post("/threads", content=chunks())).status_code == 413


async def test_five_megabytes_of_metadata_come_back(http: httpx.AsyncClient) -> None:
    text = "x" * 5_000_000
    made = (await http.post("/threads", json={"metadata": {"t": text}})).json()
    assert (await http.get(f"/threads/{made['thread_id']}")).json()["metadata"]["t"] == text


async def test_other_origins_may_read_the_headers_that_streams_are_resumed_by(
    http: httpx.AsyncClient,
) -> None:
    preflight = await http.options(
        "/threads",
        headers={
            "origin": "https://elsewhere.example",
            "access-control-request-method": "PATCH",
            "access-control-request-headers": "x-api-key, content-type",
            "access-control-request-private-network": "true",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "x-api-key" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["access-control-allow-private-network"] == "true"
    assert preflight.headers["access-control-max-age"] == "600"
    for path in ("/ok", "/nothing", "/threads/nope"):
        answer = await http.get(path, headers={"origin": "https://elsewhere.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"]
        for name in ("content-location", "location", "x-pagination-total", "x-pagination-next"):
            assert name in exposed


async def test_a_fault_of_ours_is_one_json_answer_with_cors_headers_and_no_secrets(
    http: httpx.AsyncClient, database: Database
) -> None:
    await database.execute(b"ALTER TABLE interlock.threads RENAME TO threads_gone")
    answer = await http.post(
        "/threads", json={"metadata": {"password": "hunter2"}}, headers={"origin": "https://e.example"}
    )
    assert answer.status_code == 500
    assert answer.json() == {"detail": "Internal Server Error", "code": "internal_error"}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-request-id"]


async def test_a_mount_prefix_stands_before_every_route_and_location(serve_api: ServeApi) -> None:
    async with serve_api(http={"mount_prefix": "/lg"}) as http:
        assert (await http.get("/ok")).status_code == 200
        assert (await http.get("/lg/ok")).status_code == 200
        assert (await http.post("/threads", json={})).status_code == 404
        thread = (await http.post("/lg/threads", json={})).json()["thread_id"]
        run = await http.post(f"/lg/threads/{thread}/runs", json={"assistant_id": "chat", "input": {}})
        location = f"/lg/threads/{thread}/runs/{run.json()['run_id']}"
        assert run.headers["content-location"] == location
        assert (await http.get(location)).json() == run.json()


async def test_switched_off_parts_are_not_there(serve_api: ServeApi) -> None:
    off = {f"disable_{part}": True for part in ("assistants", "threads", "runs", "store", "meta", "console")}
    async with serve_api(http=off) as http:
        for path in (
            "/ok",
            "/info",
            "/threads/search",
            "/store/namespaces",
            "/assistants/search",
            "/console/",
        ):
            assert (await http.post(path, json={})).status_code == 404, path


async def test_the_server_tells_about_itself(http: httpx.AsyncClient) -> None:
    alive = {"ok": True, "services": {}}
    for path in ("/ok", "/", "/ok?check_db=1", "/ok?check_db=false"):
        assert (await http.get(path)).json() == alive
        assert (await http.head(path)).status_code == 200
    assert (await http.get("/ok?check_db=maybe")).status_code == 422
    info = (await http.get("/info")).json()
    assert info["flags"]["assistants"] is True
    assert info["host"]["kind"] == "self-hosted"
    assert info["langgraph_py_version"]


async def test_metrics_are_told_in_both_formats(http: httpx.AsyncClient) -> None:
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    await http.post(f"/threads/{thread}/runs", json={"assistant_id": "chat", "input": {}})
    await http.get(f"/threads/{thread}")
    told = (await http.get("/metrics?format=json")).json()
    assert told["queue"]["n_pending"] == 1
    assert told["queue"]["n_running"] == 0
    assert {"method": "GET", "path": "/threads/{thread_id}", "status": "200", "count": 1} in told["api"][
        "http_requests_total"
    ]
    text = (await http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["queue_n_pending"].samples[0].value == 1
    assert families["http_requests"].samples


async def test_the_description_is_openapi_31_and_names_every_route(http: httpx.AsyncClient) -> None:
    description = (await http.get("/openapi.json")).json()
    assert description["openapi"].startswith("3.1")
    described = set(description["paths"])
    assert described == {route.path_format for route in routes(http) if route.include_in_schema}
    body = description["paths"]["/threads"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ThreadCreate"}
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', (await http.get("/openapi.json")).text))
    assert used <= description["components"]["schemas"].keys()


async def test_the_reference_page_runs_no_script_and_loads_nothing(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/threads/{thread_id}/runs/stream" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


async def test_ten_first_requests_of_a_new_tenant_at_once_all_succeed(serve_api: ServeApi) -> None:
    async with serve_api() as http:
        answers = await asyncio.gather(
            *(http.post("/assistants/search", json={"limit": 100}) for _ in range(10))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.headers["x-pagination-total"] for answer in answers}) == 1


async def test_the_console_is_served_under_a_strict_policy(http: httpx.AsyncClient) -> None:
    moved = await http.get("/console")
    assert (moved.status_code, moved.headers["location"]) == (307, "console/")
    page = await http.get("/console/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    for path in ("/console/nothing.js", "/console/../app.py", "/console/%2e%2e/app.py"):
        assert (await http.get(path)).status_code == 404, path


async def test_the_review_inbox_lists_what_waits_for_the_tenant(
    http: httpx.AsyncClient, database: Database
) -> None:
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    question = ReviewRequest(
        tenant_id="default",
        thread_id=UUID(thread),
        run_id=uuid4(),
        kind="tool",
        tool="refund",
        tool_version="1",
        tool_call_id="call-1",
        checkpoint_ns="",
        arguments=b'{"amount":5,"note":"a\\u0000b"}',
        arguments_hash="h",
        arguments_schema=None,
        description="Refund five.",
        allowed=("approve", "reject"),
        policy_version="p",
        requested_by="anonymous",
    )
    async with database.transaction() as connection:
        asked, _ = await reviews.ask(connection, question)
    [shown] = (await http.get("/reviews")).json()
    assert shown["interrupt_id"] == asked.interrupt_id
    assert shown["arguments"] == {"amount": 5, "note": "a\x00b"}
    assert (shown["tool"], shown["status"], shown["allowed"]) == ("refund", "pending", ["approve", "reject"])
    assert "tenant_id" not in shown
    assert (await http.get(f"/reviews?thread_id={thread}")).json() == [shown]
    assert (await http.get(f"/reviews?thread_id={uuid4()}")).json() == []
    assert (await http.get("/reviews?limit=0")).status_code == 422
    await http.delete(f"/threads/{thread}")
    assert (await http.get("/reviews")).json() == []
