"""Where a webhook is really sent: names that change their mind, and the project's own app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from interlock.server.records import deliveries
from interlock.server.records.deliveries import Delivery
from interlock.server.resources import Resources
from interlock.server.runs import lifecycle
from interlock.server.runs.hooks import Hooks
from interlock.server.runs.lifecycle import Finished
from interlock.server.webhook_settings import WebhookSettings
from interlock.server.worker.deliveries import Deliverer

from ..receiver import receiving
from .engine import claimed, start

Until = Callable[..., Awaitable[Any]]
HERE: Mapping[str, Any] = {"url": {"require_https": False, "disable_loopback": False}}


def with_webhooks(resources: Resources, **settings: Any) -> Resources:
    webhooks = WebhookSettings.model_validate({**HERE, **settings})
    return replace(resources, settings=resources.settings.model_copy(update={"webhooks": webhooks}))


def with_app(resources: Resources, app: Starlette) -> Resources:
    """The same for a project that has an app of its own."""
    catalog = copy(resources.catalog)
    catalog.hooks = Hooks(app=app)
    return replace(with_webhooks(resources), catalog=catalog)


@asynccontextmanager
async def delivering(resources: Resources, **options: Any) -> AsyncIterator[None]:
    deliverer = Deliverer(resources, **options)
    running = asyncio.create_task(deliverer.run())
    try:
        yield
    finally:
        deliverer.request_drain()
        await running


async def ended(resources: Resources, url: str) -> Any:
    run = await claimed(resources, await start(resources, webhook=url))
    await lifecycle.finish(resources, run, Finished(status="success", values=b'{"a":1}'))
    return run


async def found(resources: Resources, run: Any) -> Delivery:
    async with resources.database.connection() as connection:
        delivery = await deliveries.of_run(
            connection, tenant_id=run.tenant_id, thread_id=run.thread_id, run_id=run.run_id
        )
    assert delivery is not None
    return delivery


async def tried(resources: Resources, run: Any) -> Delivery | None:
    delivery = await found(resources, run)
    return delivery if delivery.attempts else None


async def test_a_name_that_turns_private_after_its_check_is_not_connected_to(
    resources: Resources, until: Until
) -> None:
    """DNS rebinding: the name was public when the run was created, and leads to this machine when sent to."""
    async with receiving() as inside:
        asked: list[str] = []

        async def rebinding(host: str, port: int) -> Sequence[str]:
            asked.append(host)
            return ["127.0.0.1"]

        resources = with_webhooks(resources)
        run = await ended(resources, f"http://rebinding.example:{inside.port}/hook")
        async with delivering(resources, resolver=rebinding):
            delivery = await until(lambda: tried(resources, run))
        assert "private or reserved" in delivery.attempts[0]["error"]
        assert (asked, inside.received) == (["rebinding.example"], [])


async def test_the_address_that_was_checked_is_the_one_connected_to(
    resources: Resources, until: Until
) -> None:
    """The name resolves to nothing for anybody but the check, so a second look-up would fail."""
    async with receiving() as inside:

        async def once(host: str, port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        resources = with_webhooks(resources, private_networks=["127.0.0.0/8"])
        run = await ended(resources, f"http://only-checked.invalid:{inside.port}/hook")
        async with delivering(resources, resolver=once):
            delivery = await until(lambda: tried(resources, run))
        assert delivery.status == "delivered"
        assert inside.received[0].headers["host"] == f"only-checked.invalid:{inside.port}"
        assert inside.received[0].told["values"] == {"a": 1}


async def test_a_path_is_delivered_to_the_projects_own_app_and_by_nobody_else(
    resources: Resources, until: Until
) -> None:
    told: list[Any] = []

    async def done(request: Request) -> Response:
        told.append((request.url.query, request.headers["webhook-id"], await request.json()))
        return Response(status_code=204)

    app = Starlette(routes=[Route("/done", done, methods=["POST"])])
    resources = with_app(resources, app)
    local = await ended(resources, "/done?x=1")
    remote = await ended(resources, "http://10.0.0.1.nip.invalid/")
    async with delivering(resources):
        await until(lambda: tried(resources, remote))
    assert (await found(resources, local)).attempts == []
    async with delivering(resources, app=app, remote=False):
        delivery = await until(lambda: tried(resources, local))
    assert delivery.status == "delivered"
    ((query, webhook_id, body),) = told
    assert (query, webhook_id, body["run_id"]) == ("x=1", f"run_{local.run_id}", str(local.run_id))


async def test_an_app_that_raises_is_a_failed_attempt(resources: Resources, until: Until) -> None:
    async def fails(request: Request) -> Response:
        raise RuntimeError("of the user's own")

    app = Starlette(routes=[Route("/done", fails, methods=["POST"])])
    resources = with_app(resources, app)
    run = await ended(resources, "/done")
    async with delivering(resources, app=app):
        delivery = await until(lambda: tried(resources, run))
    assert (delivery.status, delivery.attempts[0]["status_code"]) == ("pending", 500)


@pytest.mark.parametrize("url", ["http://xn--a.example/", "http://[::1/"])
async def test_a_stored_url_that_is_none_is_a_failed_attempt_and_ends_no_worker(
    resources: Resources, until: Until, url: str
) -> None:
    """As one that an earlier release has let in."""
    async with receiving() as receiver:
        resources = with_webhooks(resources, private_networks=["127.0.0.0/8"])
        run = await ended(resources, "http://example.com/")
        await resources.database.execute(b"UPDATE interlock.webhook_deliveries SET url = %s", (url,))
        async with delivering(resources):
            delivery = await until(lambda: tried(resources, run))
            other = await ended(resources, receiver.url)
            assert (await until(lambda: tried(resources, other))).status == "delivered"
    assert delivery.status == "pending"
    assert delivery.attempts[0]["error"]


async def test_a_delivery_whose_worker_died_is_taken_over_and_its_late_note_is_refused(
    resources: Resources, until: Until
) -> None:
    async with receiving() as receiver:
        resources = with_webhooks(resources, private_networks=["127.0.0.0/8"])
        run = await ended(resources, receiver.url)
        async with resources.database.connection() as connection:
            (dead,) = await deliveries.claim(connection, slots=5, lease_s=60, local=True, remote=True)
            assert await deliveries.claim(connection, slots=5, lease_s=60, local=True, remote=True) == []
        await resources.database.execute(b"UPDATE interlock.webhook_deliveries SET due_at = now()")
        async with delivering(resources):
            delivery = await until(lambda: tried(resources, run))
        async with resources.database.connection() as connection:
            assert await deliveries.record(connection, dead, status="dead", attempt={}) is None
        assert (await found(resources, run)) == delivery
        assert delivery.status == "delivered"


async def test_a_quarantined_run_is_told_of(resources: Resources, until: Until) -> None:
    async with receiving() as receiver:
        resources = with_webhooks(resources, private_networks=["127.0.0.0/8"])
        run = await start(resources, webhook=receiver.url)
        for _ in range(resources.settings.worker.max_attempts):
            run = await claimed(resources, run)
            await lifecycle.take_back(resources, run, cause="it fell over", if_expired=False)
        async with delivering(resources):
            await until(lambda: receiver.received)
        told = receiver.received[0].told
        assert (told["status"], told["error"]["error"]) == ("error", "WorkerCrashed")


async def test_a_run_that_is_given_back_sends_nothing(resources: Resources) -> None:
    resources = with_webhooks(resources)
    run = await claimed(resources, await start(resources, webhook="http://example.com/"))
    await lifecycle.take_back(resources, run, cause="it fell over", if_expired=False)
    run = await claimed(resources, run)
    await lifecycle.hand_back(resources, run, usage=None)
    assert await resources.database.fetch_all(b"SELECT 1 FROM interlock.webhook_deliveries") == []
