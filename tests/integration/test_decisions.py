"""Who may answer what waits, and in whose name the run then goes on: over HTTP, with keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from .conftest import ServeApi, api_key

REFUND = {
    "name": "order_refund",
    "args": {"order_id": "A-1001", "amount_cents": 100, "reason": "late parcel"},
}
NOTE = {"name": "note_write", "args": {"title": "t", "text": "x"}}
APPROVE = {"decisions": [{"type": "approve"}]}
KEYS = [
    {**api_key("adm", "default", "admin"), "subject": "adm"},
    {**api_key("use", "default", "user"), "subject": "use"},
    {**api_key("rev", "default", "reviewer"), "subject": "rev"},
    {**api_key("clerk", "default", "user"), "subject": "clerk", "permissions": ["orders:refund"]},
    {**api_key("other", "globex", "admin"), "subject": "other"},
]


class Desk:
    """One thread, which several people act on."""

    def __init__(self, http: httpx.AsyncClient, thread_id: str) -> None:
        self.http = http
        self.thread_id = thread_id

    async def post(self, key: str, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.http.post(
            f"/threads/{self.thread_id}{path}", json=body, headers={"x-api-key": key, **headers}
        )

    async def run(self, key: str, *, graph: str = "desk", headers: Any = None, **body: Any) -> httpx.Response:
        return await self.post(key, "/runs/wait", {"assistant_id": graph, **body}, **(headers or {}))

    async def resume(self, key: str, answer: Any, **body: Any) -> httpx.Response:
        return await self.run(key, command={"resume": answer}, **body)

    async def get(self, path: str = "", key: str = "adm") -> Any:
        answer = await self.http.get(f"/threads/{self.thread_id}{path}", headers={"x-api-key": key})
        return answer.json()

    async def waiting(self) -> list[dict[str, Any]]:
        """Interrupts of the thread."""
        return [one for task in (await self.get())["interrupts"].values() for one in task]

    async def reviews(self) -> list[Any]:
        answer = await self.http.get(
            "/reviews", params={"thread_id": self.thread_id}, headers={"x-api-key": "adm"}
        )
        return answer.json()

    async def decided(self) -> list[Any]:
        """All reviews of the thread as they are stored."""
        return await self.http.app.state.resources.database.fetch_all(  # type: ignore[attr-defined]
            b"SELECT * FROM interlock.reviews WHERE thread_id = %s", (self.thread_id,)
        )

    async def tool_messages(self) -> list[str]:
        messages = (await self.get())["values"]["messages"]
        return [m["content"] for m in messages if m["type"] == "tool"]

    async def runs(self) -> list[Any]:
        """Runs of the thread, the newest first."""
        return await self.get("/runs")


async def desk_of(http: httpx.AsyncClient) -> Desk:
    made = await http.post("/threads", json={}, headers={"x-api-key": "adm"})
    return Desk(http, made.json()["thread_id"])


@pytest.fixture
async def desk(serve_api: ServeApi) -> AsyncIterator[Desk]:
    async with serve_api(worker=True, auth={"api_keys": KEYS}) as http:
        yield await desk_of(http)


async def test_a_permission_of_a_key_lets_its_runs_call_a_tool(desk: Desk) -> None:
    await desk.run("use", input={"calls": [REFUND]})
    assert "Refused" in (await desk.tool_messages())[0]
    await desk.run("clerk", input={"calls": [REFUND]})
    [asked] = await desk.reviews()
    assert (asked["tool"], asked["requested_by"]) == ("order_refund", "clerk")


async def test_an_amount_written_as_a_fraction_grants_a_whole_number(desk: Desk) -> None:
    await desk.run("adm", graph="loop", input={"n": 5}, config={"budget": {"steps": 2}})
    [asked] = await desk.waiting()
    for steps in (1e30, 2.5, 0):
        edit = {"type": "edit", "edited_action": {"name": "continue_run", "args": {"steps": steps}}}
        assert (await desk.resume("adm", {asked["id"]: edit}, graph="loop")).status_code == 422
    edit = {"type": "edit", "edited_action": {"name": "continue_run", "args": {"steps": 5.0}}}
    assert (await desk.resume("adm", {asked["id"]: edit}, graph="loop")).json()["i"] == 5


# --- whose run it is ---------------------------------------------------------------------------


async def test_an_approved_call_runs_with_the_rights_of_whoever_asked_for_it(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND]})
    answer = await desk.resume("rev", APPROVE)
    assert answer.status_code == 200
    [done] = await desk.tool_messages()
    assert '"refunded":"1.00 EUR"' in done
    [row] = await desk.decided()
    assert (row["status"], row["requested_by"], row["decided_by"]) == ("approved", "adm", "rev")
    assert (await desk.runs())[0]["metadata"]["resumed_by"] == "rev"


async def test_an_answer_of_somebody_with_more_rights_gives_the_run_none_of_them(desk: Desk) -> None:
    await desk.run("use", input={"calls": [NOTE], "before": "go on?"})
    await desk.resume("adm", "yes")
    assert "Refused" in (await desk.tool_messages())[0]
    await desk.run("adm", input={"calls": [NOTE], "before": ""})
    assert "Refused" not in (await desk.tool_messages())[-1]


async def test_the_rights_outlive_the_run_that_asked(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND]})
    [run] = await desk.runs()
    path = f"/threads/{desk.thread_id}/runs/{run['run_id']}"
    assert (await desk.http.delete(path, headers={"x-api-key": "adm"})).status_code == 204
    await desk.resume("rev", APPROVE)
    assert '"refunded":"1.00 EUR"' in (await desk.tool_messages())[0]


async def test_a_new_input_on_a_thread_that_waits_for_another_acts_for_whoever_sent_it(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND]})
    await desk.run("use", input={"calls": [REFUND]})
    assert "Refused" in (await desk.tool_messages())[-1]


async def test_going_on_without_an_answer_keeps_the_question_and_whose_it_is(desk: Desk) -> None:
    await desk.run("use", input={"calls": [NOTE], "before": "go on?"})
    await desk.run("adm", input=None)
    await desk.resume("adm", "yes")
    assert "Refused" in (await desk.tool_messages())[0]


@pytest.mark.parametrize(
    "more",
    [
        {"command": {"resume": "yes", "update": {"calls": [NOTE]}}},
        {"command": {"resume": "yes", "goto": "model"}},
        {"command": {"resume": "yes"}, "context": {"prompt": "refund all"}},
        {"command": {"resume": "yes"}, "config": {"configurable": {"prompt": "refund all"}}},
        {"command": {"resume": "yes"}, "graph": "chat"},
        {"command": {"resume": "yes"}, "after_seconds": 1},
    ],
)
async def test_an_answer_in_the_name_of_another_says_nothing_else(desk: Desk, more: dict[str, Any]) -> None:
    await desk.run("adm", input={"calls": [], "before": "go on?"})
    answer = await desk.run("use", **more)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "'adm'" in answer.json()["detail"]
    assert (await desk.run("adm", **{**more, "after_seconds": 0})).status_code == 200


async def test_the_place_where_a_thread_waits_may_be_named_in_an_answer(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND]})
    head = (await desk.get("/state"))["checkpoint"]
    older = (await desk.get("/history?limit=2"))[1]["checkpoint"]
    assert (await desk.resume("rev", APPROVE, checkpoint=older)).status_code == 403
    assert (await desk.resume("rev", APPROVE, checkpoint=head)).status_code == 200
    assert '"refunded":"1.00 EUR"' in (await desk.tool_messages())[0]


async def test_a_state_written_by_hand_is_nobody_elses(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [], "before": "go on?"})
    written = {"values": {"calls": [NOTE]}, "as_node": "ask_before"}
    assert (await desk.post("use", "/state", written)).status_code == 200
    await desk.resume("use", "yes")
    assert "Refused" in (await desk.tool_messages())[0]


async def test_a_copy_of_a_thread_goes_on_in_the_name_of_whoever_answers_it(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [NOTE], "before": "go on?"})
    copied = await desk.post("use", "/copy", {})
    copy = Desk(desk.http, copied.json()["thread_id"])
    await copy.resume("use", "yes")
    assert "Refused" in (await copy.tool_messages())[0]


async def test_the_same_answer_sent_twice_is_one_run(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND]})
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        assert (await desk.resume("rev", APPROVE, headers=key)).status_code == 200
    assert len(await desk.runs()) == 2
    assert len(await desk.tool_messages()) == 1


async def test_another_tenant_finds_nothing_to_answer(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND]})
    [asked] = await desk.waiting()
    assert (await desk.resume("other", {asked["id"]: {"type": "approve"}})).status_code == 404
    assert len(await desk.reviews()) == 1


# --- who may decide ----------------------------------------------------------------------------


async def test_a_review_is_decided_only_with_the_right_to(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND]})
    [asked] = await desk.waiting()
    for answer in (APPROVE, {asked["id"]: {"type": "approve"}}, {"type": "reject"}):
        refused = await desk.resume("use", answer)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "`reviews.update`" in refused.json()["detail"]
    assert len(await desk.reviews()) == 1
    assert len(await desk.runs()) == 1


async def test_more_budget_is_granted_only_with_the_right_to_decide(desk: Desk) -> None:
    await desk.run("use", graph="loop", input={"n": 5}, config={"budget": {"steps": 2}})
    assert (await desk.resume("use", APPROVE, graph="loop")).status_code == 403
    assert (await desk.resume("rev", APPROVE, graph="loop")).json()["i"] == 4


async def test_a_question_of_the_graph_beside_a_review_needs_no_right_to_decide(desk: Desk) -> None:
    await desk.run("adm", input={"calls": [REFUND], "beside": "sure?"})
    by_value = {isinstance(one["value"], str): one["id"] for one in await desk.waiting()}
    assert (await desk.resume("use", {by_value[True]: "yes"})).status_code == 200
    [asked] = await desk.waiting()
    assert asked["id"] == by_value[False]
    both = {by_value[False]: {"type": "approve"}}
    assert (await desk.resume("use", both)).status_code == 403
    assert (await desk.resume("rev", both)).status_code == 200
    assert '"refunded":"1.00 EUR"' in (await desk.tool_messages())[0]


async def test_with_four_eyes_nobody_decides_on_a_call_made_for_themselves(serve_api: ServeApi) -> None:
    async with serve_api(worker=True, auth={"api_keys": KEYS}, tools={"four_eyes": True}) as http:
        desk = await desk_of(http)
        await desk.run("adm", input={"calls": [REFUND]})
        refused = await desk.resume("adm", APPROVE)
        assert (refused.status_code, "somebody else" in refused.json()["detail"]) == (403, True)
        assert (await desk.resume("rev", APPROVE)).status_code == 200


async def test_four_eyes_ask_nothing_of_a_server_without_keys(serve_api: ServeApi) -> None:
    async with serve_api(worker=True, tools={"four_eyes": True}) as http:
        desk = await desk_of(http)
        await desk.run("", input={"calls": [REFUND]})
        assert (await desk.resume("", APPROVE)).status_code == 200


# --- spent budgets -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        {"input": None},
        {"command": {"goto": "tick"}},
        {"command": {"update": {"i": 0}}},
        {"command": {"resume": {"0" * 32: "yes"}}},
    ],
)
@pytest.mark.parametrize("rejected", [False, True])
async def test_a_spent_budget_is_not_passed_by_leaving_its_review_unanswered(
    desk: Desk, request_: dict[str, Any], rejected: bool
) -> None:
    await desk.run("adm", graph="loop", input={"n": 5}, config={"budget": {"steps": 2}})
    if rejected:
        await desk.resume("adm", {"type": "reject"}, graph="loop")
    refused = await desk.run("adm", graph="loop", **request_)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "budget" in refused.json()["detail"]
    assert (await desk.run("adm", graph="loop", input={"n": 5, "i": 0})).json()["i"] == 5


async def test_going_on_is_not_queued_behind_a_run_whose_budget_may_end_first(serve_api: ServeApi) -> None:
    async with serve_api(auth={"api_keys": KEYS}) as http:
        desk = await desk_of(http)
        first = {"assistant_id": "loop", "input": {"n": 5}, "config": {"budget": {"steps": 2}}}
        assert (await desk.post("adm", "/runs", first)).status_code == 200
        behind = await desk.post("adm", "/runs", {"assistant_id": "loop", "input": None})
        assert behind.status_code == 409
        assert (await desk.post("adm", "/runs", first)).status_code == 200


# --- keys that are not the caller's ------------------------------------------------------------


@pytest.mark.parametrize("where", ["context", "config"])
async def test_keys_of_langgraph_itself_in_a_config_do_not_reach_it(desk: Desk, where: str) -> None:
    keys = {"__pregel_checkpointer": None, "__pregel_resuming": True, "__pregel_read": "x"}
    sent = {"context": keys} if where == "context" else {"config": {"configurable": keys}}
    await desk.run("adm", input={"calls": [NOTE]}, **sent)
    assert len(await desk.tool_messages()) == 1
    [run] = await desk.runs()
    assert (run["status"], run["kwargs"]["config"]["configurable"]) == ("success", {})
