"""The worker on a real database with real graphs: claim, cancel, leases, drain, and what gets stuck."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from interlock.checkpoints.database import Database
from interlock.checkpoints.notify import PRESENCE
from interlock.server.domain import Run
from interlock.server.records import queue
from interlock.server.resources import Resources
from interlock.server.runs import cancel, lifecycle

from .engine import ANN, current, events_of, make_thread, opened, start, thread_of, told, working

Until = Callable[..., Awaitable[Any]]

TRACE: dict[str, Any] = {"trace": []}


@pytest.fixture
async def observer(database_url: str) -> AsyncIterator[Resources]:
    """The eyes of the test: no worker."""
    async with opened(database_url) as resources:
        yield resources


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], list[str]]:
    """What the nodes of a run's thread noted, in order."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("STEP_NOTES", str(path))

    def of(run: Run) -> list[str]:
        lines = [line.split(" ", 1) for line in path.read_text().splitlines()]
        return [text for thread_id, text in lines if thread_id == str(run.thread_id)]

    return of


async def has_status(resources: Resources, run: Run, *statuses: str) -> Run | None:
    row = await current(resources, run)
    return row if row is not None and row.status in statuses else None


async def test_a_run_is_executed_and_its_thread_shows_the_result(database_url: str, until: Until) -> None:
    async with working(database_url) as (_, resources):
        run = await start(resources, "abc", input=TRACE)
        await until(lambda: has_status(resources, run, "success"))
        thread = await thread_of(resources, run)
        assert thread is not None
        assert (thread.status, thread.values) == ("idle", {"trace": ["A", "B", "C"]})
        assert told(await events_of(resources, run.thread_id)) == [
            ("run.created", None),
            ("run.started", None),
            ("run.ended", "success"),
        ]


async def test_no_more_runs_than_slots_are_executed_at_once(database_url: str, until: Until) -> None:
    async with working(database_url, slots=3) as (worker, resources):
        runs = [await start(resources, "slow", input={"steps": 2, "seconds": 0.1}) for _ in range(9)]
        most = 0

        async def all_done() -> bool:
            nonlocal most
            most = max(most, len(worker.running))
            return all([await has_status(resources, run, "success") for run in runs])

        await until(all_done, deadline_s=30)
        assert most == 3


async def test_two_workers_share_the_queue_and_no_run_is_executed_twice(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url, slots=4) as (_, resources), working(database_url, slots=4):
        runs = [await start(resources, "abc", input=TRACE) for _ in range(20)]

        async def all_done() -> bool:
            return all([await has_status(resources, run, "success") for run in runs])

        await until(all_done, deadline_s=30)
        assert [notes(run) for run in runs] == [["A", "B", "C"]] * 20


async def test_a_run_waits_for_the_one_before_it_on_its_thread(database_url: str, until: Until) -> None:
    async with working(database_url) as (_, resources):
        thread_id = await make_thread(resources)
        runs = [await start(resources, "abc", thread_id=thread_id, input=TRACE) for _ in range(4)]
        rows = [await until(lambda run=run: has_status(resources, run, "success")) for run in runs]
        for earlier, later in itertools.pairwise(rows):
            assert earlier.ended_at <= later.started_at
        thread = await thread_of(resources, runs[0])
        assert thread is not None
        assert thread.values == {"trace": ["A", "B", "C"] * 4}


async def test_a_delayed_run_starts_when_it_is_due_and_not_at_the_next_poll(
    database_url: str, until: Until
) -> None:
    async with working(database_url, poll_s=60) as (_, resources):
        run = await start(resources, "abc", input=TRACE, after_seconds=0.5)
        row = await until(lambda: has_status(resources, run, "success"))
        assert row.started_at >= row.run_at


async def test_a_delayed_run_is_remembered_over_a_restart(database_url: str, until: Until) -> None:
    async with opened(database_url) as resources:
        run = await start(resources, "abc", input=TRACE, after_seconds=1)
    async with working(database_url, poll_s=60) as (_, resources):
        assert await until(lambda: has_status(resources, run, "success"))


async def test_a_worker_without_notifications_finds_runs_by_polling(database_url: str, until: Until) -> None:
    async with working(database_url, poll_s=0.1) as (_, resources):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE '%-listen' AND datname = current_database()"
            )
        run = await start(resources, "abc", input=TRACE)
        assert await until(lambda: has_status(resources, run, "success"))


async def test_a_node_that_raises_ends_the_run_with_its_error(database_url: str, until: Until) -> None:
    async with working(database_url) as (_, resources):
        run = await start(resources, "err")
        row = await until(lambda: has_status(resources, run, "error"))
        assert (row.attempt, row.crashes) == (1, 0)
        thread = await thread_of(resources, run)
        assert thread is not None
        assert (thread.status, thread.error) == ("error", row.error)


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_a_cancel_from_another_process_stops_the_graph(
    database_url: str, until: Until, observer: Resources, notes: Callable[[Run], list[str]], action: Any
) -> None:
    async with working(database_url, lease_s=60) as (worker, resources):
        run = await start(resources, "slow", input={"steps": 1000, "seconds": 0.05})
        await until(lambda: len(notes(run)) > 2)
        await cancel.cancel(observer, ANN, thread_id=run.thread_id, run_id=run.run_id, action=action)
        await until(lambda: not worker.running, deadline_s=3)
        steps = len(notes(run))
        again = await start(resources, "abc", thread_id=run.thread_id, input=TRACE)
        await until(lambda: has_status(resources, again, "success"))
        assert len(notes(run)) - len(["A", "B", "C"]) == steps


async def test_a_lost_lease_stops_the_run_at_once_and_it_goes_on_elsewhere(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url, lease_s=1.5, slots=1) as (worker, resources):
        run = await start(resources, "slow", input={"steps": 12, "seconds": 0.2})
        await until(lambda: len(notes(run)) > 1)
        # As if this worker had been cut off for longer than its lease, and another one swept.
        async with resources.database.transaction() as connection:
            await queue.lock_thread(connection, tenant_id=run.tenant_id, thread_id=run.thread_id)
            held = worker.running[0]
            assert await queue.take_back(connection, held, max_attempts=3, error=b"{}", if_expired=False)
            await queue.serve_next(connection, tenant_id=run.tenant_id, thread_id=run.thread_id)
        row = await until(lambda: has_status(resources, run, "success"), deadline_s=30)
        assert (row.attempt, row.crashes) == (2, 1)
        ended = [kind for kind, _ in told(await events_of(resources, run.thread_id)) if kind == "run.ended"]
        assert len(ended) == 1


async def test_a_drained_worker_hands_its_runs_to_another_one(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url) as (first, resources):
        run = await start(resources, "slow", input={"steps": 8, "seconds": 0.2})
        await until(lambda: len(notes(run)) > 1)
        async with working(database_url):
            first.request_drain()
            row = await until(lambda: has_status(resources, run, "success"), deadline_s=30)
    assert (row.attempt, row.crashes) == (2, 0)
    assert notes(run) == [f"step {number}" for number in range(1, 9)], "a finished step was repeated"


async def test_a_run_that_does_not_reach_a_superstep_in_the_grace_is_cancelled_and_handed_back(
    database_url: str, until: Until, observer: Resources, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url, drain_grace_s=0.3) as (_, resources):
        run = await start(resources, "slow", input={"steps": 1, "seconds": 60})
        await until(lambda: notes(run))
    row = await current(observer, run)
    assert row is not None
    assert (row.status, row.crashes, row.worker_id) == ("pending", 0, None)


async def test_runs_of_a_dead_worker_are_reclaimed_at_boot_without_waiting_for_their_leases(
    database_url: str, until: Until, observer: Resources
) -> None:
    run = await start(observer, "abc", input=TRACE)
    async with observer.database.connection() as connection:
        (dead,) = await queue.claim(connection, worker_id="host/1/dead", slots=1, lease_s=600)
    assert dead.run_id == run.run_id
    async with working(database_url):
        row = await until(lambda: has_status(observer, run, "success"))
    assert (row.attempt, row.crashes) == (2, 1)


async def test_a_booting_worker_leaves_the_runs_of_living_ones_alone(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url) as (_, resources):
        run = await start(resources, "slow", input={"steps": 5, "seconds": 0.2})
        await until(lambda: notes(run))
        async with working(database_url):
            row = await until(lambda: has_status(resources, run, "success"))
    assert (row.attempt, row.crashes) == (1, 0)


async def test_an_expired_lease_is_swept_by_a_worker_that_runs_already(
    database_url: str, until: Until, observer: Resources
) -> None:
    async with working(database_url, slots=1), observer.database.connection() as connection:
        busy = await start(observer, "slow", input={"steps": 1, "seconds": 60})
        await until(lambda: has_status(observer, busy, "running"))
        run = await start(observer, "abc", input=TRACE)
        # Another worker takes it, is connected, and hangs from then on.
        await connection.execute(b"SELECT pg_advisory_lock(%s, hashtext('host/1/hung'))", (PRESENCE,))
        (hung,) = await queue.claim(connection, worker_id="host/1/hung", slots=1, lease_s=1)
        assert hung.run_id == run.run_id
        await cancel.cancel(observer, ANN, thread_id=busy.thread_id, run_id=busy.run_id)
        row = await until(lambda: has_status(observer, run, "success"), deadline_s=20)
        await connection.execute(b"SELECT pg_advisory_unlock_all()")
    assert (row.attempt, row.crashes) == (2, 1)


async def test_a_worker_may_claim_a_run_again_before_its_former_attempt_has_ended(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url) as (worker, resources):
        run = await start(resources, "slow", input={"steps": 6, "seconds": 0.3})
        await until(lambda: notes(run))
        held = await current(resources, run)
        assert held is not None
        assert await lifecycle.take_back(resources, held, cause="the test", if_expired=False)
        await until(lambda: len(worker.running) == 2)
        row = await until(lambda: has_status(resources, run, "success"))
        await until(lambda: not worker.running)
    assert (row.attempt, row.crashes) == (2, 1)
    assert len(set(notes(run))) == 6


async def test_a_run_that_takes_too_long_ends_as_timeout(database_url: str, until: Until) -> None:
    async with working(database_url, run_timeout_s=0.5) as (_, resources):
        run = await start(resources, "slow", input={"steps": 1, "seconds": 60})
        row = await until(lambda: has_status(resources, run, "timeout"))
        assert row.error is not None
        assert row.error["error"] == "RunTimeout"
        thread = await thread_of(resources, run)
        assert thread is not None
        assert thread.status == "error"


async def test_a_tool_that_never_returns_gives_its_slot_back_on_cancel(
    database_url: str, until: Until
) -> None:
    async with working(database_url, slots=1) as (worker, resources):
        for hangs_a_thread in (False, True):
            run = await start(
                resources, "never", input={"messages": [("user", "go")], "thread": hangs_a_thread}
            )
            await until(lambda: worker.running)
            await until(lambda run=run: has_status(resources, run, "running"))
            await cancel.cancel(resources, ANN, thread_id=run.thread_id, run_id=run.run_id)
            after = await start(resources, "abc", input=TRACE)
            assert await until(lambda after=after: has_status(resources, after, "success"), deadline_s=20)


async def test_a_blocked_loop_stops_neither_leases_nor_cancels_nor_other_loops(
    database_url: str, until: Until
) -> None:
    with capture_logs() as logs:
        async with working(database_url, lease_s=1.5, slots=2, isolated_loops=True) as (_, resources):
            blocked = await start(resources, "block", input={"seconds": 3})
            await until(lambda: has_status(resources, blocked, "running"))
            other = await start(resources, "abc", input=TRACE)
            assert await until(lambda: has_status(resources, other, "success"), deadline_s=2.5)
            assert await has_status(resources, blocked, "running")
            row = await until(lambda: has_status(resources, blocked, "success"))
    assert row.attempt == 1
    (report,) = [entry for entry in logs if entry["event"] == "run_loop_blocked"]
    assert (report["run_id"], report["graph_id"]) == (str(blocked.run_id), "block")
    assert "block.py" in report["at"]


async def test_hostages_of_a_loop_that_never_comes_back_go_on_elsewhere(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    with capture_logs() as logs:
        async with working(database_url, slots=2) as (_, resources):
            hostage = await start(resources, "slow", input={"steps": 20, "seconds": 0.2})
            await until(lambda: notes(hostage))
            blocker = await start(resources, "block", input={"seconds": 15})
            await until(lambda: [entry for entry in logs if entry["event"] == "run_loop_blocked"])
            await cancel.cancel(resources, ANN, thread_id=blocker.thread_id, run_id=blocker.run_id)
            row = await until(lambda: has_status(resources, hostage, "success"), deadline_s=30)
    assert (row.attempt, row.crashes) == (2, 0)
    # The step that was under way when it was taken along may have begun twice, no other.
    assert len(set(notes(hostage))) == 20
    assert len(notes(hostage)) <= 21


@pytest.mark.parametrize("exits", ["here", "thread"])
async def test_a_node_that_ends_the_program_ends_its_run_alone(
    database_url: str, until: Until, exits: str
) -> None:
    async with working(database_url) as (_, resources):
        other = await start(resources, "slow", input={"steps": 5, "seconds": 0.2})
        await until(lambda: has_status(resources, other, "running"))
        run = await start(resources, "err", input={"exits": exits})
        row = await until(lambda: has_status(resources, run, "error"))
        assert row.attempt == 1
        assert row.error == {
            "error": "SystemExit",
            "message": "a node asked to exit: SystemExit(3)",
        }
        row = await until(lambda: has_status(resources, other, "success"))
        assert row.attempt == 1


async def test_nodes_that_hang_and_were_cancelled_take_no_threads_from_others(
    database_url: str, until: Until
) -> None:
    async with working(database_url, slots=80) as (worker, resources):
        hanging = [
            await start(resources, "never", input={"messages": [("user", "go")], "thread": True})
            for _ in range(66)
        ]
        await until(lambda: len(worker.running) == 66)
        for run in hanging:
            await until(lambda run=run: has_status(resources, run, "running"))
            await cancel.cancel(resources, ANN, thread_id=run.thread_id, run_id=run.run_id)
        after = await start(resources, "abc", input=TRACE)
        assert await until(lambda: has_status(resources, after, "success"), deadline_s=20)


async def test_a_database_that_only_reads_for_a_while_costs_no_run(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url) as (worker, resources):
        run = await start(resources, "slow", input={"steps": 6, "seconds": 0.2})
        await until(lambda: notes(run))
        with psycopg.connect(database_url, autocommit=True) as connection:
            for mode in ("on", "off"):
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(
                        sql.Identifier(connection.info.dbname), sql.SQL(mode)
                    )
                )
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                if mode == "on":
                    with capture_logs() as logs:
                        await until(lambda: [entry for entry in logs if entry["log_level"] == "warning"])
                connection.execute("SET default_transaction_read_only = off")
        row = await until(lambda: has_status(resources, run, "success"), deadline_s=40)
        await until(lambda: not worker.running)
    assert row.crashes == 0


async def test_slow_queries_of_the_api_take_no_lease(database_url: str, until: Until) -> None:
    async with working(database_url, lease_s=1.5) as (_, resources):
        run = await start(resources, "slow", input={"steps": 1, "seconds": 4})
        await until(lambda: has_status(resources, run, "running"))

        async def hold() -> None:
            async with resources.database.connection() as connection:
                await connection.execute(b"SELECT pg_sleep(3)")

        await asyncio.gather(*(hold() for _ in range(resources.settings.database.pool_max)))
        row = await until(lambda: has_status(resources, run, "success"))
    assert (row.attempt, row.crashes) == (1, 0)


async def test_runs_survive_that_all_connections_are_cut(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url) as (_, resources):
        runs = [await start(resources, "slow", input={"steps": 8, "seconds": 0.2}) for _ in range(3)]
        await until(lambda: all(notes(run) for run in runs))
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        async def all_done() -> bool:
            return all([await has_status(resources, run, "success") for run in runs])

        await until(all_done, deadline_s=40)
        for run in runs:
            row = await current(resources, run)
            assert row is not None
            assert row.crashes == 0


async def test_runs_of_several_loops_end_on_several_threads(database_url: str, until: Until) -> None:
    async with working(database_url, run_loops=3, slots=6) as (_, resources):
        runs = [await start(resources, "slow", input={"steps": 2, "seconds": 0.2}) for _ in range(6)]
        await until(
            lambda: len({t.name for t in threading.enumerate() if t.name.startswith("run-loop-")}) >= 3
        )
        for run in runs:
            await until(lambda run=run: has_status(resources, run, "success"), deadline_s=20)


async def test_a_run_that_is_claimed_while_the_last_loop_is_given_up_goes_back(
    database_url: str, until: Until
) -> None:
    async with working(database_url) as (worker, resources):
        run = await start(resources, "abc", input=TRACE, after_seconds=3600)
        with psycopg.connect(database_url) as locking, psycopg.connect(database_url) as looking:
            locking.execute("LOCK TABLE interlock.runs IN ACCESS EXCLUSIVE MODE")

            def claims() -> bool:
                waiting = looking.execute(
                    "SELECT FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name = 'interlock-leases' AND wait_event_type = 'Lock'"
                ).fetchall()
                looking.rollback()
                return bool(waiting)

            await until(claims)
            # Due, from before the claim began.
            locking.execute("UPDATE interlock.runs SET run_at = now()")
            for loop in worker._loops.usable:
                loop.given_up = True
            locking.commit()
        row = await until(lambda: has_status(resources, run, "success", "error"), deadline_s=20)
    assert (row.status, row.crashes) == ("success", 0)


async def test_usage_is_stored_with_each_heartbeat(database_url: str, until: Until) -> None:
    async with working(database_url, lease_s=0.6) as (_, resources):
        run = await start(resources, "slow", input={"steps": 20, "seconds": 0.1})

        async def spent() -> bool:
            row = await has_status(resources, run, "running")
            return row is not None and row.usage.get("steps", 0) > 1

        await until(spent)
        await cancel.cancel(resources, ANN, thread_id=run.thread_id, run_id=run.run_id)


async def test_a_finished_stateless_run_leaves_no_thread(
    database: Database, database_url: str, until: Until
) -> None:
    async with working(database_url) as (_, resources):
        run = await start(resources, "abc", thread_id=None, input=TRACE)
        await until(lambda: has_status(resources, run, "success"))
        assert await thread_of(resources, run) is None
    assert await database.fetch_all(b"SELECT 1 FROM interlock.threads") == []


@contextlib.contextmanager
def unreachable(database_url: str) -> Iterator[None]:
    """Cut every connection to the database and let nobody in."""
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    open_to_all = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(database_url, dbname="postgres", autocommit=True) as connection:
        connection.execute(open_to_all.format(sql.Identifier(str(name)), sql.SQL("false")))
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            yield
        finally:
            connection.execute(open_to_all.format(sql.Identifier(str(name)), sql.SQL("true")))


async def test_outages_longer_than_the_lease_are_no_crashes_of_a_run(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url, lease_s=1.5) as (_, resources):
        run = await start(resources, "slow", input={"steps": 1, "seconds": 6})
        for attempt in (1, 2, 3):
            await until(lambda attempt=attempt: len(notes(run)) == attempt, deadline_s=20)
            with unreachable(database_url), capture_logs() as logs:
                await until(lambda: [entry for entry in logs if entry["event"] == "run_stopped"])
        row = await until(lambda: has_status(resources, run, "success", "error"), deadline_s=30)
    assert (row.status, row.crashes) == ("success", 0)


async def test_a_worker_that_boots_after_a_short_outage_leaves_the_living_their_runs(
    database_url: str, until: Until, notes: Callable[[Run], list[str]]
) -> None:
    async with working(database_url, lease_s=6) as (_, resources):
        run = await start(resources, "slow", input={"steps": 1, "seconds": 6})
        await until(lambda: notes(run))
        with unreachable(database_url), capture_logs() as logs:
            # By now it waits a while before it tries to listen again.
            await until(lambda: [e for e in logs if e["event"] == "listen_connection_lost"][4:])
        async with working(database_url, lease_s=6, slots=1):
            row = await until(lambda: has_status(resources, run, "success", "error"), deadline_s=30)
    assert (row.status, row.attempt, row.crashes) == ("success", 1, 0)
