"""Crons over HTTP: what is taken, what is refused, what is shown. No worker runs here, so nothing fires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from interlock.checkpoints.database import Database

from .conftest import ServeApi, api_key

HOURLY: dict[str, Any] = {"assistant_id": "abc", "schedule": "0 * * * *", "input": {}}


async def created(http: httpx.AsyncClient, path: str = "/runs/crons", **fields: Any) -> dict[str, Any]:
    response = await http.post(path, json=HOURLY | fields)
    assert response.status_code == 200, response.text
    return response.json()


async def thread(http: httpx.AsyncClient) -> str:
    return (await http.post("/threads", json={})).json()["thread_id"]


async def rows(database: Database) -> int:
    found = await database.fetch_one(b"SELECT count(*) AS n FROM interlock.crons")
    assert found is not None
    return found["n"]


async def test_a_cron_shows_what_it_does_and_when(http: httpx.AsyncClient) -> None:
    cron = await created(
        http,
        metadata={"team": "a"},
        config={"tags": ["x"], "configurable": {"colour": "red"}},
        stream_mode="updates",
        interrupt_before=["B"],
        after_seconds=3,
    )
    assert cron["thread_id"] is None
    assert (cron["enabled"], cron["on_run_completed"], cron["end_time"]) == (True, "delete", None)
    assert cron["user_id"] == "anonymous"
    assert cron["metadata"] == {"team": "a"}
    assert cron["payload"] == {
        "assistant_id": cron["assistant_id"],
        "input": {},
        "metadata": {"team": "a"},
        "config": {"tags": ["x"], "configurable": {"colour": "red", "cron_id": cron["cron_id"]}},
        "stream_mode": ["updates"],
        "interrupt_before": ["B"],
        "after_seconds": 3.0,
        "schedule": cron["schedule"],
    }
    next_run = datetime.fromisoformat(cron["next_run_date"])
    assert next_run.minute == 0
    assert timedelta() < next_run - datetime.now(UTC) <= timedelta(hours=1)
    assert UUID(cron["cron_id"]).version == 7
    assert (await http.get(f"/runs/crons/{cron['cron_id']}")).json() == cron


async def test_the_next_time_is_shown_in_utc_whatever_the_zone(http: httpx.AsyncClient) -> None:
    """O35."""
    cron = await created(http, schedule="0 9 * * *", timezone="Asia/Tokyo")
    assert cron["next_run_date"].endswith("T00:00:00+00:00")
    assert cron["timezone"] == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"input": None}, 422, "`input` is required"),
        ({"schedule": "every day"}, 422, "is no cron expression"),
        ({"schedule": None}, 422, "schedule"),
        ({"schedule": "0 0 30 2 *"}, 422, "Bad day-of-month"),
        ({"schedule": "0 9 * * *", "timezone": "Mars/Base"}, 422, "IANA"),
        ({"assistant_id": None}, 422, "assistant_id"),
        ({"assistant_id": "nobody"}, 422, "Invalid assistant"),
        ({"assistant_id": str(uuid4())}, 404, "not found"),
        ({"end_time": "2020-01-01T00:00:00Z"}, 422, "is past"),
        ({"schedule": "0 0 1 1 *", "end_time": None, "timezone": 5}, 422, "timezone"),
        ({"on_run_completed": "burn"}, 422, "on_run_completed"),
        ({"context": {"a": 1}, "config": {"configurable": {"b": 2}}}, 400, "context"),
        ({"config": {"budget": {"steps": -1}}}, 422, "steps"),
        ({"config": {"recursion_limit": 10**9}}, 422, "max_recursion_limit"),
        ({"command": {"resume": "x"}}, 400, "thread_id"),
        ({"webhook": "gopher://x"}, 422, "`webhook` is refused"),
        ({"stream_mode": "smoke"}, 422, "stream_mode"),
        ({"end_time": "9999-12-31T23:59:59-14:00"}, 422, "end_time"),
        ({"end_time": "0001-01-01T00:00:00+14:00"}, 422, "is past"),
        ({"webhook": "https://xn--a.example/x"}, 422, "`webhook` is refused"),
    ],
)
async def test_a_cron_that_could_not_run_is_refused_at_once(
    http: httpx.AsyncClient, database: Database, fields: dict[str, Any], status: int, told: str
) -> None:
    """O34."""
    response = await http.post("/runs/crons", json=HOURLY | fields)
    assert response.status_code == status, response.text
    assert told in response.json()["detail"]
    assert await rows(database) == 0


async def test_a_cron_that_ends_before_it_begins_is_refused(
    http: httpx.AsyncClient, database: Database
) -> None:
    """O34."""
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    tomorrow = datetime.now(UTC) + timedelta(days=2)
    schedule = f"0 0 {tomorrow.day} {tomorrow.month} *"
    response = await http.post("/runs/crons", json=HOURLY | {"schedule": schedule, "end_time": soon})
    assert response.status_code == 422
    assert "is never due before" in response.json()["detail"]
    assert await rows(database) == 0


async def test_six_fields_are_a_schedule_with_seconds(http: httpx.AsyncClient) -> None:
    """O34."""
    cron = await created(http, schedule="30 0 9 * * *")
    assert cron["next_run_date"].endswith("T09:00:30+00:00")


async def test_a_cron_of_a_thread_needs_that_thread(http: httpx.AsyncClient, database: Database) -> None:
    response = await http.post(f"/threads/{uuid4()}/runs/crons", json=HOURLY)
    assert response.status_code == 404
    assert await rows(database) == 0
    thread_id = await thread(http)
    cron = await created(http, f"/threads/{thread_id}/runs/crons")
    assert (cron["thread_id"], cron["on_run_completed"]) == (thread_id, None)
    refused = await http.post(f"/threads/{thread_id}/runs/crons", json=HOURLY | {"on_run_completed": "keep"})
    assert refused.status_code == 422
    refused = await http.patch(f"/runs/crons/{cron['cron_id']}", json={"on_run_completed": "keep"})
    assert refused.status_code == 422


async def test_a_missing_thread_is_made_if_the_cron_asks_for_it(http: httpx.AsyncClient) -> None:
    thread_id = str(uuid4())
    cron = await created(http, f"/threads/{thread_id}/runs/crons", if_not_exists="create")
    assert cron["thread_id"] == thread_id
    assert (await http.get(f"/threads/{thread_id}")).status_code == 200


async def test_deleting_a_thread_deletes_its_crons(http: httpx.AsyncClient, database: Database) -> None:
    """O36."""
    deleted, pruned = await thread(http), await thread(http)
    for thread_id in (deleted, pruned):
        await created(http, f"/threads/{thread_id}/runs/crons")
    other = await created(http)
    assert (await http.delete(f"/threads/{deleted}")).status_code == 204
    assert (await http.post("/threads/prune", json={"thread_ids": [pruned]})).json() == {"pruned_count": 1}
    found = (await http.post("/runs/crons/search", json={})).json()
    assert [cron["cron_id"] for cron in found] == [other["cron_id"]]


async def test_deleting_an_assistant_deletes_its_crons(http: httpx.AsyncClient, database: Database) -> None:
    assistant = (await http.post("/assistants", json={"graph_id": "abc"})).json()["assistant_id"]
    cron = await created(http, assistant_id=assistant)
    assert (await http.delete(f"/assistants/{assistant}")).status_code == 204
    assert (await http.get(f"/runs/crons/{cron['cron_id']}")).status_code == 404


async def test_a_change_moves_the_next_time_and_keeps_the_rest(http: httpx.AsyncClient) -> None:
    cron = await created(http, metadata={"a": 1, "b": 1}, end_time="2100-01-01T00:00:00")
    assert cron["end_time"] == "2100-01-01T00:00:00+00:00"
    path = f"/runs/crons/{cron['cron_id']}"
    changed = (await http.patch(path, json={"schedule": "0 9 * * *", "metadata": {"b": 2}})).json()
    assert changed["next_run_date"].endswith("T09:00:00+00:00")
    assert changed["metadata"] == {"a": 1, "b": 2}
    assert changed["payload"]["metadata"] == {"a": 1, "b": 2}
    assert changed["end_time"] == cron["end_time"]
    assert changed["updated_at"] > cron["updated_at"]
    changed = (await http.patch(path, json={"timezone": "Asia/Tokyo", "input": {"x": 1}})).json()
    assert changed["next_run_date"].endswith("T00:00:00+00:00")
    assert changed["payload"]["input"] == {"x": 1}
    changed = (await http.patch(path, json={"end_time": None, "config": {"tags": ["t"]}})).json()
    assert changed["end_time"] is None
    assert changed["payload"]["config"] == {"tags": ["t"], "configurable": {"cron_id": cron["cron_id"]}}
    changed = (await http.patch(path, json={"assistant_id": "hitl", "on_run_completed": "keep"})).json()
    assert changed["assistant_id"] != cron["assistant_id"]
    assert changed["on_run_completed"] == "keep"
    assert (await http.get(path)).json() == changed


async def test_a_disabled_cron_has_no_next_time(http: httpx.AsyncClient) -> None:
    cron = await created(http, enabled=False)
    assert (cron["enabled"], cron["next_run_date"]) == (False, None)
    path = f"/runs/crons/{cron['cron_id']}"
    assert (await http.patch(path, json={"metadata": {"a": 1}})).json()["next_run_date"] is None
    assert (await http.patch(path, json={"enabled": True})).json()["next_run_date"] is not None
    assert (await http.patch(path, json={"enabled": False})).json()["next_run_date"] is None


async def test_a_cron_that_could_not_be_made_any_more_can_be_disabled(
    http: httpx.AsyncClient, database: Database
) -> None:
    """As when the settings have become stricter: whoever wants it to stop need not mend it first."""
    cron = await created(http)
    await database.execute(
        b"""UPDATE interlock.crons SET payload = '{"input": null}', timezone = 'Europe/Newname',"""
        b" failure_count = 3"
    )
    path = f"/runs/crons/{cron['cron_id']}"
    response = await http.patch(path, json={"enabled": False})
    assert response.status_code == 200, response.text
    stopped = response.json()
    assert (stopped["enabled"], stopped["next_run_date"], stopped["failure_count"]) == (False, None, 3)
    assert stopped["updated_at"] > cron["updated_at"]
    assert (await http.get(path)).json() == stopped
    assert (await http.patch(path, json={"enabled": True})).status_code == 422


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "x"},
        {"timezone": "Mars/Base"},
        {"end_time": "2020-01-01T00:00:00Z"},
        {"assistant_id": "nobody"},
        {"context": {"a": 1}, "config": {"configurable": {"b": 2}}},
    ],
)
async def test_a_refused_change_leaves_a_cron_as_it_was(
    http: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    cron = await created(http)
    path = f"/runs/crons/{cron['cron_id']}"
    assert (await http.patch(path, json=change)).status_code in (400, 422)
    assert (await http.get(path)).json() == cron


async def test_a_change_that_is_not_about_time_lets_what_is_due_stay_due(
    http: httpx.AsyncClient, database: Database
) -> None:
    cron = await created(http)
    await database.execute(b"UPDATE interlock.crons SET next_run_at = now() - interval '1 second'")
    before = (await http.get(f"/runs/crons/{cron['cron_id']}")).json()["next_run_date"]
    changed = (await http.patch(f"/runs/crons/{cron['cron_id']}", json={"metadata": {"a": 1}})).json()
    assert changed["next_run_date"] == before


async def test_a_cron_that_has_ended_can_be_stopped_and_described(
    http: httpx.AsyncClient, database: Database
) -> None:
    cron = await created(http, end_time="2100-01-01T00:00:00Z")
    await database.execute(
        b"UPDATE interlock.crons SET end_time = now() - interval '1 h', next_run_at = NULL"
    )
    path = f"/runs/crons/{cron['cron_id']}"
    assert (await http.patch(path, json={"metadata": {"a": 1}})).json()["next_run_date"] is None
    assert (await http.patch(path, json={"enabled": False})).json()["enabled"] is False


async def test_crons_are_searched_sorted_selected_and_counted(http: httpx.AsyncClient) -> None:
    thread_id = await thread(http)
    first = await created(http, metadata={"team": "a"}, schedule="0 0 1 1 *")
    second = await created(http, f"/threads/{thread_id}/runs/crons", metadata={"team": "b"})
    third = await created(http, assistant_id="hitl", enabled=False)

    async def found(**where: Any) -> list[str]:
        return [cron["cron_id"] for cron in (await http.post("/runs/crons/search", json=where)).json()]

    ids = [cron["cron_id"] for cron in (first, second, third)]
    assert await found() == ids[::-1]
    assert await found(thread_id=thread_id) == [ids[1]]
    assert await found(metadata={"team": "a"}) == [ids[0]]
    assert await found(assistant_id="hitl") == [ids[2]]
    assert await found(assistant_id=first["assistant_id"], sort_by="next_run_date", sort_order="asc") == [
        ids[1],
        ids[0],
    ]
    assert await found(enabled=False) == [ids[2]]
    for column in ("cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "end_time"):
        assert sorted(await found(sort_by=column)) == sorted(ids)
    page = await http.post("/runs/crons/search", json={"limit": 2, "select": ["cron_id", "now"]})
    assert [sorted(cron) for cron in page.json()] == [["cron_id", "now"]] * 2
    assert (page.headers["x-pagination-total"], page.headers["x-pagination-next"]) == ("3", "2")
    assert (await http.post("/runs/crons/count", json={})).json() == 3
    assert (await http.post("/runs/crons/count", json={"metadata": {"team": "b"}})).json() == 1
    assert (await http.post("/runs/crons/search", json={"sort_by": "colour"})).status_code == 422


async def test_a_deleted_cron_is_gone(http: httpx.AsyncClient) -> None:
    cron = await created(http)
    path = f"/runs/crons/{cron['cron_id']}"
    assert (await http.delete(path)).status_code == 204
    for response in (await http.get(path), await http.delete(path), await http.patch(path, json={})):
        assert response.status_code == 404
    assert (await http.get("/runs/crons/x")).status_code == 422


async def test_another_tenants_cron_does_not_exist(serve_api: ServeApi) -> None:
    keys = [api_key("a", "acme"), api_key("b", "blue"), api_key("v", "acme", "viewer")]
    async with serve_api(auth={"api_keys": keys}) as http:
        http.headers["x-api-key"] = "a"
        cron = await created(http)
        path = f"/runs/crons/{cron['cron_id']}"
        assert cron["user_id"] == "acme user"
        http.headers["x-api-key"] = "v"
        assert (await http.get(path)).status_code == 200
        assert (await http.patch(path, json={"enabled": False})).status_code == 403
        assert (await http.post("/runs/crons", json=HOURLY)).status_code == 403
        http.headers["x-api-key"] = "b"
        assert (await http.get(path)).status_code == 404
        assert (await http.patch(path, json={"enabled": False})).status_code == 404
        assert (await http.delete(path)).status_code == 404
        assert (await http.post("/runs/crons/search", json={})).json() == []
        assert (await http.post("/runs/crons/count", json={})).json() == 0
        foreign = await http.post(f"/threads/{uuid4()}/runs/crons", json=HOURLY)
        assert foreign.status_code == 404


async def test_whoever_changes_what_a_cron_does_becomes_its_owner(serve_api: ServeApi) -> None:
    keys = [api_key("a", "acme"), api_key("o", "acme") | {"subject": "other"}]
    async with serve_api(auth={"api_keys": keys}) as http:
        http.headers["x-api-key"] = "a"
        path = f"/runs/crons/{(await created(http))['cron_id']}"
        http.headers["x-api-key"] = "o"
        assert (await http.patch(path, json={"enabled": False})).json()["user_id"] == "acme user"
        assert (await http.patch(path, json={"input": {"a": 1}})).json()["user_id"] == "other"


async def test_fields_that_change_nothing_are_reported(http: httpx.AsyncClient) -> None:
    response = await http.post("/runs/crons", json=HOURLY | {"on_disconnect": "cancel", "colour": "red"})
    assert response.headers["x-interlock-warning"] == "unknown field(s) ignored: colour, on_disconnect"
