"""Budgets on graphs that know nothing of them, and the review that asks for more."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import RunControl

from interlock.checkpoints.database import Database
from interlock.server.domain import Run, Thread
from interlock.server.errors import Conflicting, Invalid
from interlock.server.runs import reviews
from interlock.tools.builtin import BUILTIN, calculator
from interlock.tools.errors import BudgetReached
from interlock.tools.metering import UsageCallback
from interlock.tools.policy.budget import Budget, Limit, Meter, Usage
from interlock.tools.policy.permissions import Principal

from .governed import ADMIN, ScriptedModel, governed, tool_graph
from .queue_rows import enqueue

SUM: dict[str, Any] = {"name": "calculator", "args": {"expression": "6*7"}}


def calls(count: int) -> list[dict[str, Any]]:
    return [{"name": "calculator", "args": {"expression": f"{i}+1"}} for i in range(count)]


@pytest.mark.parametrize("kind", ["tool_node", "create_agent"])
async def test_a_parallel_batch_makes_exactly_the_calls_that_are_left_and_the_grant_makes_the_rest(
    database: Database, kind: str
) -> None:
    if kind == "tool_node":
        graph = tool_graph(ToolNode(BUILTIN), calls(5))
    else:
        graph = create_agent(ScriptedModel(calls=calls(5)), [calculator])
    async with governed(database, graph, budget=Budget(tool_calls=2)) as thread:
        with pytest.raises(BudgetReached, match="2 tool calls"):
            await thread.ask()
        trail = await thread.trail()
        assert trail.count(("calculator", "settle", "succeeded")) == 2
        assert trail.count(("calculator", "budget", "refused")) == 3
        assert thread.meter.usage.tool_calls == 2

        thread.budget = Budget(tool_calls=3)
        assert [m.content for m in await thread.run(None)] == ["1", "2", "3", "4", "5"]
        assert (await thread.trail()).count(("calculator", "settle", "succeeded")) == 5
        assert thread.meter.usage.tool_calls == 3


async def test_a_model_call_beyond_the_limit_never_reaches_the_model(database: Database) -> None:
    asked: list[int] = []

    class Counting(ScriptedModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(1)
            return super()._generate(*args, **kwargs)

    agent = create_agent(Counting(calls=[SUM]), [calculator])
    async with governed(database, agent, budget=Budget(model_calls=1)) as thread:
        with pytest.raises(BudgetReached, match="1 model call"):
            await thread.ask()
        assert len(asked) == 1
        await thread.run(None)
        assert len(asked) == 2


async def test_waiting_for_a_person_spends_no_tool_call(database: Database) -> None:
    refund = {"name": "order_refund", "args": {"order_id": "A-1001", "amount_cents": 1, "reason": "test"}}
    async with governed(
        database, tool_graph(ToolNode(BUILTIN), [refund]), budget=Budget(tool_calls=1)
    ) as thread:
        await thread.ask()
        assert thread.meter.usage.tool_calls == 0
        await thread.resume({"type": "approve"})
        assert thread.meter.usage.tool_calls == 1


async def test_tokens_of_any_model_are_counted_and_estimated_where_none_are_reported() -> None:
    usage: Any = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    answers = [AIMessage("one", usage_metadata=usage), AIMessage("a much longer answer than before")]
    model = GenericFakeChatModel(messages=iter(answers))

    async def node(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"]), await model.ainvoke("again?")]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    told: list[Limit] = []
    meter = Meter(Budget(tokens=10), on_reached=told.append)
    await builder.compile().ainvoke(
        {"messages": [HumanMessage("hello")]}, {"callbacks": [UsageCallback(meter)]}
    )
    spent = meter.usage
    assert spent.model_calls == 2
    assert spent.tokens > 10
    assert spent.estimated_tokens == spent.tokens - 10
    assert [limit.dimension for limit in told] == ["tokens"]


def looping_graph(*, rounds: int) -> StateGraph[Any]:
    """Two parallel nodes, over and over, until there are `rounds` answers of the first."""

    def left(state: MessagesState) -> Any:
        return {"messages": [AIMessage("left")]}

    def right(_: MessagesState) -> Any:
        return {}

    def done(state: MessagesState) -> list[str]:
        said = [m for m in state["messages"] if m.content == "left"]
        return [END] if len(said) >= rounds else ["left", "right"]

    builder = StateGraph(MessagesState)
    builder.add_node("left", left)
    builder.add_node("right", right)
    builder.add_edge(START, "left")
    builder.add_edge(START, "right")
    builder.add_conditional_edges("left", done, ["left", "right", END])
    return builder


async def spend(graph: Any, budget: Budget, *, nested: bool = False) -> tuple[Meter, int]:
    """Run a graph under a budget as a worker does; the meter, and how many rounds it made."""
    control = RunControl()
    meter = Meter(budget, on_reached=lambda _: control.request_drain("budget"))
    config: Any = {
        "callbacks": [UsageCallback(meter)],
        "configurable": {"thread_id": "1"},
        "recursion_limit": 50,
    }
    compiled = graph.compile(checkpointer=InMemorySaver())
    with contextlib.suppress(GraphDrained, BudgetReached):
        await compiled.ainvoke({"messages": [HumanMessage("go")]}, config, control=control)
    state = await compiled.aget_state(config, subgraphs=nested)
    inner = state.tasks[0].state if nested and state.tasks else state
    return meter, sum(m.content == "left" for m in inner.values["messages"])


async def test_parallel_nodes_of_one_superstep_count_once_and_the_run_drains_at_its_edge() -> None:
    meter, rounds = await spend(looping_graph(rounds=9), Budget(steps=3))
    assert (meter.usage.steps, rounds) == (3, 3)
    assert meter.reached() is not None


async def test_a_graph_that_needs_exactly_its_supersteps_comes_to_its_end() -> None:
    meter, rounds = await spend(looping_graph(rounds=3), Budget(steps=3))
    assert (meter.usage.steps, rounds) == (3, 3)


async def test_no_superstep_begins_on_a_spent_budget() -> None:
    for spent in (Budget(steps=0), Budget(tokens=0)):
        meter, rounds = await spend(looping_graph(rounds=3), spent)
        assert (meter.usage.steps, rounds) == (0, 0)


async def test_a_loop_inside_a_sub_graph_is_bounded_too() -> None:
    outer = StateGraph(MessagesState)
    outer.add_node("inner", looping_graph(rounds=30).compile())
    outer.add_edge(START, "inner")
    meter, rounds = await spend(outer, Budget(steps=5), nested=True)
    assert meter.usage.steps == 5
    assert rounds == 4


async def paused_run(database: Database, budget: Budget, limit: Limit, usage: Usage) -> tuple[Thread, Run]:
    """A thread that waits for the answer to a budget review, as the end of a run leaves it."""
    run = await enqueue(database, tenant="acme")
    run = Run(**{**{f: getattr(run, f) for f in Run.__dataclass_fields__}, "budget": budget.to_row()})
    async with database.transaction() as connection:
        review = await reviews.create_budget_review(connection, run, limit=limit, usage=usage)
    row = await database.fetch_one(
        b"SELECT *, 'interrupted' AS status FROM interlock.threads WHERE thread_id = %s", (run.thread_id,)
    )
    assert row is not None
    waiting = {"budget": [{"id": review.interrupt_id, "value": review.payload()}]}
    return Thread.from_row({**row, "interrupts": waiting}), run


async def answer(database: Database, thread: Thread, decision: Any) -> reviews.ResumePlan:
    ann = Principal(tenant="acme", subject="ann", roles=frozenset({"reviewer"}))
    async with database.transaction() as connection:
        return await reviews.answer(connection, thread=thread, resume=decision, principal=ann)


BUDGET = Budget(steps=10, tokens=1000)
REACHED = Limit(dimension="steps", limit=10, spent=10)
SPENT = Usage(steps=10, tokens=400)


async def test_a_budget_review_says_what_was_reached_and_asks_for_as_much_again(database: Database) -> None:
    thread, _ = await paused_run(database, BUDGET, REACHED, SPENT)
    [waiting] = thread.interrupts["budget"]
    request = waiting["value"]["action_requests"][0]
    assert request["args"] == {"steps": 10}
    assert request["description"] == "The run reached its limit of 10 supersteps. Continue with 10 more?"
    assert waiting["value"]["review_configs"][0]["allowed_decisions"] == ["approve", "edit", "reject"]


async def test_approving_continues_with_the_grant_and_what_was_left(database: Database) -> None:
    thread, _ = await paused_run(database, BUDGET, REACHED, SPENT)
    plan = await answer(database, thread, {"decisions": [{"type": "approve"}]})
    assert plan.resume is None
    assert plan.budget == Budget(steps=10, tokens=600)
    with pytest.raises(Conflicting):
        await answer(database, thread, {"decisions": [{"type": "approve"}]})


async def test_an_edit_grants_another_amount(database: Database) -> None:
    thread, _ = await paused_run(database, BUDGET, REACHED, SPENT)
    for steps in (0, -1, 2.5, "0", "three"):
        with pytest.raises(Invalid):
            await answer(
                database,
                thread,
                {"type": "edit", "edited_action": {"name": "continue_run", "args": {"steps": steps}}},
            )
    edit = {"type": "edit", "edited_action": {"name": "continue_run", "args": {"steps": 3}}}
    plan = await answer(database, thread, edit)
    assert plan.budget == Budget(steps=3, tokens=600)


async def test_rejecting_ends_the_run_with_its_error(database: Database) -> None:
    thread, _ = await paused_run(database, BUDGET, REACHED, SPENT)
    plan = await answer(database, thread, {"type": "reject"})
    assert plan.budget == Budget(steps=0, tokens=600, on_limit="stop")
    assert Meter(plan.budget).reached() is not None


async def test_an_answer_for_another_tenant_or_thread_reaches_nothing(database: Database) -> None:
    thread, _ = await paused_run(database, BUDGET, REACHED, SPENT)
    [waiting] = thread.interrupts["budget"]
    by_id = {waiting["id"]: {"type": "approve"}}
    stranger = Thread(
        **{**{f: getattr(thread, f) for f in Thread.__dataclass_fields__}, "thread_id": uuid4()}
    )
    plan = await answer(database, stranger, by_id)
    assert plan.answered == ()
    async with database.transaction() as connection:
        plan = await reviews.answer(
            connection, thread=replace(thread, tenant_id="other"), resume=by_id, principal=ADMIN
        )
    assert plan.answered == ()
    assert (await answer(database, thread, by_id)).answered[0].status == "approved"


async def test_reviews_that_the_thread_left_behind_are_closed(database: Database) -> None:
    thread, _ = await paused_run(database, BUDGET, REACHED, SPENT)
    async with database.transaction() as connection:
        await reviews.close_others(connection, tenant_id="acme", thread_id=thread.thread_id, interrupts={})
    with pytest.raises(Conflicting, match="another way"):
        await answer(database, thread, {"type": "approve"})
