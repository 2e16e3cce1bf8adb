"""The queue: order, leases, fences, one running run per thread."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from interlock.checkpoints.database import Database
from interlock.checkpoints.errors import Conflict
from interlock.server.records import queue, tidying
from interlock.server.records.queue import Lease

from .queue_rows import claim, enqueue, finish


async def test_runs_of_one_thread_are_served_one_at_a_time_and_in_order(database: Database) -> None:
    first = await enqueue(database)
    second = await enqueue(database, first.thread_id)
    third = await enqueue(database, first.thread_id)
    served = []
    for _ in range(3):
        (run,) = await claim(database)
        served.append(run.run_id)
        assert await claim(database) == []
        assert await finish(database, run) is not None
    assert served == [first.run_id, second.run_id, third.run_id]


async def test_a_claim_gives_a_fresh_fence_an_attempt_and_a_lease(database: Database) -> None:
    queued = await enqueue(database)
    (run,) = await claim(database, worker_id="w7")
    assert (run.run_id, run.status, run.attempt, run.worker_id) == (queued.run_id, "running", 1, "w7")
    assert run.fence == 1
    assert run.lease_until is not None
    assert run.started_at is not None


async def test_lower_priority_numbers_are_served_first_and_then_the_older(database: Database) -> None:
    late = await enqueue(database, priority=1)
    normal = await enqueue(database)
    urgent = await enqueue(database, priority=-5)
    assert [run.run_id for run in await claim(database)] == [urgent.run_id, normal.run_id, late.run_id]


async def test_a_tenant_with_a_long_queue_does_not_keep_others_waiting(database: Database) -> None:
    for _ in range(20):
        await enqueue(database, tenant="big")
    await enqueue(database, tenant="small")
    served = Counter(run.tenant_id for run in await claim(database, 4))
    assert served == {"big": 3, "small": 1}


async def test_the_tenant_with_fewer_running_runs_comes_first(database: Database) -> None:
    for _ in range(4):
        await enqueue(database, tenant="big")
    assert len(await claim(database, 2)) == 2
    await enqueue(database, tenant="small")
    await enqueue(database, tenant="small")
    assert Counter(run.tenant_id for run in await claim(database, 2)) == {"small": 2}


async def test_exactly_one_run_of_a_thread_runs_under_ten_claimers(database_url: str) -> None:
    async with Database(database_url, max_size=20) as database:
        first = await enqueue(database)
        for _ in range(19):
            await enqueue(database, first.thread_id)
        others = [(await enqueue(database)).run_id for _ in range(10)]
        running: set[object] = set()
        served: list[object] = []

        async def worker(name: str) -> None:
            while len(served) < 30:
                try:
                    claimed = await claim(database, 3, worker_id=name)
                except Conflict:
                    continue
                for run in claimed:
                    assert run.thread_id not in running, "two runs of one thread at once"
                    running.add(run.thread_id)
                await asyncio.sleep(0)
                for run in claimed:
                    running.discard(run.thread_id)
                    assert await finish(database, run) is not None
                    served.append(run.run_id)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(worker(f"w{number}"))
        assert len(set(served)) == 30
        line = [run_id for run_id in served if run_id not in others]
        assert len(line) == 20


async def test_a_delayed_run_waits_and_does_not_hold_up_its_thread(database: Database) -> None:
    delayed = await enqueue(database, after_seconds=30)
    prompt = await enqueue(database, delayed.thread_id)
    (run,) = await claim(database)
    assert run.run_id == prompt.run_id
    await finish(database, run)
    assert await claim(database) == []
    async with database.connection() as connection:
        due = await queue.next_due(connection)
    assert due is not None
    assert 25 < due <= 30


async def test_a_run_behind_a_delayed_one_is_served_when_that_one_has_run(database: Database) -> None:
    delayed = await enqueue(database, after_seconds=0.05)
    behind = await enqueue(database, delayed.thread_id, after_seconds=0.06)
    served = []
    async with asyncio.timeout(5):
        while len(served) < 2:
            for run in await claim(database):
                served.append(run.run_id)
                await finish(database, run)
    assert served == [delayed.run_id, behind.run_id]


async def test_a_heartbeat_tells_two_attempts_of_a_run_apart(database: Database) -> None:
    await enqueue(database)
    (first,) = await claim(database)
    async with database.transaction() as connection:
        await queue.lock_thread(connection, tenant_id="acme", thread_id=first.thread_id)
        await queue.take_back(connection, first, max_attempts=3, error=b"{}", if_expired=False)
    (second,) = await claim(database)
    assert second.run_id == first.run_id
    async with database.connection() as connection:
        states = await queue.renew(connection, [Lease(first), Lease(second)], lease_s=60)
    assert {state.fence: (state.renewed, state.held) for state in states} == {
        first.fence: (False, False),
        second.fence: (True, True),
    }


async def test_a_heartbeat_renews_what_is_held_and_names_what_is_not(database: Database) -> None:
    await enqueue(database)
    await enqueue(database)
    await enqueue(database)
    kept, taken, ended = await claim(database)
    async with database.transaction() as connection:
        await queue.lock_thread(connection, tenant_id="acme", thread_id=taken.thread_id)
        await queue.take_back(connection, taken, max_attempts=3, error=b"{}", if_expired=False)
    await finish(database, ended)
    async with database.connection() as connection:
        leases = [Lease(kept, {"steps": 4}), Lease(taken), Lease(ended)]
        states = await queue.renew(connection, leases, lease_s=60)
    by_id = {state.run_id: state for state in states}
    assert (by_id[kept.run_id].renewed, by_id[kept.run_id].held) == (True, True)
    assert (by_id[taken.run_id].held, by_id[taken.run_id].status) == (False, "pending")
    assert (by_id[ended.run_id].held, by_id[ended.run_id].status) == (False, "success")
    async with database.connection() as connection:
        renewed = await queue.get_run(connection, tenant_id="acme", run_id=kept.run_id)
    assert renewed is not None
    assert renewed.usage == {"steps": 4}
    assert kept.lease_until is not None
    assert renewed.lease_until is not None
    assert (renewed.lease_until - kept.lease_until).total_seconds() > 40


async def test_a_heartbeat_steps_over_a_row_that_somebody_is_changing(database: Database) -> None:
    await enqueue(database)
    (run,) = await claim(database)
    async with database.transaction() as changing:
        await changing.execute(b"SELECT FROM interlock.runs FOR UPDATE")
        async with asyncio.timeout(2), database.connection() as connection:
            (state,) = await queue.renew(connection, [Lease(run)], lease_s=10)
    assert (state.renewed, state.held) == (False, True)


async def test_a_run_that_is_handed_back_stays_first_and_shuts_the_old_worker_out(database: Database) -> None:
    first = await enqueue(database)
    await enqueue(database, first.thread_id)
    (run,) = await claim(database)
    async with database.connection() as connection:
        back = await queue.hand_back(connection, run, usage={"steps": 2})
    assert back is not None
    assert (back.status, back.crashes, back.worker_id) == ("pending", 0, None)
    assert await finish(database, run) is None
    (again,) = await claim(database)
    assert (again.run_id, again.attempt, again.usage) == (first.run_id, 2, {"steps": 2})
    assert again.fence is not None
    assert run.fence is not None
    assert again.fence > run.fence


async def test_only_an_expired_lease_is_taken_back(database: Database) -> None:
    await enqueue(database)
    await enqueue(database)
    (alive,) = await claim(database, 1)
    (dead,) = await claim(database, 1, lease_s=-1)
    async with database.connection() as connection:
        assert [run.run_id for run in await queue.expired(connection)] == [dead.run_id]
        assert await queue.take_back(connection, alive, max_attempts=3, error=b"{}") is None
        back = await queue.take_back(connection, dead, max_attempts=3, error=b"{}")
    assert back is not None
    assert (back.status, back.crashes) == ("pending", 1)


async def test_the_third_crash_quarantines_a_run(database: Database) -> None:
    await enqueue(database)
    states = []
    for _ in range(3):
        (run,) = await claim(database)
        async with database.connection() as connection:
            back = await queue.take_back(
                connection,
                run,
                max_attempts=3,
                error=b'{"error":"WorkerCrashed","message":"m"}',
                if_expired=False,
            )
        assert back is not None
        states.append((back.status, back.crashes, back.attempt))
    assert states == [("pending", 1, 1), ("pending", 2, 2), ("error", 3, 3)]
    assert back.error == {"error": "WorkerCrashed", "message": "m"}
    assert await claim(database) == []


async def test_crashes_count_anew_when_the_run_has_got_further_in_between(database: Database) -> None:
    await enqueue(database)
    counts = []
    for saved in (0, 0, 4, 4, 5, 5, 5):
        (run,) = await claim(database)
        async with database.connection() as connection:
            back = await queue.take_back(
                connection, run, max_attempts=3, error=b"{}", saved=saved, if_expired=False
            )
        assert back is not None
        counts.append((back.status, back.crashes))
    assert [crashes for _, crashes in counts] == [1, 2, 1, 2, 1, 2, 3]
    assert [status for status, _ in counts] == ["pending"] * 6 + ["error"]


async def test_an_idempotency_key_is_unique_within_its_tenant(database: Database) -> None:
    await enqueue(database, idempotency_key="k")
    await enqueue(database, tenant="other", idempotency_key="k")
    with pytest.raises(Conflict) as caught:
        await enqueue(database, idempotency_key="k")
    assert caught.value.constraint == "runs_idempotency_idx"


async def test_runs_of_a_worker_that_is_not_connected_are_found_at_once(database: Database) -> None:
    await enqueue(database)
    await enqueue(database)
    (present,) = await claim(database, 1, worker_id="present")
    (absent,) = await claim(database, 1, worker_id="absent")
    async with database.connection() as connection:
        await connection.execute(b"SELECT pg_advisory_lock(%s, hashtext('present'))", (queue.PRESENCE,))
        found = await queue.orphaned(connection)
        assert [run.run_id for run, _ in found] == [absent.run_id]
        assert 9 < found[0][1] <= 10
        await connection.execute(b"SELECT pg_advisory_unlock_all()")
        found = await queue.orphaned(connection)
    assert {run.run_id for run, _ in found} == {absent.run_id, present.run_id}


async def test_an_orphan_is_taken_back_unless_it_was_renewed_since_it_was_seen(database: Database) -> None:
    await enqueue(database)
    (run,) = await claim(database)
    async with database.connection() as connection:
        ((seen, _),) = await queue.orphaned(connection)
        await queue.renew(connection, [queue.Lease(run)], lease_s=10)
        assert await queue.take_back(connection, seen, max_attempts=3, error=b"{}", orphaned=True) is None
        ((seen, _),) = await queue.orphaned(connection)
        back = await queue.take_back(connection, seen, max_attempts=3, error=b"{}", orphaned=True)
    assert back is not None
    assert (back.status, back.crashes) == ("pending", 1)


async def test_ended_stateless_runs_are_forgotten_after_their_grace(database: Database) -> None:
    await enqueue(database, temporary=True)
    (run,) = await claim(database)
    await finish(database, run)
    async with database.connection() as connection:
        assert await tidying.sweep_temporary_runs(connection, grace_s=-1) == []
        await queue.delete_temporary_thread(connection, tenant_id="acme", thread_id=run.thread_id)
        assert await tidying.sweep_temporary_runs(connection, grace_s=60) == []
        assert await tidying.sweep_temporary_runs(connection, grace_s=-1) == [("acme", run.thread_id)]
        assert await queue.get_run(connection, tenant_id="acme", run_id=run.run_id) is None


async def test_hot_tables_are_analysed_when_they_hold_rows_without_statistics(database: Database) -> None:
    async with database.connection() as connection:
        assert not await tidying.analyse_if_never(connection)
    await enqueue(database)
    async with database.connection() as connection:
        assert await tidying.analyse_if_never(connection)
        assert not await tidying.analyse_if_never(connection)
