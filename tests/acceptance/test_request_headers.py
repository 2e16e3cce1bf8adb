"""What request headers do: `http.configurable_headers`, `http.logging_headers`, `http.cors`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import ANN, KEYS, Serve

PAGE = {"origin": "https://app.example"}


async def found_by_runs(web: httpx.AsyncClient, headers: dict[str, str]) -> list[dict[str, str]]:
    """What runs of every route that creates one see in `configurable`."""
    thread = (await web.post("/threads", json={}, headers=ANN)).json()["thread_id"]
    body = {"assistant_id": "echo", "input": {"text": "hi"}, "config": {"configurable": {"x-mine": "body"}}}
    created: list[dict[str, Any]] = []
    for place in (f"/threads/{thread}/runs", "/runs"):
        for kind in ("", "/wait", "/stream"):
            answer = await web.post(f"{place}{kind}", json=body, headers=headers)
            assert answer.status_code == 200
            run_id = answer.headers["content-location"].rpartition("/")[2]
            created.append({"run_id": run_id, "answer": answer})
    batch = await web.post("/runs/batch", json=[body], headers=headers)
    found = [run["kwargs"]["config"]["configurable"] for run in batch.json()]
    listed = (await web.get(f"/threads/{thread}/runs", headers=ANN)).json()
    found += [run["kwargs"]["config"]["configurable"] for run in listed]
    found += [one["answer"].json()["found"] for one in created if one["answer"].text.endswith("}}")]
    assert len(found) >= 1 + 3 + 2
    return found


async def test_headers_reach_the_run_by_their_lower_case_names_and_secrets_do_not(serve: Serve) -> None:
    served = serve(toml=KEYS)
    sent = {**ANN, "X-Foo-Bar": "1", "Authorization": "Bearer ann-key", "Cookie": "a=b", "X-Mine": "header"}
    sent |= {"X-Tenant-Id": "evil", "X-Service-Key": "s", "Accept-Language": "de"}
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as web:
        for found in await found_by_runs(web, sent):
            seen = {name: found.get(name) for name in ("x-foo-bar", "x-mine")}
            assert seen == {"x-foo-bar": "1", "x-mine": "header"}
            secret = {"authorization", "cookie", "x-api-key", "x-tenant-id", "x-service-key"}
            assert not secret & found.keys()
            assert "accept-language" not in found


async def test_a_project_says_which_headers_reach_the_run_and_the_log(
    serve: Serve, until: Callable[..., Any]
) -> None:
    served = serve(
        http={
            "configurable_headers": {
                "includes": ["my-*", "Authorization", "thread_id"],
                "excludes": ["my-own"],
            },
            "logging_headers": {"includes": ["*", "authorization"], "excludes": ["my-secretive"]},
        }
    )
    sent = {
        **ANN,
        "My-Team": "blue",
        "My-Own": "x",
        "X-Foo": "y",
        "Authorization": "Bearer t",
        "thread_id": "z",
    }
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as web:
        for found in await found_by_runs(web, sent | {"my-secretive": "whisper"}):
            assert (found["my-team"], found["authorization"]) == ("blue", "Bearer t")
            assert not {"my-own", "x-foo", "x-api-key"} & found.keys()
            assert found.get("thread_id") != "z"
        await until(lambda: '"my-team": "blue"' in served.log)
        assert "Bearer t" not in served.log
        assert "ann-key" not in served.log
        assert "whisper" not in served.log


async def test_cross_origin_settings_hold_on_every_answer(serve: Serve) -> None:
    """O39: origins, a pattern, credentials, exposed headers and max age; on refusals and own routes too.

    Methods and headers that the project leaves out are all allowed, not GET alone.
    """
    cors = {
        "allow_origins": ["https://app.example"],
        "allow_origin_regex": r"https://.*\.preview\.example",
        "allow_credentials": True,
        "expose_headers": ["x-own"],
        "max_age": 77,
    }
    served = serve(http={"cors": cors, "enable_custom_route_auth": True}, toml=KEYS)
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as web:
        answers = {
            401: await web.post("/threads/search", json={}, headers=PAGE),
            404: await web.get("/threads/00000000-0000-0000-0000-000000000000", headers=PAGE | ANN),
            422: await web.post("/threads", content=b"{", headers=PAGE | ANN),
            500: await web.get("/crash", headers=PAGE | ANN),
            200: await web.get("/threads/custom", headers=PAGE | ANN),
        }
        answers[0] = await web.get("/threads/custom", headers=PAGE)
        for status, answer in answers.items():
            assert answer.status_code == (status or 401)
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert {"x-own", "content-location", "location"} <= set(
                answer.headers["access-control-expose-headers"].split(", ")
            )
        for path in ("/threads/search", "/threads/custom", "/nowhere"):
            asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
            for origin in ("https://app.example", "https://pr-7.preview.example"):
                preflight = await web.options(path, headers={**asked, "origin": origin})
                assert preflight.status_code == 200
                assert preflight.headers["access-control-allow-origin"] == origin
                assert "POST" in preflight.headers["access-control-allow-methods"]
                assert preflight.headers["access-control-max-age"] == "77"
            stranger = await web.options(path, headers={**asked, "origin": "https://evil.example"})
            assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize(
    ("cors", "word"),
    [
        ({"allow_credentials": True}, "allow_credentials"),
        ({"allow_origins": ["*"], "allow_credentials": True}, "allow_credentials"),
        ({"allow_origin_regex": ".*", "allow_credentials": True}, "allow_credentials"),
        ({"allow_origin_regex": "("}, "no regular expression"),
    ],
)
def test_cross_origin_settings_that_open_too_much_refuse_the_start(
    serve: Serve, cors: dict[str, Any], word: str
) -> None:
    """O39: a wildcard together with credentials."""
    served = serve(http={"cors": cors}, wait=False)
    assert served.process is not None
    assert served.process.wait(60) == 1
    assert "http.cors" in served.log
    assert word in served.log
