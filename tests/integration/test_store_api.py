"""The store over HTTP."""

from __future__ import annotations

import random
import string
from typing import Any

import httpx
import pytest


async def put(http: httpx.AsyncClient, *namespace: str, key: str = "k", **fields: Any) -> httpx.Response:
    return await http.put(
        "/store/items", json={"namespace": list(namespace), "key": key, "value": {}, **fields}
    )


async def test_an_item_is_put_read_replaced_and_deleted(http: httpx.AsyncClient) -> None:
    answer = await put(http, "users", "ada", key="profile", value={"n": 1})
    assert (answer.status_code, answer.content) == (204, b"")
    found = (await http.get("/store/items", params={"namespace": "users.ada", "key": "profile"})).json()
    assert found.keys() == {"namespace", "key", "value", "created_at", "updated_at"}
    assert (found["namespace"], found["key"], found["value"]) == (["users", "ada"], "profile", {"n": 1})
    await put(http, "users", "ada", key="profile", value={"n": 2})
    named = {"namespace": ["users", "ada"], "key": "profile"}
    assert (await http.request("DELETE", "/store/items", json=named)).status_code == 204
    assert (await http.request("DELETE", "/store/items", json=named)).status_code == 204
    missing = await http.get("/store/items", params={"namespace": "users.ada", "key": "profile"})
    assert (missing.status_code, missing.content) == (200, b"null")


async def test_a_value_may_hold_any_text_but_half_a_surrogate_pair(http: httpx.AsyncClient) -> None:
    await put(http, "a", value={"t": "a\x00b"})
    found = await http.get("/store/items", params={"namespace": "a", "key": "k"})
    assert found.json()["value"] == {"t": "a\x00b"}
    halved = await http.put("/store/items", content=b'{"namespace":["a"],"key":"h","value":{"t":"\\ud800"}}')
    assert halved.status_code == 422
    assert halved.json()["detail"].startswith("value: ")


@pytest.mark.parametrize("value", [[1, 2], 42, "text", True, None])
async def test_a_value_that_is_no_object_is_refused_by_that_name(http: httpx.AsyncClient, value: Any) -> None:
    refused = await http.put("/store/items", json={"namespace": ["a"], "key": "k", "value": value})
    assert (refused.status_code, refused.json()["detail"]) == (422, "`value` must be an object")
    without = await http.put("/store/items", json={"namespace": ["a"], "key": "k"})
    assert without.json()["detail"] == "`value` must be an object"


@pytest.mark.parametrize("key", ["\0", "\u9a5b" * 1000])
async def test_asking_for_an_address_that_cannot_be_is_refused(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.get("/store/items", params={"namespace": "a", "key": key})
    assert answer.status_code == 422
    assert "key" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"namespace": []}, 400),
        ({"namespace": ["langgraph", "x"]}, 400),
        ({"namespace": ["a.b"]}, 422),
        ({"namespace": ["a", ""]}, 422),
        ({"namespace": "a"}, 422),
        ({"namespace": ["a\x00"]}, 422),
        ({"namespace": ["a"], "key": "\u9a5b" * 1000}, 422),
        ({"namespace": ["a" * 3000]}, 422),
        ({"namespace": random.Random(1).choices(string.ascii_letters, k=1900)}, 422),
        ({"namespace": ["a"], "value": [1]}, 422),
        ({"namespace": ["a"], "value": None}, 422),
        ({"namespace": ["a"], "key": ""}, 422),
        ({"namespace": ["a"], "ttl": 0}, 422),
        ({"namespace": ["a"], "ttl": -1}, 422),
        ({"namespace": ["a"], "index": True}, 422),
    ],
)
async def test_an_item_that_could_not_be_named_again_is_refused(
    http: httpx.AsyncClient, fields: dict[str, Any], status: int
) -> None:
    """O32."""
    answer = await http.put("/store/items", json={"key": "k", "value": {}, **fields})
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)
    assert (await http.post("/store/namespaces", json={})).json() == {"namespaces": []}


async def test_an_item_is_asked_for_by_key_and_a_whole_namespace(http: httpx.AsyncClient) -> None:
    await put(http, "a", value={"secret": True})
    without_key = await http.get("/store/items", params={"namespace": "a"})
    assert without_key.status_code == 400
    assert without_key.json()["detail"] == "Key is required"
    for namespace in ("", ".", "a.", ".a"):
        answer = await http.get("/store/items", params={"namespace": namespace, "key": "k"})
        assert answer.status_code == 422, namespace


async def test_a_search_filters_pages_and_scores_nothing(http: httpx.AsyncClient) -> None:
    for number in range(5):
        await put(http, "docs", str(number % 2), key=f"k{number}", value={"n": number, "kind": "x"})
    wanted = {"namespace_prefix": ["docs"], "filter": {"n": {"$gte": 1}, "kind": "x"}, "limit": 3}
    first = (await http.post("/store/items/search", json=wanted)).json()["items"]
    assert [item["key"] for item in first] == ["k4", "k3", "k2"]
    assert {item["score"] for item in first} == {None}
    rest = (await http.post("/store/items/search", json={**wanted, "offset": 3})).json()["items"]
    assert [item["key"] for item in rest] == ["k1"]
    unranked = await http.post("/store/items/search", json={"query": "anything", "filter": {"n": 2}})
    assert [item["key"] for item in unranked.json()["items"]] == ["k2"]


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": -1},
        {"limit": 0},
        {"limit": 1001},
        {"offset": -5},
        {"filter": {"n": {"$where": 1}}},
        {"filter": {"$or": []}},
        {"filter": {"n": "a\x00"}},
        {"limit": "many"},
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(
    http: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    """O32."""
    assert (await http.post("/store/items/search", json=fields)).status_code == 422


async def test_namespaces_are_listed_to_a_depth(http: httpx.AsyncClient) -> None:
    for namespace in (("a", "b", "c"), ("a", "x"), ("z", "c")):
        await put(http, *namespace)

    async def listed(**wanted: Any) -> list[list[str]]:
        return (await http.post("/store/namespaces", json=wanted)).json()["namespaces"]

    assert await listed() == [["a", "b", "c"], ["a", "x"], ["z", "c"]]
    assert await listed(prefix=["a"]) == [["a", "b", "c"], ["a", "x"]]
    assert await listed(suffix=["c"]) == [["a", "b", "c"], ["z", "c"]]
    assert await listed(max_depth=1) == [["a"], ["z"]]
    assert await listed(limit=1, offset=1) == [["a", "x"]]
    for wanted in ({"max_depth": 0}, {"limit": 0}, {"offset": -1}):
        assert (await http.post("/store/namespaces", json=wanted)).status_code == 422


async def test_a_namespace_whose_last_item_is_deleted_is_not_listed(http: httpx.AsyncClient) -> None:
    for namespace in (("a",), ("a", "b")):
        await put(http, *namespace)
    deleted = await http.request("DELETE", "/store/items", json={"namespace": ["a", "b"], "key": "k"})
    assert deleted.status_code == 204
    assert (await http.post("/store/namespaces", json={})).json() == {"namespaces": [["a"]]}


async def test_names_in_camel_case_mean_the_same(http: httpx.AsyncClient) -> None:
    for namespace in (("a", "b"), ("c", "d")):
        await put(http, *namespace)
    found = await http.post("/store/items/search", json={"namespacePrefix": ["a"], "refreshTtl": False})
    assert [item["namespace"] for item in found.json()["items"]] == [["a", "b"]]
    assert "x-interlock-warning" not in found.headers
    listed = await http.post("/store/namespaces", json={"maxDepth": 1})
    assert listed.json() == {"namespaces": [["a"], ["c"]]}


@pytest.mark.parametrize("namespace", [[""], ["a", "", "b"]])
async def test_an_empty_label_is_refused_wherever_it_stands(
    http: httpx.AsyncClient, namespace: list[str]
) -> None:
    item = {"namespace": namespace, "key": "k"}
    answers = [
        await http.put("/store/items", json=item | {"value": {}}),
        await http.request("DELETE", "/store/items", json=item),
        await http.get("/store/items", params={"namespace": ".".join(namespace), "key": "k"}),
        *[await http.post("/store/namespaces", json={end: namespace}) for end in ("prefix", "suffix")],
    ]
    assert [(answer.status_code, "empty" in answer.text) for answer in answers] == [(422, True)] * 5
