"""Admission: the thread rule, the multitask strategies, and what a refusal leaves (nothing)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from interlock.server.domain import default_assistant_id
from interlock.server.errors import BadRequest, Conflicting, Invalid, NotFound
from interlock.server.records import assistants
from interlock.server.resources import Resources
from interlock.server.runs.admission import BUSY, RunRequest, admit, admit_batch

from .engine import ANN, claimed, current, events_of, make_thread, start, thread_of, told


async def rows(resources: Resources) -> tuple[Any, ...]:
    """How many threads, runs and events there are."""
    row = await resources.database.fetch_one(
        b"SELECT (SELECT count(*) FROM interlock.threads) AS threads,"
        b" (SELECT count(*) FROM interlock.runs) AS runs,"
        b" (SELECT coalesce(sum(last_seq), 0) FROM interlock.threads) AS events"
    )
    assert row is not None
    return tuple(row.values())


async def test_a_run_and_its_first_event_are_stored_together(resources: Resources) -> None:
    run = await start(resources)
    events = await events_of(resources, run.thread_id)
    assert [(event.seq, event.kind, event.run_id) for event in events] == [(1, "run.created", run.run_id)]
    assert (run.status, run.first_seq, run.attempt) == ("pending", 1, 0)
    thread = await thread_of(resources, run)
    assert thread is not None
    assert thread.status == "busy"


async def test_the_thread_is_stamped_with_graph_and_assistant_together(resources: Resources) -> None:
    run = await start(resources, "chat")
    await start(resources, "abc", thread_id=run.thread_id)
    thread = await thread_of(resources, run)
    assert thread is not None
    assert thread.metadata == {"graph_id": "abc", "assistant_id": str(default_assistant_id("abc"))}
    assert thread.config == {"configurable": {}}


async def test_enqueue_waits_in_line(resources: Resources) -> None:
    first = await start(resources)
    second = await start(resources, thread_id=first.thread_id)
    assert (second.status, second.first_seq) == ("pending", 2)
    assert (await claimed(resources, first)).run_id == first.run_id


@pytest.mark.parametrize("running", [False, True])
async def test_reject_refuses_a_busy_thread_and_stores_nothing(resources: Resources, running: bool) -> None:
    first = await start(resources)
    if running:
        await claimed(resources, first)
    before = await rows(resources)
    with pytest.raises(Conflicting, match="already running a task"):
        await start(resources, "abc", thread_id=first.thread_id, multitask_strategy="reject")
    assert await rows(resources) == before
    thread = await thread_of(resources, first)
    assert thread is not None
    assert thread.metadata["graph_id"] == "chat"


async def test_reject_lets_a_run_onto_an_idle_thread(resources: Resources) -> None:
    assert (await start(resources, multitask_strategy="reject")).status == "pending"


async def test_interrupt_ends_all_inflight_runs_before_it_returns(resources: Resources) -> None:
    running = await claimed(resources, await start(resources))
    waiting = await start(resources, thread_id=running.thread_id)
    new = await start(resources, thread_id=running.thread_id, multitask_strategy="interrupt")
    for old in (running, waiting):
        row = await current(resources, old)
        assert row is not None
        assert row.status == "interrupted"
        assert row.ended_at is not None
    assert told(await events_of(resources, new.thread_id)) == [
        ("run.created", None),
        ("run.created", None),
        ("run.ended", "interrupted"),
        ("run.ended", "interrupted"),
        ("run.created", None),
    ]
    taken = await claimed(resources, new)
    assert running.fence is not None
    assert taken.fence is not None
    assert taken.fence >= running.fence + 2


async def test_rollback_removes_all_inflight_runs_and_their_events(resources: Resources) -> None:
    running = await claimed(resources, await start(resources))
    waiting = await start(resources, thread_id=running.thread_id)
    new = await start(resources, thread_id=running.thread_id, multitask_strategy="rollback")
    assert await current(resources, running) is None
    assert await current(resources, waiting) is None
    events = await events_of(resources, new.thread_id)
    assert {event.run_id for event in events} == {None, new.run_id}
    assert told(events) == [("run.ended", "interrupted"), ("run.ended", "interrupted"), ("run.created", None)]
    assert (await claimed(resources, new)).run_id == new.run_id


async def test_a_graph_name_and_its_default_assistant_are_the_same(resources: Resources) -> None:
    by_name = await start(resources, "chat")
    by_id = await start(resources, str(default_assistant_id("chat")))
    assert by_name.assistant_id == by_id.assistant_id == default_assistant_id("chat")
    assert (by_name.graph_id, by_id.graph_id) == ("chat", "chat")


async def test_an_unknown_assistant_is_refused_with_what_is_known(resources: Resources) -> None:
    thread_id = await make_thread(resources)
    before = await rows(resources)
    with pytest.raises(Invalid, match=r"Invalid assistant: 'nope'. Must be either:"):
        await start(resources, "nope", thread_id=thread_id)
    with pytest.raises(NotFound, match="Thread or assistant not found"):
        await start(resources, str(uuid4()), thread_id=thread_id)
    assert await rows(resources) == before


async def test_a_missing_thread_is_refused_unless_it_shall_be_created(resources: Resources) -> None:
    thread_id = uuid4()
    with pytest.raises(NotFound, match="Thread or assistant not found"):
        await start(resources, thread_id=thread_id)
    assert await rows(resources) == (0, 0, 0)
    run = await start(resources, thread_id=thread_id, if_not_exists="create", metadata={"owner": "ann"})
    thread = await thread_of(resources, run)
    assert thread is not None
    assert (thread.thread_id, thread.metadata["owner"]) == (thread_id, "ann")


async def test_another_tenants_thread_and_assistant_do_not_exist(resources: Resources) -> None:
    run = await start(resources)
    bob = replace(ANN, tenant="other", subject="bob")
    with pytest.raises(NotFound):
        await start(resources, principal=bob, thread_id=run.thread_id)
    async with resources.database.connection() as connection:
        own = await assistants.insert(
            connection,
            tenant_id="acme",
            assistant_id=uuid4(),
            content=assistants.Content(graph_id="chat"),
        )
    assert own is not None
    with pytest.raises(NotFound):
        await start(resources, str(own.assistant_id), principal=bob)


async def test_the_request_is_merged_over_its_assistant(resources: Resources) -> None:
    async with resources.database.connection() as connection:
        saved = await assistants.insert(
            connection,
            tenant_id="acme",
            assistant_id=uuid4(),
            content=assistants.Content(
                graph_id="chat",
                config={"recursion_limit": 7, "tags": ["a"], "configurable": {"model": "m1", "temper": 1}},
                context={"model": "m1", "temper": 1},
                metadata={"team": "red", "level": 1},
            ),
        )
    assert saved is not None
    run = await start(
        resources,
        str(saved.assistant_id),
        config={"configurable": {"model": "m2", "thread_id": "forged"}, "metadata": {"level": 2}},
        metadata={"level": 3, "run": True},
    )
    assert run.metadata == {"team": "red", "level": 3, "run": True}
    config = run.kwargs["config"]
    assert config["recursion_limit"] == 7
    assert config["tags"] == ["a"]
    assert config["configurable"] == {"model": "m2", "temper": 1}
    assert config["metadata"] == run.metadata
    assert run.kwargs["context"] == {"model": "m2", "temper": 1}


async def test_context_is_copied_into_configurable(resources: Resources) -> None:
    run = await start(resources, context={"model": "m3"})
    assert run.kwargs["context"] == {"model": "m3"}
    assert run.kwargs["config"]["configurable"] == {"model": "m3"}


async def test_context_and_configurable_together_are_refused(resources: Resources) -> None:
    with pytest.raises(BadRequest, match="configurable"):
        await start(resources, context={"a": 1}, config={"configurable": {"a": 1}})
    place = {"configurable": {"checkpoint_id": "c1", "thread_id": "t1", "x-request-id": "r"}}
    assert (await start(resources, context={"a": 1}, config=place)).status == "pending"


async def test_a_fork_point_reaches_the_config(resources: Resources) -> None:
    run = await start(
        resources,
        input=None,
        checkpoint={
            "thread_id": "ignored",
            "checkpoint_id": "c1",
            "checkpoint_ns": "",
            "checkpoint_map": None,
        },
    )
    assert run.kwargs["input"] is None
    assert run.kwargs["config"]["configurable"] == {"checkpoint_id": "c1", "checkpoint_ns": ""}
    run = await start(resources, checkpoint_id="c2")
    assert run.kwargs["config"]["configurable"] == {"checkpoint_id": "c2"}


async def test_kwargs_have_the_shape_of_the_wire(resources: Resources) -> None:
    run = await start(
        resources,
        stream_mode=["updates", "messages-tuple"],
        stream_subgraphs=True,
        stream_resumable=True,
        checkpoint_during=False,
        interrupt_before=["B"],
        command={"resume": None, "goto": "B"},
    )
    assert set(run.kwargs) == {
        *("input", "command", "config", "context", "stream_mode", "interrupt_before", "interrupt_after"),
        *(
            "webhook",
            "feedback_keys",
            "temporary",
            "subgraphs",
            "resumable",
            "checkpoint_during",
            "durability",
        ),
    }
    assert run.kwargs["command"] == {"goto": "B"}
    assert (run.kwargs["durability"], run.kwargs["subgraphs"], run.kwargs["resumable"]) == (
        "exit",
        True,
        True,
    )
    assert run.kwargs["interrupt_before"] == ["B"]


async def test_a_stateless_run_has_a_thread_of_its_own(resources: Resources) -> None:
    gone = await start(resources, thread_id=None)
    kept = await start(resources, thread_id=None, on_completion="keep")
    assert (gone.temporary, kept.temporary) == (True, False)
    assert gone.thread_id != kept.thread_id
    with pytest.raises(BadRequest, match=r"You must provide a thread_id when resuming\."):
        await start(resources, thread_id=None, command={"resume": "yes"})


async def test_a_budget_can_only_be_tightened(resources: Resources) -> None:
    async with resources.database.connection() as connection:
        saved = await assistants.insert(
            connection,
            tenant_id="acme",
            assistant_id=uuid4(),
            content=assistants.Content(graph_id="chat", config={"budget": {"steps": 5, "tokens": 100}}),
        )
    assert saved is not None
    run = await start(resources, str(saved.assistant_id), config={"budget": {"steps": 50, "tool_calls": 2}})
    assert {k: v for k, v in run.budget.items() if v is not None and k != "on_limit"} == {
        "steps": 5,
        "tokens": 100,
        "tool_calls": 2,
    }
    with pytest.raises(Invalid, match="budget"):
        await start(resources, config={"budget": {"stepz": 1}})


async def test_metadata_that_cannot_be_stored_is_refused(resources: Resources) -> None:
    with pytest.raises(Invalid, match="metadata"):
        await start(resources, metadata={"a": "nul\x00"})
    run = await start(resources, input={"text": "nul\x00"})
    assert run.kwargs["input"] == {"text": "nul\x00"}


async def test_a_batch_is_stored_whole_and_in_order(resources: Resources) -> None:
    requests = [RunRequest(assistant_id="chat", input={"n": n}) for n in range(3)]
    runs = await admit_batch(resources, ANN, requests)
    assert [run.kwargs["input"]["n"] for run in runs] == [0, 1, 2]
    assert len({run.thread_id for run in runs}) == 3


async def test_one_bad_entry_refuses_the_whole_batch(resources: Resources) -> None:
    requests = [RunRequest(assistant_id=name) for name in ("chat", "nope", "chat")]
    with pytest.raises(Invalid):
        await admit_batch(resources, ANN, requests)
    assert await rows(resources) == (0, 0, 0)


class TestIdempotency:
    async def test_the_same_key_and_request_is_the_same_run(self, resources: Resources) -> None:
        thread_id = await make_thread(resources)
        first = await start(resources, thread_id=thread_id, idempotency_key="k")
        again = await start(resources, thread_id=thread_id, idempotency_key="k")
        assert again.run_id == first.run_id
        assert await rows(resources) == (1, 1, 1)

    async def test_the_same_key_with_another_request_is_refused(self, resources: Resources) -> None:
        thread_id = await make_thread(resources)
        await start(resources, thread_id=thread_id, idempotency_key="k")
        with pytest.raises(Invalid, match="Idempotency-Key 'k'"):
            await start(resources, thread_id=thread_id, idempotency_key="k", input={"other": 1})

    async def test_a_retry_is_not_refused_by_its_own_first_try(self, resources: Resources) -> None:
        thread_id = await make_thread(resources)
        for strategy in ("reject", "interrupt", "rollback"):
            fields: dict[str, Any] = {"multitask_strategy": strategy, "idempotency_key": strategy}
            fields["thread_id"] = thread_id
            if strategy == "reject":
                first = await start(resources, **fields)
                assert (await start(resources, **fields)).run_id == first.run_id
                continue
            first = await start(resources, **fields)
            again = await start(resources, **fields)
            assert (again.run_id, again.status) == (first.run_id, "pending")

    async def test_ten_equal_creates_at_once_make_one_run(self, resources: Resources) -> None:
        for _ in range(5):
            thread_id = uuid4()
            runs = await asyncio.gather(
                *(
                    start(
                        resources,
                        thread_id=thread_id,
                        if_not_exists="create",
                        multitask_strategy="reject",
                        idempotency_key=str(thread_id),
                    )
                    for _ in range(10)
                )
            )
            assert len({run.run_id for run in runs}) == 1

    async def test_ten_equal_stateless_creates_at_once_make_one_run_and_one_thread(
        self, resources: Resources
    ) -> None:
        runs = await asyncio.gather(
            *(start(resources, thread_id=None, idempotency_key="k") for _ in range(10))
        )
        assert len({run.run_id for run in runs}) == 1
        assert await rows(resources) == (1, 1, 1)


async def test_ten_creates_at_once_on_a_thread_that_does_not_exist_yet_all_succeed(
    resources: Resources,
) -> None:
    thread_id = uuid4()
    runs = await asyncio.gather(
        *(start(resources, thread_id=thread_id, if_not_exists="create") for _ in range(10))
    )
    assert len({run.run_id for run in runs}) == 10
    assert sorted(run.first_seq for run in runs) == list(range(1, 11))
    assert await rows(resources) == (1, 10, 10)


async def test_ten_rejecting_creates_at_once_let_exactly_one_in(resources: Resources) -> None:
    thread_id = await make_thread(resources)
    outcomes = await asyncio.gather(
        *(start(resources, thread_id=thread_id, multitask_strategy="reject") for _ in range(10)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 9
    assert {str(error) for error in refused} == {BUSY}
    assert await rows(resources) == (1, 1, 1)


async def test_ten_interrupting_creates_at_once_leave_one_run_in_flight(resources: Resources) -> None:
    thread_id = await make_thread(resources)
    await asyncio.gather(
        *(start(resources, thread_id=thread_id, multitask_strategy="interrupt") for _ in range(10))
    )
    statuses = await resources.database.fetch_all(
        b"SELECT status, count(*) AS n FROM interlock.runs GROUP BY status ORDER BY status"
    )
    assert statuses == [{"status": "interrupted", "n": 9}, {"status": "pending", "n": 1}]


async def test_a_delayed_run_is_pending_until_it_is_due(resources: Resources) -> None:
    run = await start(resources, after_seconds=60)
    assert (run.run_at - run.created_at).total_seconds() == 60
    with pytest.raises(Invalid):
        await admit(resources, ANN, RunRequest(assistant_id="chat", after_seconds=-1))
    assert isinstance(run.thread_id, UUID)
