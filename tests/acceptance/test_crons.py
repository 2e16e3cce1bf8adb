"""Crons through the official client, with workers that race for every time and die in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from ..servers import prepare, running

Until = Callable[..., Awaitable[Any]]


async def test_the_official_client_makes_changes_finds_and_deletes_crons(client: LangGraphClient) -> None:
    """O34, O35."""
    thread = await client.threads.create()
    cron: Any = await client.crons.create_for_thread(
        thread["thread_id"],
        "abc",
        schedule="0 9 * * *",
        timezone=ZoneInfo("Asia/Tokyo"),
        input={"seconds": 0},
        metadata={"of": "sdk"},
        end_time=datetime.now(UTC) + timedelta(days=9),
        interrupt_before=["B"],
    )
    assert cron["next_run_date"].endswith("T00:00:00+00:00")
    found = await client.crons.search(
        thread_id=thread["thread_id"], sort_by="next_run_date", select=["cron_id"]
    )
    assert found == [{"cron_id": cron["cron_id"]}]
    assert await client.crons.count(metadata={"of": "sdk"}) == 1
    changed: Any = await client.crons.update(
        cron["cron_id"], schedule="0 10 * * *", end_time=None, timezone="UTC"
    )
    assert (changed["end_time"], changed["next_run_date"][11:16]) == (None, "10:00")
    await client.crons.delete(cron["cron_id"])
    with pytest.raises(NotFoundError):
        await client.crons.update(cron["cron_id"], enabled=False)
    with pytest.raises(UnprocessableEntityError, match="`input` is required"):
        await client.crons.create("abc", schedule="0 9 * * *")
    with pytest.raises(UnprocessableEntityError, match="no cron expression"):
        await client.crons.create("abc", schedule="tomorrow", input={})


async def test_no_time_fires_twice_while_workers_race_for_it_and_one_is_killed(
    module_database_url: str, tmp_path: Path, until: Until
) -> None:
    api = prepare(module_database_url, tmp_path, command="serve")
    workers = [prepare(module_database_url, tmp_path, command="work") for _ in range(3)]

    def fired() -> list[UUID | None]:
        with psycopg.connect(module_database_url) as connection:
            return [row[0] for row in connection.execute("SELECT run_id FROM interlock.cron_firings")]

    def started() -> dict[UUID, str]:
        with psycopg.connect(module_database_url) as connection:
            return dict(connection.execute("SELECT run_id, status FROM interlock.runs").fetchall())

    with running(api, *workers):
        client = get_client(url=api.url, api_key=None)
        crons: list[Any] = [
            await client.crons.create("abc", schedule="* * * * * *", input={}, on_run_completed="keep")
            for _ in range(4)
        ]
        for survivors in (2, 1):
            before = len(fired())
            await until(lambda n=before: len(fired()) > n + 8, deadline_s=60)
            workers[survivors].kill()
        before = len(fired())
        await until(lambda n=before: len(fired()) > n + 8, deadline_s=60)
        for cron in crons:
            await client.crons.update(cron["cron_id"], enabled=False)
        await until(lambda: set(started().values()) == {"success"}, deadline_s=60)
        times, runs = fired(), started()
        assert None not in times
        assert set(times) == runs.keys()
        assert len(times) == len(runs)
        await client.aclose()
