"""What an `Auth` object of a project may do wrong, and what it must not let through or leave behind."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import fastapi
import httpx
import psycopg
import pytest
from langgraph_sdk import Auth
from psycopg import sql
from pydantic import BaseModel

from interlock.server.runs.auth_config import AuthConfig
from interlock.server.runs.catalog import Catalog
from interlock.server.runs.project_auth import ProjectAuth

from .conftest import ServeApi
from .test_auth_walk import handlers_of
from .test_project_auth import ALICE, as_user, made_thread

Until = Callable[..., Awaitable[Any]]
SECRET = "secret of alice"
MODES = ["values", "updates", "messages-tuple", "tasks", "checkpoints", "debug", "custom", "events"]


@pytest.fixture
async def guarded(serve_api: ServeApi, guarded_catalog: Catalog) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the guarded project with a worker behind it."""
    settings = {"tenant_key": "org", "handler_timeout_s": 2}
    async with serve_api(worker=True, loaded=guarded_catalog, auth=settings) as http:
        yield http


def with_handler(catalog: Catalog, handler: Any, **config: Any) -> Catalog:
    """The same project with another authenticate handler."""
    auth = Auth()
    auth.authenticate(handler)
    hooks = dataclasses.replace(catalog.hooks, auth=ProjectAuth(auth, AuthConfig.model_validate(config)))
    return Catalog(catalog._sources, catalog._forms, catalog.failures, hooks)


def stored(database_url: str) -> str:
    """All that the tables hold, as text."""
    with psycopg.connect(database_url) as connection:
        names = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'interlock'"
        ).fetchall()
        texts = [
            str(
                connection.execute(
                    sql.SQL("SELECT t::text FROM interlock.{} t").format(sql.Identifier(name))
                ).fetchall()
            )
            for (name,) in names
        ]
    return "\n".join(texts)


async def test_every_user_may_be_a_tenant_of_its_own(serve_api: ServeApi, guarded_catalog: Catalog) -> None:
    async def authenticate(headers: dict[Any, Any]) -> str:
        return headers["x-name"]

    loaded = with_handler(guarded_catalog, authenticate)
    async with serve_api(loaded=loaded, auth={"tenant_key": "identity"}) as http:
        thread = await made_thread(http, {"x-name": "alice"})
        for name, status in (("alice", 200), ("bob", 404)):
            answer = await http.get(f"/threads/{thread}", headers={"x-name": name})
            assert answer.status_code == status


async def test_a_handler_may_ask_for_headers_by_bytes_and_by_text(
    serve_api: ServeApi, guarded_catalog: Catalog
) -> None:
    asked: list[Any] = []

    async def authenticate(headers: dict[Any, Any]) -> str:
        asked.append(headers)
        if "x-name" not in headers:
            raise Auth.exceptions.HTTPException(detail=headers.get("x-name", "no name"))
        return headers["X-Name"]

    async with serve_api(loaded=with_handler(guarded_catalog, authenticate)) as http:
        nameless = await http.get(f"/threads/{uuid4()}")
        assert (nameless.status_code, nameless.json()["detail"]) == (401, "no name")
        named = await http.get(f"/threads/{uuid4()}", headers={"x-name": "alice"})
        assert named.status_code == 404
    without, told = asked
    assert (told[b"x-name"], told.get(b"x-name"), told.get("x-name")) == (b"alice", b"alice", "alice")
    assert {type(name) for name in told} == {bytes}
    assert (without.get(b"x-name"), b"x-name" in without, "\u9a5b" in without) == (None, False, False)
    for absent in ("x-name", b"x-name"):
        with pytest.raises(KeyError):
            without[absent]


async def test_what_is_told_of_a_user_is_in_no_answer(guarded: httpx.AsyncClient) -> None:
    thread = await made_thread(guarded, ALICE)
    run = {"assistant_id": "hitl", "input": {}, "stream_mode": MODES, "stream_subgraphs": True}
    shown = (await guarded.post(f"/threads/{thread}/runs/stream", json=run, headers=ALICE)).text
    assert "__interrupt__" in shown
    for path in ("", "/state", "/history", "/runs"):
        shown += (await guarded.get(f"/threads/{thread}{path}", headers=ALICE)).text
    shown += (await guarded.post("/threads/search", json={}, headers=ALICE)).text
    assert SECRET not in shown
    assert "langgraph_auth_user'" not in shown


async def test_what_is_told_of_a_user_is_forgotten_with_the_end_of_its_run(
    guarded: httpx.AsyncClient, database_url: str, until: Until
) -> None:
    thread = await made_thread(guarded, ALICE)
    path = f"/threads/{thread}/runs"
    done = await guarded.post(f"{path}/wait", json={"assistant_id": "abc", "input": {}}, headers=ALICE)
    assert done.status_code == 200
    slow = {"assistant_id": "slow", "input": {"steps": 500}}
    run = (await guarded.post(path, json=slow, headers=ALICE)).json()["run_id"]
    waiting = (await guarded.post(path, json=slow, headers=ALICE)).json()["run_id"]

    async def runs() -> bool:
        return (await guarded.get(f"{path}/{run}", headers=ALICE)).json()["status"] == "running"

    await until(runs)
    assert SECRET in stored(database_url)
    for one in (waiting, run):
        assert (await guarded.post(f"{path}/{one}/cancel", headers=ALICE)).status_code == 202
    assert SECRET not in stored(database_url)


async def test_a_thread_that_waits_goes_on_with_what_is_told_of_its_user_and_then_forgets_it(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog, database_url: str
) -> None:
    """Somebody else answers; the graph goes on for whoever started it."""
    handlers_of(guarded_catalog).ANSWERS["all"] = lambda _ctx, _value: True
    asker, answerer = as_user("alice", "ask:all"), as_user("bob", "ask:all")
    thread = await made_thread(guarded, asker)
    path = f"/threads/{thread}/runs/wait"
    waits = await guarded.post(path, json={"assistant_id": "who", "input": {"waits": True}}, headers=asker)
    assert "__interrupt__" in waits.json()
    answer = {"assistant_id": "who", "command": {"resume": "yes"}}
    told = (await guarded.post(path, json=answer, headers=answerer)).json()["told"]
    assert (told["identity"], told["token"]) == ("alice", SECRET)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT principal::text FROM interlock.runs UNION ALL SELECT left_by::text FROM interlock.threads"
        ).fetchall()
    assert SECRET not in str(rows)


@pytest.mark.parametrize(
    "raised",
    [
        fastapi.HTTPException(418, detail="not today"),
        Auth.exceptions.HTTPException(status_code=418, detail="not today"),
    ],
    ids=["of the web framework", "of the SDK"],
)
async def test_a_handler_of_an_operation_refuses_in_its_own_words(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog, raised: Exception
) -> None:
    def refuse(_ctx: Any, _value: Any) -> Any:
        raise raised

    handlers_of(guarded_catalog).ANSWERS["refuse"] = refuse
    answer = await guarded.post("/threads", json={}, headers=as_user("alice", "ask:refuse"))
    assert (answer.status_code, answer.json()["detail"]) == (418, "not today")


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])
async def test_a_handler_that_hangs_holds_up_only_its_own_request_and_not_for_ever(
    serve_api: ServeApi, guarded_catalog: Catalog, asynchronous: bool
) -> None:
    free = threading.Event()

    async def hangs(authorization: str | None) -> str:
        if authorization == "hang":
            await asyncio.Event().wait()
        return "alice"

    def hangs_in_a_thread(authorization: str | None) -> str:
        if authorization == "hang":
            free.wait()
        return "alice"

    loaded = with_handler(guarded_catalog, hangs if asynchronous else hangs_in_a_thread)
    try:
        async with serve_api(loaded=loaded, auth={"handler_timeout_s": 1}) as http:
            hanging = asyncio.create_task(http.post("/threads", json={}, headers={"authorization": "hang"}))
            assert (await http.post("/threads", json={})).status_code == 200
            refused = await hanging
            assert refused.status_code == 503
            assert "does not answer" in refused.json()["detail"]
    finally:
        free.set()


@dataclasses.dataclass
class Record:
    identity: str
    org: str
    permissions: list[str]


class Model(BaseModel):
    identity: str
    org: str
    permissions: list[str]


class Plain:
    permissions = ("a",)

    def __init__(self) -> None:
        self.org = "acme"
        self._secret = "of its class"

    @property
    def identity(self) -> str:
        return "ann"


USERS = [
    Record("ann", "acme", ["a"]),
    Model(identity="ann", org="acme", permissions=["a"]),
    Plain(),
    SimpleNamespace(identity="ann", org="acme", permissions=["a"]),
    {"identity": "ann", "org": "acme", "permissions": ["a"]},
]


@pytest.mark.parametrize("user", USERS, ids=lambda user: type(user).__name__)
async def test_a_sync_handler_may_return_a_user_of_any_form(
    serve_api: ServeApi, guarded_catalog: Catalog, user: Any
) -> None:
    def authenticate(headers: dict[bytes, bytes]) -> Any:
        # A handler that blocks must not hold up the server.
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return user if headers[b"x-api-key"] == b"k" else None

    asked: list[Any] = []
    loaded = with_handler(guarded_catalog, authenticate)
    assert loaded.auth is not None

    @loaded.auth.auth.on
    async def keep(ctx: Auth.types.AuthContext, value: Any) -> None:
        asked.append(ctx)

    async with serve_api(loaded=loaded) as http:
        assert (await http.post("/threads", json={}, headers={"x-api-key": "wrong"})).status_code == 401
        assert (await http.post("/threads", json={}, headers={"x-api-key": "k"})).status_code == 200
    [ctx] = asked
    assert (ctx.user.identity, ctx.user["org"], ctx.permissions) == ("ann", "acme", ["a"])
    assert "_secret" not in ctx.user


async def test_known_users_are_not_asked_again_and_never_taken_for_each_other(
    serve_api: ServeApi, guarded_catalog: Catalog
) -> None:
    calls: list[str | None] = []

    async def authenticate(authorization: str | None) -> dict[str, Any]:
        calls.append(authorization)
        if authorization == "Bearer nobody":
            raise Auth.exceptions.HTTPException(status_code=401, detail="unknown")
        return {"identity": authorization or "nameless", "teams": ["red"]}

    cache = {"cache_keys": ["Authorization", "X-Org"], "ttl_seconds": 3600, "max_size": 2}
    loaded = with_handler(guarded_catalog, authenticate, cache=cache)
    assert loaded.auth is not None

    @loaded.auth.auth.on
    async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> dict[str, Any]:
        assert ctx.user["teams"] == ["red"]
        # A careless handler, whose change must not reach the next request.
        ctx.user["teams"].append("blue")
        return {"owner": ctx.user.identity}

    async with serve_api(loaded=loaded) as http:

        async def owner(**headers: str) -> tuple[int, Any]:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = await http.post("/threads", json={}, headers=sent)
            return answer.status_code, answer.json().get("metadata", {}).get("owner")

        for _ in range(2):
            assert await owner(authorization="Bearer a") == (200, "Bearer a")
        assert calls == ["Bearer a"]
        assert await owner(authorization="Bearer a", x_org="other") == (200, "Bearer a")
        assert len(calls) == 2
        for _ in range(2):
            assert (await owner(authorization="Bearer nobody"))[0] == 401
        assert len(calls) == 4
        for _ in range(2):
            assert await owner() == (200, "nameless")
        assert len(calls) == 6
        # Two are remembered; the third pushes out whoever was not seen for longest.
        await owner(authorization="Bearer b")
        await owner(authorization="Bearer a")
        assert calls[6:] == ["Bearer b", "Bearer a"]


async def test_a_known_user_is_asked_again_in_time(
    serve_api: ServeApi, guarded_catalog: Catalog, until: Until
) -> None:
    calls: list[str | None] = []

    async def authenticate(authorization: str | None) -> str:
        calls.append(authorization)
        return "alice"

    cache = {"cache_keys": ["authorization"], "ttl_seconds": 0.2}
    async with serve_api(loaded=with_handler(guarded_catalog, authenticate, cache=cache)) as http:

        async def asked_again() -> bool:
            await http.post("/threads", json={}, headers={"authorization": "x"})
            return len(calls) >= 2

        await until(asked_again)


async def test_a_number_that_is_not_finite_matches_nothing(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog
) -> None:
    """O29: jsonb would take it for null, which is in the metadata of others."""
    handlers_of(guarded_catalog).ANSWERS["endless"] = lambda _ctx, _value: {"level": float("inf")}
    answer = await guarded.post("/threads/search", json={}, headers=as_user("alice", "ask:endless"))
    assert answer.status_code == 500


async def test_the_header_of_studio_opens_nothing_that_is_not_served_for_development(
    serve_api: ServeApi, guarded_catalog: Catalog
) -> None:
    async with serve_api(loaded=guarded_catalog) as http:
        answer = await http.get(f"/threads/{uuid4()}", headers={"x-auth-scheme": "langsmith"})
        assert answer.status_code == 401


async def test_reviews_and_runs_keep_to_what_a_handler_adds_to_a_search(
    guarded: httpx.AsyncClient, guarded_catalog: Catalog
) -> None:
    """O30: many handlers return no filter, but write the owner into what is searched for."""

    def written(ctx: Any, value: dict[str, Any]) -> None:
        value.setdefault("metadata", {})["owner"] = ctx.user.identity

    handlers_of(guarded_catalog).ANSWERS["written"] = lambda ctx, value: written(ctx, value) or True
    refund = {
        "name": "order_refund",
        "args": {"order_id": "A-1001", "amount_cents": 100, "reason": "late parcel"},
    }
    desk = {"assistant_id": "desk", "input": {"calls": [refund]}}
    # The orders to try with are the tenant `default`'s.
    clerk = as_user("alice", "orders:refund", tenant="default")
    await asks_for_review(guarded, clerk, desk)
    for name, there in (("alice", 1), ("bob", 0)):
        headers = as_user(name, tenant="default")
        assert len((await guarded.get("/reviews", headers=headers)).json()) == there
        writing = as_user(name, "ask:written", tenant="default")
        assert len((await guarded.get("/reviews", headers=writing)).json()) == there


async def asks_for_review(http: httpx.AsyncClient, headers: dict[str, str], run: dict[str, Any]) -> str:
    """A thread on which a review waits."""
    thread = await made_thread(http, headers)
    await http.post(f"/threads/{thread}/runs/wait", json=run, headers=headers)
    assert (await http.get(f"/reviews?thread_id={thread}", headers=headers)).json() != []
    return thread
