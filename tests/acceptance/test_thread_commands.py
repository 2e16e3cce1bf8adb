"""Commands of the thread protocol, and what follows from them on the stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from .protocol import ends, is_end, read, send, start

Until = Callable[..., Awaitable[Any]]
HI = {"messages": [{"role": "user", "content": "hi"}]}


def asked(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["params"]["data"] for event in events if event["method"] == "input.requested"]


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Run and status of each lifecycle event of the root."""
    found = [e for e in events if e["method"] == "lifecycle" and not e["params"]["namespace"]]
    return [(e["event_id"].split(":")[1], e["params"]["data"]["event"]) for e in found]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"method":"run.start"}', b'{"id":"1","method":"a"}', b'{"id":-1,"method":"a"}'],
)
async def test_a_broken_envelope_is_a_bad_request(http: httpx.AsyncClient, body: bytes) -> None:
    refused = await http.post(f"/threads/{uuid4()}/commands", content=body)
    assert refused.status_code == 400
    assert isinstance(refused.json()["detail"], str)


async def test_what_cannot_be_done_is_told_by_its_code(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    for method, params, code in (
        ("no.such", {}, "unknown_command"),
        ("run.start", {}, "invalid_argument"),
        ("run.start", {"assistant_id": "nobody"}, "unknown_error"),
        ("run.start", {"assistant_id": "chat", "multitaskStrategy": "hop"}, "invalid_argument"),
        ("input.respond", {"responses": []}, "invalid_argument"),
        ("input.respond", {"namespace": [], "interrupt_id": "a" * 32, "response": 1}, "no_such_interrupt"),
        ("agent.getTree", {}, "no_such_run"),
        ("state.get", {"namespace": []}, "unknown_error"),
        ("subscription.subscribe", {"channels": ["values"]}, "not_supported"),
    ):
        assert (await send(http, thread, method, **params))["error"] == code, (method, params)
    assert (await http.get(f"/threads/{thread}")).status_code == 404, "nothing was made"
    await start(http, thread, "sub", {**HI, "ask": False})
    await read(http, thread, is_end)
    for method, params, code in (
        ("state.fork", {"checkpoint_id": "nowhere"}, "no_such_checkpoint"),
        ("state.get", {"namespace": ["nobody"]}, "no_such_namespace"),
        (
            "input.inject",
            {"namespace": ["child"], "message": {"role": "user", "content": "x"}},
            "not_supported",
        ),
        ("agent.getTree", {"run_id": str(uuid4())}, "no_such_run"),
    ):
        assert (await send(http, thread, method, **params))["error"] == code, (method, params)
    for channels in ([], ["nonsense"], None):
        refused = await http.post(f"/threads/{thread}/stream/events", json={"channels": channels})
        assert refused.status_code == 400
    for path in ("commands", "stream/events"):
        refused = await http.post(
            f"/threads/no-uuid/{path}", json={"id": 1, "method": "x", "channels": ["values"]}
        )
        assert refused.status_code == 422


async def test_a_question_is_answered_once(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await start(http, thread, "hitl", {})
    [question] = asked(await read(http, thread, is_end))
    answer = {"namespace": [], "interrupt_id": question["interrupt_id"], "response": "yes"}
    assert (await send(http, thread, "input.respond", **answer))["type"] == "success"
    # Also while the answer is on its way.
    assert (await send(http, thread, "input.respond", **answer))["error"] == "no_such_interrupt"
    events = await read(http, thread, ends(2))
    assert [status for _, status in told(events)] == ["running", "interrupted", "running", "completed"]
    state = await send(http, thread, "state.get", namespace=[], keys=["answer", "after"])
    assert state["result"]["values"] == {"answer": "yes", "after": 1}
    assert (await send(http, thread, "input.respond", **answer))["error"] == "no_such_interrupt"


async def test_several_questions_are_answered_together_or_one_by_one(http: httpx.AsyncClient) -> None:
    for together in (True, False):
        thread = str(uuid4())
        await start(http, thread, "par", {})
        questions = asked(await read(http, thread, is_end))
        answers = [
            {"namespace": [], "interrupt_id": one["interrupt_id"], "response": one["payload"]["side"][0]}
            for one in questions
        ]
        if together:
            assert (await send(http, thread, "input.respond", responses=answers))["type"] == "success"
            await read(http, thread, ends(2))
        else:
            for number, answer in enumerate(answers, 2):
                assert (await send(http, thread, "input.respond", **answer))["type"] == "success"
                events = await read(http, thread, ends(number))
            assert [s for _, s in told(events)][1::2] == ["interrupted", "interrupted", "completed"]
        state = await send(http, thread, "state.get", namespace=[])
        assert state["result"]["values"]["joined"] == "l/r"


async def test_whoever_answers_as_soon_as_the_question_is_shown_is_in_time(http: httpx.AsyncClient) -> None:
    """A question is shown when the thread waits, not while the run that asks it is still ending."""
    for number in range(10):
        thread = str(uuid4())
        await start(http, thread, "hitl", {})
        events = await read(http, thread, lambda event: event["method"] == "input.requested")
        [question] = asked(events)
        assert (await http.get(f"/threads/{thread}")).json()["status"] == "interrupted", number
        answer = {"namespace": [], "interrupt_id": question["interrupt_id"], "response": "yes"}
        assert (await send(http, thread, "input.respond", **answer))["type"] == "success", number
        await read(http, thread, ends(2))


async def test_a_start_with_what_is_no_input_of_the_graph_answers_the_question(
    http: httpx.AsyncClient,
) -> None:
    """So `RemoteGraph` sends its resumes; what names a field of the input is a new one as ever."""
    for given in ("yes", {"decisions": []}, ["a", 1], False, "by id"):
        thread = str(uuid4())
        await start(http, thread, "hitl", {})
        await read(http, thread, is_end)
        await start(http, thread, "hitl", {"answer": "a new input"})
        events = await read(http, thread, ends(2))
        assert [status for _, status in told(events)][1::2] == ["interrupted", "interrupted"]
        question = asked(events)[-1]["interrupt_id"]
        await start(http, thread, "hitl", {question: given} if given == "by id" else given)
        events = await read(http, thread, ends(3))
        assert told(events)[-1][1] == "completed", given
        state = await send(http, thread, "state.get", namespace=[], keys=["answer"])
        assert state["result"]["values"] == {"answer": given}


async def test_a_start_with_one_answer_to_two_questions_is_refused(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await start(http, thread, "par", {})
    await read(http, thread, is_end)
    refused = await send(http, thread, "run.start", assistant_id="par", input="yes")
    assert refused["error"] == "invalid_argument"
    assert "by their ids" in refused["message"]
    assert (await http.get(f"/threads/{thread}")).json()["status"] == "interrupted"


async def test_after_a_stop_the_next_start_is_a_new_question(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    thread = str(uuid4())
    run = await start(http, thread, "slow", {"steps": 50, "seconds": 0.2})
    await read(http, thread, lambda event: event["method"] == "custom")
    await client.runs.cancel(thread, run, wait=True)
    second = await start(http, thread, "chat", HI)
    events = await read(http, thread, ends(2))
    assert told(events) == [
        (run, "running"),
        (run, "interrupted"),
        (second, "running"),
        (second, "completed"),
    ]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_a_run_that_waits_its_turn_and_is_stopped_is_told_from_beginning_to_end(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    thread = str(uuid4())
    first = await start(http, thread, "slow", {"steps": 50, "seconds": 0.2})
    waits = await start(http, thread, "chat", HI)
    assert (await client.runs.get(thread, waits))["status"] == "pending"
    await client.runs.cancel(thread, waits)
    third = await start(http, thread, "chat", HI, multitask_strategy="interrupt")
    events = await read(http, thread, ends(3))
    assert told(events)[:3] == [(first, "running"), (waits, "running"), (waits, "interrupted")]
    assert told(events)[3:] == [(first, "interrupted"), (third, "running"), (third, "completed")]


async def test_numbers_stand_when_earlier_events_are_gone(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    thread = str(uuid4())
    first = await start(http, thread, "chat", HI)
    await read(http, thread, is_end)
    await start(http, thread, "tools", HI)
    whole = await read(http, thread, ends(2))
    await client.runs.delete(thread, first)
    kept = await read(http, thread, is_end)
    assert kept == whole[-len(kept) :]
    assert await read(http, thread, is_end, since=3) == kept


async def test_a_fork_starts_from_an_earlier_checkpoint(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await start(http, thread, "abc", {})
    events = await read(http, thread, is_end)
    after_a = next(e for e in events if e["method"] == "values" and e["params"]["data"]["trace"] == ["A"])
    place = events[events.index(after_a) - 1]["params"]["data"]["id"]
    listed = await send(http, thread, "state.listCheckpoints", limit=2)
    assert [one["node_name"] for one in listed["result"]["checkpoints"]] == ["C", "B"]
    forked = await send(http, thread, "state.fork", checkpoint_id=place)
    assert forked["result"]["thread_id"] == thread
    events = await read(http, thread, ends(2))
    values = [e["params"]["data"]["trace"] for e in events if e["method"] == "values"]
    assert values[-2:] == [["A", "B"], ["A", "B", "C"]]


async def test_a_message_that_is_put_in_is_answered(http: httpx.AsyncClient) -> None:
    thread = str(uuid4())
    await start(http, thread, "chat", HI)
    message = {"role": "user", "content": "and now?"}
    assert (await send(http, thread, "input.inject", namespace=[], message=message))["result"] == {}
    await read(http, thread, ends(2))
    values = (await send(http, thread, "state.get", namespace=[]))["result"]["values"]
    assert [m["content"] for m in values["messages"]][2] == "and now?"


async def test_a_strict_resume_of_what_does_not_wait_fails_and_changes_nothing(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    assert (await http.get("/info")).json()["flags"]["strict_resume"] is True
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "hitl", input={})
    before = await client.threads.get(thread)
    run = await client.runs.create(thread, "hitl", command={"resume": {"f" * 32: "yes"}}, strict_resume=True)
    told = await client.runs.join(thread, run["run_id"])
    assert "UnknownInterruptError" in str(told)
    after = await client.threads.get(thread)
    assert {k: after[k] for k in ("status", "values", "interrupts")} == {
        k: before[k] for k in ("status", "values", "interrupts")
    }


async def test_a_deleted_thread_ends_its_stream(http: httpx.AsyncClient, client: LangGraphClient) -> None:
    thread = str(uuid4())
    await start(http, thread, "chat", HI)
    deleted = False
    async with http.stream(
        "POST", f"/threads/{thread}/stream/events", json={"channels": ["lifecycle"]}
    ) as stream:
        async for line in stream.aiter_lines():
            if "completed" in line and not deleted:
                await client.threads.delete(thread)
                deleted = True
    assert deleted


async def test_a_classic_run_is_seen_with_the_modes_it_asked_for(
    http: httpx.AsyncClient, client: LangGraphClient
) -> None:
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "slow", input={"steps": 1})
    run = await client.runs.create(thread, "slow", input={"steps": 2}, stream_mode=["custom"])
    events = await read(http, thread, ends(2))
    first = [
        e["method"]
        for e in events[: [e["event_id"] for e in events].index(f"synth:{run['run_id']}:lc||running")]
    ]
    assert set(first) == {"lifecycle", "values"}
    assert {e["method"] for e in events[len(first) :]} == {"lifecycle", "custom"}
