"""What the end of a run tells its webhook, and what becomes of receivers that misbehave."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from interlock.checkpoints.database import Database
from interlock.server.runs.threads import sweep_expired
from interlock.server.worker.sweep import tidy

from ..receiver import Receiver, receiving
from ..servers import free_port
from .conftest import ServeApi, api_key

Until = Callable[..., Awaitable[Any]]
HUMAN = {"messages": [{"role": "user", "content": "hi"}]}
OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
HERE = {"url": {"require_https": False}, "private_networks": ["127.0.0.0/8"]}
"""Settings that let webhooks go to this machine."""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


async def start(
    http: httpx.AsyncClient, url: str, *, graph: str = "chat", thread: str | None = None, **body: Any
) -> dict[str, Any]:
    thread = thread or await new_thread(http)
    sent = {"input": HUMAN, **body, "assistant_id": graph, "webhook": url}
    answer = await http.post(f"/threads/{thread}/runs", json=sent)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def new_thread(http: httpx.AsyncClient) -> str:
    return (await http.post("/threads", json={})).json()["thread_id"]


def place(run: dict[str, Any]) -> str:
    return f"/threads/{run['thread_id']}/runs/{run['run_id']}/webhook-deliveries"


async def delivery(http: httpx.AsyncClient, run: dict[str, Any]) -> dict[str, Any]:
    found = (await http.get(place(run))).json()
    return found[0] if found else {}


async def attempts(http: httpx.AsyncClient, run: dict[str, Any]) -> list[dict[str, Any]]:
    return (await delivery(http, run)).get("attempts", [])


async def make_due(database: Database) -> None:
    """Let the pause before the next attempt be over."""
    await database.execute(
        b"UPDATE interlock.webhook_deliveries SET due_at = now() WHERE status = 'pending' AND claim IS NULL"
    )


# --- what is told ----------------------------------------------------------------------------------


async def test_a_run_that_ended_is_told_once_with_its_values(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, receiver.url, metadata={"m": 1})
        await until(lambda: receiver.received)
        sent = await until(lambda: _delivered(http, run))
        told = receiver.received[0].told
        shown = (await http.get(f"/threads/{run['thread_id']}/runs/{run['run_id']}")).json()
        values = (await http.get(f"/threads/{run['thread_id']}/state")).json()["values"]
    assert {key: told[key] for key in shown} == shown
    assert (told["status"], told["kwargs"]["webhook"]) == ("success", receiver.url)
    assert told["values"] == values
    times = [told[name] for name in ("created_at", "run_started_at", "run_ended_at", "webhook_sent_at")]
    assert [datetime.fromisoformat(time) for time in times] == sorted(map(datetime.fromisoformat, times))
    assert "error" not in told
    assert receiver.received[0].headers["content-type"] == "application/json"
    assert "webhook-signature" not in receiver.received[0].headers
    assert receiver.received[0].headers["webhook-id"] == sent["webhook_id"]
    assert [one["status_code"] for one in sent["attempts"]] == [200]
    assert len(receiver.received) == 1


async def _delivered(http: httpx.AsyncClient, run: dict[str, Any]) -> dict[str, Any] | None:
    found = await delivery(http, run)
    return found if found.get("status") == "delivered" else None


async def test_a_failed_run_tells_its_error_and_the_state_it_reached(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        await start(http, receiver.url, graph="err", input={"own": True})
        await until(lambda: receiver.received)
    told = receiver.received[0].told
    assert told["status"] == "error"
    assert told["error"] == {"error": "LorryError", "message": "no petrol left"}
    assert told["values"] == {"own": True, "reached": True}


async def test_an_interrupted_graph_is_told_as_success_with_its_values(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        await start(http, receiver.url, graph="hitl", input={"before": 0})
        await until(lambda: receiver.received)
    told = receiver.received[0].told
    assert (told["status"], told["values"]) == ("success", {"before": 1})


@pytest.mark.parametrize("kind", ["", "/wait", "/stream"])
async def test_every_way_to_start_a_stateless_run_sends_its_webhook(
    serve_api: ServeApi, receiver: Receiver, until: Until, kind: str
) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        sent = {"assistant_id": "chat", "input": HUMAN, "webhook": receiver.url}
        answer = await http.post(f"/runs{kind}", json=sent)
        assert answer.status_code == 200
        await until(lambda: receiver.received)
        told = receiver.received[0].told
        found = await http.get(place(told))
    assert told["values"]["messages"][-1]["type"] == "ai"
    # The thread has gone with its run, the log has not.
    assert [one["run_id"] for one in found.json()] == [told["run_id"]]


async def test_a_batch_tells_each_of_its_runs(serve_api: ServeApi, receiver: Receiver, until: Until) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        one = {"assistant_id": "chat", "input": HUMAN, "webhook": receiver.url}
        runs = (await http.post("/runs/batch", json=[one, one])).json()
        await until(lambda: len(receiver.received) == 2)
    assert {got.told["run_id"] for got in receiver.received} == {run["run_id"] for run in runs}


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_cancelled_run_is_told_whether_its_row_stays_or_goes(
    serve_api: ServeApi, receiver: Receiver, until: Until, action: str
) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, receiver.url, graph="slow", input={"steps": 100, "seconds": 0.05})
        path = f"/threads/{run['thread_id']}"
        await until(lambda: _values(http, path, "done"), deadline_s=30)
        await http.post(f"{path}/runs/{run['run_id']}/cancel", params={"action": action, "reason": "enough"})
        await until(lambda: receiver.received, deadline_s=20)
        left = (await http.get(f"{path}/state")).json()["values"]
    told = receiver.received[0].told
    assert (told["run_id"], told["status"], told["cancel_reason"]) == (run["run_id"], "interrupted", "enough")
    assert told["run_ended_at"]
    assert told["values"] == (left if action == "interrupt" else {})
    assert ("done" in told["values"]) == (action == "interrupt")


async def _values(http: httpx.AsyncClient, path: str, key: str) -> Any:
    return ((await http.get(f"{path}/state")).json().get("values") or {}).get(key)


async def test_a_run_that_makes_room_for_another_is_told_of(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        first = await start(http, receiver.url, graph="slow", input={"steps": 100, "seconds": 0.05})
        path = f"/threads/{first['thread_id']}"
        await until(lambda: _values(http, path, "done"), deadline_s=30)
        second = {"assistant_id": "slow", "input": {"steps": 1}, "multitask_strategy": "interrupt"}
        await http.post(f"{path}/runs", json=second)
        await until(lambda: receiver.received, deadline_s=20)
    told = receiver.received[0].told
    assert (told["run_id"], told["status"]) == (first["run_id"], "interrupted")
    # Its own last state, not that of the run which goes on from there.
    assert told["values"]["steps"] == 100


async def test_a_run_that_has_not_ended_sends_nothing(
    serve_api: ServeApi, receiver: Receiver, database: Database
) -> None:
    async with serve_api(webhooks=HERE) as http:
        run = await start(http, receiver.url)
        assert (await http.get(place(run))).json() == []
        assert (await http.post(f"{place(run)}/resend")).status_code == 404
    assert await database.fetch_all(b"SELECT 1 FROM interlock.webhook_deliveries") == []


async def test_with_webhooks_switched_off_runs_go_on_and_nothing_is_sent(
    serve_api: ServeApi, receiver: Receiver, database: Database
) -> None:
    off = {"disable_webhooks": True}
    async with serve_api(worker=True, webhooks=HERE, http=off) as http:
        thread = await new_thread(http)
        sent = {"assistant_id": "chat", "input": HUMAN, "webhook": receiver.url}
        answer = await http.post(f"/threads/{thread}/runs/wait", json=sent)
    assert answer.json()["messages"]
    assert await database.fetch_all(b"SELECT 1 FROM interlock.webhook_deliveries") == []
    assert receiver.received == []


# --- signing ---------------------------------------------------------------------------------------


async def test_a_webhook_is_signed_by_every_key_and_by_those_of_its_tenant(
    serve_api: ServeApi, receiver: Receiver, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    other = f"whsec_{base64.b64encode(bytes([3]) * 32).decode()}"
    settings = {**HERE, "signing_secrets": [OLD, NEW], "tenant_secrets": {"b": [other]}}
    keys = [api_key("one", "a"), api_key("two", "b")]
    async with serve_api(worker=True, webhooks=settings, auth={"api_keys": keys}) as http:
        for secret, expected in (("one", (OLD, NEW)), ("two", (other,))):
            http.headers["x-api-key"] = secret
            receiver.received.clear()
            await start(http, receiver.url)
            await until(lambda: receiver.received)
            got = receiver.received[0]
            for key in (OLD, NEW, other):
                if key in expected:
                    assert Webhook(key).verify(got.body, dict(got.headers))["status"] == "success"
                else:
                    with pytest.raises(WebhookVerificationError):
                        Webhook(key).verify(got.body, dict(got.headers))
    assert OLD.removeprefix("whsec_") not in caplog.text


async def test_headers_of_the_settings_are_sent_with_their_variables_filled_in(
    serve_api: ServeApi, receiver: Receiver, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LG_WEBHOOK_TOKEN", "t0ken")
    headers = {"authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}"}
    async with serve_api(worker=True, webhooks={**HERE, "headers": headers}) as http:
        run = await start(http, receiver.url)
        await until(lambda: receiver.received)
        log = await http.get(place(run))
    assert receiver.received[0].headers["authorization"] == "Bearer t0ken"
    assert "t0ken" not in log.text


# --- receivers that misbehave ----------------------------------------------------------------------


async def test_a_receiver_that_was_down_hears_of_it_when_it_is_up(
    serve_api: ServeApi, until: Until, database: Database
) -> None:
    port = free_port()
    async with serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, f"http://127.0.0.1:{port}/hook")
        await until(lambda: attempts(http, run))
        waiting = await delivery(http, run)
        assert waiting["status"] == "pending"
        assert "could not be reached" in waiting["attempts"][0]["error"]
        async with receiving(port) as receiver:
            await make_due(database)
            sent = await until(lambda: _delivered(http, run))
    assert [one["status_code"] for one in sent["attempts"]] == [None, 200]
    assert [got.headers["webhook-id"] for got in receiver.received] == [sent["webhook_id"]]


async def test_a_redirect_is_not_followed(serve_api: ServeApi, receiver: Receiver, until: Until) -> None:
    async with receiving() as elsewhere, serve_api(worker=True, webhooks=HERE) as http:
        receiver.status, receiver.headers = 302, {"location": elsewhere.url}
        run = await start(http, receiver.url)
        tried = await until(lambda: attempts(http, run))
        assert (tried[0]["status_code"], tried[0]["error"]) == (302, "redirects are not followed")
        assert elsewhere.received == []


async def test_a_receiver_that_says_nothing_is_given_up_after_the_timeout(
    serve_api: ServeApi, until: Until
) -> None:
    async with (
        receiving(silent=asyncio.Event()) as slow,
        serve_api(worker=True, webhooks={**HERE, "timeout_s": 0.3}) as http,
    ):
        run = await start(http, slow.url)
        tried = await until(lambda: attempts(http, run))
    assert tried[0]["error"] == "no answer within 0.3 s"


async def test_a_slow_receiver_of_one_tenant_holds_up_no_other(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    keys = [api_key("one", "a"), api_key("two", "b")]
    settings = {**HERE, "slots": 2, "timeout_s": 2}
    async with (
        receiving(silent=asyncio.Event()) as slow,
        serve_api(worker=True, webhooks=settings, auth={"api_keys": keys}) as http,
    ):
        http.headers["x-api-key"] = "one"
        for _ in range(8):
            await start(http, slow.url)
        await until(lambda: len(slow.received) == 2, deadline_s=30)
        http.headers["x-api-key"] = "two"
        await start(http, receiver.url)
        await until(lambda: receiver.received, deadline_s=30)
        assert len(slow.received) <= 5


async def test_nothing_is_read_of_an_answer_without_end(serve_api: ServeApi, until: Until) -> None:
    async with receiving(endless=True) as huge, serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, huge.url)
        assert await until(lambda: _delivered(http, run))
        # What the sockets of both sides hold was written, and no more.
        assert huge.sent_bytes < 32 * 1024 * 1024


async def test_the_pause_that_a_receiver_asks_for_is_kept(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    receiver.status, receiver.headers = 429, {"retry-after": "7200"}
    async with serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, receiver.url)
        tried = await until(lambda: attempts(http, run))
        after = datetime.fromisoformat((await delivery(http, run))["next_attempt_at"])
    assert (after - datetime.fromisoformat(tried[0]["at"])).total_seconds() > 7000


async def test_a_receiver_that_is_gone_is_not_tried_again_until_somebody_asks(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    receiver.status = 410
    async with serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, receiver.url)
        await until(lambda: attempts(http, run))
        given_up = await delivery(http, run)
        assert (given_up["status"], given_up["next_attempt_at"]) == ("dead", None)
        receiver.status = 204
        again = await http.post(f"{place(run)}/resend")
        assert (again.status_code, again.json()["status"]) == (202, "pending")
        sent = await until(lambda: _delivered(http, run))
    assert [one["status_code"] for one in sent["attempts"]] == [410, 204]
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert {**first.told, "webhook_sent_at": None} == {**second.told, "webhook_sent_at": None}


async def test_a_webhook_is_dead_when_its_span_is_over(
    serve_api: ServeApi, receiver: Receiver, until: Until, database: Database
) -> None:
    receiver.status = 503
    async with serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, receiver.url)
        await until(lambda: attempts(http, run))
        assert (await delivery(http, run))["status"] == "pending"
        await database.execute(b"UPDATE interlock.webhook_deliveries SET give_up_at = now()")
        await make_due(database)
        await until(lambda: _dead(http, run))
        assert len(receiver.received) == 2


async def _dead(http: httpx.AsyncClient, run: dict[str, Any]) -> bool:
    return (await delivery(http, run))["status"] == "dead"


async def test_two_workers_deliver_once(serve_api: ServeApi, receiver: Receiver, until: Until) -> None:
    async with (
        serve_api(worker=True, webhooks=HERE) as http,
        serve_api(worker=True, webhooks=HERE),
    ):
        runs = [await start(http, receiver.url) for _ in range(12)]
        for run in runs:
            await until(lambda run=run: _delivered(http, run), deadline_s=60)
    assert sorted(got.told["run_id"] for got in receiver.received) == sorted(run["run_id"] for run in runs)


# --- who may see and what is kept ------------------------------------------------------------------


async def test_deliveries_are_shown_and_sent_again_only_within_their_tenant_and_by_right(
    serve_api: ServeApi, receiver: Receiver, until: Until
) -> None:
    keys = [api_key("one", "a"), api_key("two", "b"), api_key("look", "a", "viewer")]
    async with serve_api(worker=True, webhooks=HERE, auth={"api_keys": keys}) as http:
        http.headers["x-api-key"] = "one"
        run = await start(http, receiver.url)
        await until(lambda: _delivered(http, run))
        http.headers["x-api-key"] = "two"
        assert (await http.get(place(run))).status_code == 404
        assert (await http.post(f"{place(run)}/resend")).status_code == 404
        http.headers["x-api-key"] = "look"
        assert len((await http.get(place(run))).json()) == 1
        assert (await http.post(f"{place(run)}/resend")).status_code == 403
        missing = {**run, "run_id": str(uuid4())}
        assert (await http.get(place(missing))).status_code == 404
    assert len(receiver.received) == 1


async def test_a_deleted_thread_takes_its_deliveries_along(
    serve_api: ServeApi, receiver: Receiver, until: Until, database: Database
) -> None:
    async with serve_api(worker=True, webhooks=HERE) as http:
        run = await start(http, receiver.url)
        await until(lambda: _delivered(http, run))
        await http.delete(f"/threads/{run['thread_id']}")
    assert await database.fetch_all(b"SELECT 1 FROM interlock.webhook_deliveries") == []


async def test_a_thread_that_has_outlived_its_time_stays_until_its_webhook_is_sent(
    serve_api: ServeApi, receiver: Receiver, until: Until, database: Database
) -> None:
    receiver.status = 503
    async with serve_api(worker=True, webhooks=HERE) as http:
        thread = (await http.post("/threads", json={"ttl": 1})).json()["thread_id"]
        run = await start(http, receiver.url, thread=thread)
        await until(lambda: attempts(http, run))
        resources = http.app.state.resources  # type: ignore[attr-defined]
        await database.execute(b"UPDATE interlock.threads SET expires_at = now() - interval '1 second'")
        assert await sweep_expired(resources) == 0
        receiver.status = 200
        await make_due(database)
        await until(lambda: _delivered(http, run))
        assert await sweep_expired(resources) == 1
        assert (await http.get(f"/threads/{thread}")).status_code == 404


async def test_deliveries_are_forgotten_after_their_retention(
    serve_api: ServeApi, receiver: Receiver, until: Until, database: Database
) -> None:
    async with serve_api(worker=True, webhooks={**HERE, "retention_s": 60}) as http:
        run = await start(http, receiver.url)
        await until(lambda: _delivered(http, run))
        resources = http.app.state.resources  # type: ignore[attr-defined]
        await tidy(resources)
        assert await delivery(http, run)
        await database.execute(
            b"UPDATE interlock.webhook_deliveries SET ended_at = now() - interval '61 seconds'"
        )
        await tidy(resources)
        assert (await http.get(place(run))).json() == []
