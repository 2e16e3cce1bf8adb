"""Reviews of tool calls: asked once, answered once, bound to the exact call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from interlock.checkpoints.database import Database
from interlock.server.errors import Conflicting, Invalid
from interlock.server.settings import ToolSettings
from interlock.tools.builtin import BUILTIN, calculator, order_refund
from interlock.tools.tool import tool as declared
from interlock.tools.toolbox import Toolbox

from .governed import APPROVE, Governed, ScriptedModel, governed, tool_graph

REFUND: dict[str, Any] = {
    "name": "order_refund",
    "args": {"order_id": "A-1001", "amount_cents": 1900, "reason": "late parcel"},
}
OTHER_REFUND: dict[str, Any] = {
    "name": "order_refund",
    "args": {"order_id": "A-1002", "amount_cents": 900, "reason": "scratched"},
}
SUM = {"name": "calculator", "args": {"expression": "6*7"}}


async def refunded(database: Database, order_id: str) -> int:
    row = await database.fetch_one(
        b"SELECT refunded_cents FROM interlock.orders WHERE tenant_id = 'default' AND order_id = %s",
        (order_id,),
    )
    assert row is not None
    return row["refunded_cents"]


@pytest.fixture(params=["tool_node", "create_agent"])
def graph_of(request: pytest.FixtureRequest) -> Any:
    """Both ways in which graphs run tools: all calls in one task, or each in a task of its own."""

    def make(*calls: dict[str, Any]) -> Any:
        if request.param == "tool_node":
            return tool_graph(ToolNode(BUILTIN), calls)
        return create_agent(ScriptedModel(calls=list(calls)), list(BUILTIN))

    return make


async def test_a_refund_waits_and_happens_once_after_approval(database: Database, graph_of: Any) -> None:
    async with governed(database, graph_of(REFUND)) as thread:
        assert await thread.ask() == []
        [waiting] = thread.waiting
        value = waiting["value"]
        assert value["action_requests"][0]["name"] == "order_refund"
        assert value["action_requests"][0]["args"] == REFUND["args"]
        assert value["review_configs"][0]["allowed_decisions"] == ["approve", "edit", "reject", "respond"]
        assert value["review"]["dry_run"]["left_afterwards"] == "130.00 EUR"
        assert value["review"]["tool_call_id"] == "call-0"
        assert await refunded(database, "A-1001") == 0

        [answer] = await thread.resume(APPROVE)
        assert '"refunded":"19.00 EUR"' in answer.content
        assert answer.status == "success"
        assert thread.waiting == []
        assert await refunded(database, "A-1001") == 1900
        assert await thread.trail() == [
            ("order_refund", "review", "waiting"),
            ("order_refund", "settle", "succeeded"),
        ]


async def test_running_again_without_an_answer_asks_the_same_question(
    database: Database, graph_of: Any
) -> None:
    async with governed(database, graph_of(REFUND)) as thread:
        await thread.ask()
        before = thread.waiting
        await thread.run(None)
        assert thread.waiting == before
        assert await thread.trail() == [("order_refund", "review", "waiting")]


async def test_a_rejected_call_never_runs_even_if_the_policy_would_allow_it_later(
    database: Database, graph_of: Any, tmp_path: Any
) -> None:
    lenient = tmp_path / "all.cedar"
    lenient.write_text('@id("all") permit (principal, action, resource);')
    async with governed(database, graph_of(REFUND)) as thread:
        await thread.ask()
        thread.toolbox = Toolbox.open(ToolSettings(policies=lenient))
        [answer] = await thread.resume({"decisions": [{"type": "reject", "message": "not this customer"}]})
        assert "not this customer" in answer.content
        assert answer.status == "error"
        assert await refunded(database, "A-1001") == 0
        await thread.run(None)
        assert await refunded(database, "A-1001") == 0


async def test_a_response_stands_in_for_the_tool(database: Database, graph_of: Any) -> None:
    async with governed(database, graph_of(REFUND)) as thread:
        await thread.ask()
        [answer] = await thread.resume([{"type": "response", "args": "Already refunded by phone."}])
        assert (answer.content, answer.status) == ("Already refunded by phone.", "success")
        assert await refunded(database, "A-1001") == 0


async def test_an_edit_runs_with_the_edited_arguments_and_tells_the_model(
    database: Database, graph_of: Any
) -> None:
    async with governed(database, graph_of(REFUND)) as thread:
        await thread.ask()
        edited = {**REFUND["args"], "amount_cents": 500}
        [answer] = await thread.resume(
            {"decisions": [{"type": "edit", "edited_action": {"name": "order_refund", "args": edited}}]}
        )
        assert "a person changed this call" in answer.content
        assert answer.additional_kwargs["interlock"]["arguments"] == edited
        assert await refunded(database, "A-1001") == 500


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        {},
        {"decisions": []},
        {"decisions": [{"type": "approve"}, {"type": "approve"}]},
        {"decisions": [{"type": "maybe"}]},
        {"type": "edit", "edited_action": {"name": "calculator", "args": {}}},
        {"type": "edit", "edited_action": {"name": "order_refund", "args": {"order_id": "A-1001"}}},
        {
            "type": "edit",
            "edited_action": {
                "name": "order_refund",
                "args": {"order_id": "A-1001", "amount_cents": 1.5, "reason": "half a cent"},
            },
        },
        {"type": "respond"},
    ],
)
async def test_a_malformed_answer_is_refused_and_changes_nothing(database: Database, answer: Any) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [REFUND])) as thread:
        await thread.ask()
        with pytest.raises(Invalid):
            await thread.answer(answer)
        await thread.resume(APPROVE)
        assert await refunded(database, "A-1001") == 1900


@pytest.mark.parametrize(
    "answer", [APPROVE, {"type": "approve"}, [{"type": "accept", "args": None}], [{"type": "approve"}]]
)
async def test_every_form_of_an_approval_is_understood(database: Database, answer: Any) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [REFUND])) as thread:
        await thread.ask()
        await thread.resume(answer)
        assert await refunded(database, "A-1001") == 1900


async def test_of_ten_equal_answers_one_wins(database: Database) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [REFUND])) as thread:
        await thread.ask()
        results = await asyncio.gather(*(thread.answer(APPROVE) for _ in range(10)), return_exceptions=True)
        conflicts = [r for r in results if isinstance(r, Conflicting)]
        plans = [r for r in results if not isinstance(r, BaseException)]
        assert (len(plans), len(conflicts)) == (1, 9)
        await thread.run(None)
        assert await refunded(database, "A-1001") == 1900
        with pytest.raises(Conflicting):
            await thread.answer(APPROVE)


@pytest.mark.parametrize("first", [0, 1])
async def test_parallel_reviews_answered_in_any_order_reach_their_own_calls(
    database: Database, graph_of: Any, first: int
) -> None:
    async with governed(database, graph_of(REFUND, SUM, OTHER_REFUND)) as thread:
        await thread.ask()
        by_order = {w["value"]["action_requests"][0]["args"]["order_id"]: w["id"] for w in thread.waiting}
        answers = [
            {by_order["A-1001"]: {"type": "approve"}},
            {by_order["A-1002"]: {"decisions": [{"type": "reject", "message": "no"}]}},
        ]
        await thread.resume(answers[first])
        assert len(thread.waiting) == 1
        messages = await thread.resume(answers[1 - first])
        assert {m.tool_call_id: m.status for m in messages} == {
            "call-0": "success",
            "call-1": "success",
            "call-2": "error",
        }
        assert await refunded(database, "A-1001") == 1900
        assert await refunded(database, "A-1002") == 0


@pytest.mark.parametrize(
    "decisions",
    [[{"type": "approve"}], [{"type": "reject"}, {"type": "approve"}], [{"type": "approve"}] * 3],
)
async def test_an_answer_that_could_mean_either_of_two_reviews_is_refused(
    database: Database, decisions: list[dict[str, Any]]
) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [REFUND, OTHER_REFUND])) as thread:
        await thread.ask()
        with pytest.raises(Invalid, match="answer by interrupt id"):
            await thread.answer({"decisions": decisions})


async def test_all_waiting_reviews_can_be_decided_alike_at_once(database: Database) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [REFUND, OTHER_REFUND])) as thread:
        await thread.ask()
        asked = [w["value"]["action_requests"][0]["args"]["order_id"] for w in thread.waiting]
        assert asked == ["A-1001", "A-1002"]
        await thread.resume({"decisions": [{"type": "approve"}, {"type": "approve"}]})
        assert await refunded(database, "A-1001") == 1900
        assert await refunded(database, "A-1002") == 900


async def test_a_sibling_of_a_waiting_call_runs_once(database: Database) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [SUM, REFUND])) as thread:
        await thread.ask()
        await thread.resume(APPROVE)
        assert ("calculator", "settle", "succeeded") in await thread.trail()
        assert ("calculator", "ledger", "replayed") in await thread.trail()
        assert next(m.content for m in await thread.tool_messages()) == "42"


async def test_a_dry_run_that_fails_answers_the_model_without_asking_a_person(database: Database) -> None:
    too_much = {**REFUND, "args": {**REFUND["args"], "amount_cents": 9_999_999}}
    async with governed(database, tool_graph(ToolNode(BUILTIN), [too_much])) as thread:
        [answer] = await thread.ask()
        assert "left to refund" in answer.content
        assert await thread.trail() == [("order_refund", "dry_run", "refused")]


async def test_a_plain_tool_waits_when_unknown_tools_are_to_be_reviewed(database: Database) -> None:
    ran: list[str] = []

    def delete_mail(box: str) -> str:
        """Delete the mail of a box."""
        ran.append(box)
        return "gone"

    graph = tool_graph(ToolNode([delete_mail, calculator]), [{"name": "delete_mail", "args": {"box": "in"}}])
    async with governed(database, graph, unknown="review") as thread:
        await thread.ask()
        assert ran == []
        [answer] = await thread.resume(APPROVE)
        assert (answer.content, ran) == ("gone", ["in"])


async def test_a_late_answer_is_a_conflict_unless_a_run_is_under_way(database: Database) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [REFUND])) as thread:
        await thread.ask()
        await thread.resume(APPROVE)
        with pytest.raises(Conflicting):
            await thread.answer(APPROVE)
        thread.status = "busy"
        assert (await thread.answer(APPROVE)).answered == ()


async def test_deciding_a_graphs_own_interrupt_is_left_to_langgraph(database: Database) -> None:
    from langgraph.types import interrupt

    def ask_user(question: str) -> str:
        """Ask the user."""
        return f"user said {interrupt(question)}"

    graph = tool_graph(
        ToolNode([ask_user, order_refund]), [{"name": "ask_user", "args": {"question": "why"}}]
    )
    async with governed(database, graph) as thread:
        await thread.ask()
        [waiting] = thread.waiting
        assert waiting["value"] == "why"
        [answer] = await thread.resume("because")
        assert answer.content == "user said because"
        assert ("ask_user", "execute", "waiting") in await thread.trail()


def letters(version: str, sent: list[str], **facts: Any) -> Any:
    """A graph that sends a letter and makes a refund, by a tool of that version."""

    @declared(effect="external", risk="high", version=version, **facts)
    async def send_letter(text: str) -> str:
        """Send a letter."""
        sent.append(f"{version}: {text}")
        return "sent"

    letter = {"name": "send_letter", "args": {"text": "hello"}}
    return tool_graph(ToolNode([send_letter, order_refund]), [letter, REFUND])


def redeploy(thread: Governed, graph: Any) -> None:
    before = thread.graph
    thread.graph = graph.copy(update={"checkpointer": before.checkpointer, "store": before.store})


EDIT = {
    "decisions": [{"type": "edit", "edited_action": {"name": "send_letter", "args": {"text": "goodbye"}}}]
}


@pytest.mark.parametrize(("decision", "text"), [(APPROVE, "hello"), (EDIT, "goodbye")])
async def test_a_yes_to_a_tool_that_was_declared_otherwise_is_asked_for_again(
    database: Database, decision: Any, text: str
) -> None:
    sent: list[str] = []
    async with governed(database, letters("1", sent)) as thread:
        await thread.ask()
        first = next(w for w in thread.waiting if w["value"]["action_requests"][0]["name"] == "send_letter")
        plan = await thread.answer({first["id"]: decision})
        redeploy(thread, letters("2", sent))
        await thread.run(Command(resume=plan.resume))
        assert sent == []
        again = next(w for w in thread.waiting if w["value"]["action_requests"][0]["name"] == "send_letter")
        assert again["id"] != first["id"]
        await thread.resume({again["id"]: decision})
        assert sent == [f"2: {text}"]


@pytest.mark.parametrize("decision", [APPROVE, EDIT])
async def test_what_was_made_before_the_tool_was_declared_otherwise_is_not_asked_about_again(
    database: Database, decision: Any
) -> None:
    sent: list[str] = []
    async with governed(database, letters("1", sent)) as thread:
        await thread.ask()
        first = next(w for w in thread.waiting if w["value"]["action_requests"][0]["name"] == "send_letter")
        await thread.resume({first["id"]: decision})
        redeploy(thread, letters("2", sent))
        [refund] = thread.waiting
        letter, _ = await thread.resume({refund["id"]: APPROVE})
        assert len(sent) == 1
        assert letter.content.endswith("sent")


async def test_a_no_holds_whatever_the_tool_becomes(database: Database) -> None:
    sent: list[str] = []
    async with governed(database, letters("1", sent)) as thread:
        await thread.ask()
        plan = await thread.answer({w["id"]: {"type": "reject"} for w in thread.waiting})
        redeploy(thread, letters("2", sent))
        letter, _ = await thread.run(Command(resume=plan.resume))
        assert "rejected" in letter.content
        assert sent == []


async def test_a_question_that_is_asked_again_is_about_the_tool_of_now(database: Database) -> None:
    async with governed(database, letters("1", [])) as thread:
        await thread.ask()
        await database.execute(
            b"UPDATE interlock.reviews SET status = 'superseded', decided_at = now() "
            b"WHERE tool = 'send_letter'"
        )
        redeploy(thread, letters("2", [], permissions={"letters:send"}))
        await thread.run(None)
        row = await database.fetch_one(
            b"SELECT status, tool_version, definition_hash FROM interlock.reviews WHERE tool = 'send_letter'"
        )
        [send_letter, _] = thread.graph.nodes["tools"].bound.tools_by_name.values()
        assert row == {
            "status": "pending",
            "tool_version": "2",
            "definition_hash": send_letter.spec.definition_hash,
        }
