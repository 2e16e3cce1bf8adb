"""Tools that other tools and nodes run: each such call is a call of its own for the gateway."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, ToolRuntime

from interlock.checkpoints.database import Database
from interlock.tools import binding
from interlock.tools.builtin import calculator, order_lookup, order_refund
from interlock.tools.context import ToolContext
from interlock.tools.errors import BudgetReached, ToolBypassed
from interlock.tools.policy.budget import Budget
from interlock.tools.policy.permissions import Principal
from interlock.tools.tool import tool as declared

from .governed import APPROVE, Governed, ScriptedModel, governed, tool_calls, tool_graph

SUM = {"name": "calculator", "args": {"expression": "6*7"}}
DELEGATE = {"name": "delegate", "args": {}}


def refund(cents: int, order_id: str = "A-1001") -> dict[str, Any]:
    return {
        "name": "order_refund",
        "args": {"order_id": order_id, "amount_cents": cents, "reason": "late parcel"},
    }


def delegating(inner: Any) -> Any:
    """A graph whose one tool runs a graph of its own and tells the answers of that graph's tools."""

    @tool
    async def delegate() -> str:
        """Have somebody else do it."""
        return told(await inner.ainvoke({"messages": [HumanMessage("please")]}))

    return tool_graph(ToolNode([delegate]), [DELEGATE])


def told(state: dict[str, Any]) -> str:
    return " / ".join(m.text for m in state["messages"] if m.type == "tool")


async def booked(database: Database) -> list[int]:
    rows = await database.fetch_all(b"SELECT amount_cents FROM interlock.order_refunds ORDER BY amount_cents")
    return [row["amount_cents"] for row in rows]


async def approve_all(thread: Governed) -> None:
    while thread.waiting:
        await thread.resume({waiting["id"]: APPROVE for waiting in thread.waiting})


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("made_by", ["tool_node", "create_agent"])
async def test_each_refund_of_a_sub_agent_has_its_own_review_and_its_own_receipt(
    database: Database, mode: Any, made_by: str
) -> None:
    calls = [refund(100), refund(250)]
    inner = (
        tool_graph(ToolNode([order_refund]), calls)
        if made_by == "tool_node"
        else create_agent(ScriptedModel(calls=calls), [order_refund])
    )
    async with governed(database, delegating(inner), mode=mode) as thread:
        assert await thread.ask() == []
        asked = sorted(w["value"]["action_requests"][0]["args"]["amount_cents"] for w in thread.waiting)
        assert asked == [100, 250]
        assert await booked(database) == []
        await approve_all(thread)
        [answer] = await thread.tool_messages()
        receipts = [orjson.loads(text) for text in answer.text.split(" / ")]
        assert [r["refunded"] for r in receipts] == ["1.00 EUR", "2.50 EUR"]
        assert len({r["refund_id"] for r in receipts}) == 2
        assert await booked(database) == [100, 250]


async def test_a_sub_agent_may_not_do_what_its_principal_may_not(database: Database) -> None:
    clerk = Principal(tenant="default", subject="bob", permissions=frozenset({"orders:read"}))
    graph = delegating(tool_graph(ToolNode([order_refund]), [refund(100)]))
    async with governed(database, graph, principal=clerk) as thread:
        [answer] = await thread.ask()
        assert answer.text == "Refused: no policy permits it."
        assert ("order_refund", "policy", "refused") in await thread.trail()
        assert await booked(database) == []


async def test_the_calls_of_a_sub_agent_are_paid_from_the_budget_of_the_run(database: Database) -> None:
    graph = delegating(tool_graph(ToolNode([calculator]), [SUM]))
    async with governed(database, graph, budget=Budget(tool_calls=1)) as thread:
        with pytest.raises(BudgetReached):
            await thread.ask()
        assert thread.meter.usage.tool_calls == 1
        assert ("calculator", "budget", "refused") in await thread.trail()


async def test_two_tools_that_make_the_same_call_make_two_calls(database: Database) -> None:
    node = ToolNode([order_refund])
    asked = AIMessage("", tool_calls=tool_calls([refund(100)]))

    @tool
    async def delegate(name: str) -> str:
        """Refund."""
        return told(await node.ainvoke({"messages": [asked]}))

    calls = [{"name": "delegate", "args": {"name": name}} for name in ("ann", "bob")]
    async with governed(database, tool_graph(ToolNode([delegate]), calls)) as thread:
        await thread.ask()
        assert len(thread.waiting) == 2
        await approve_all(thread)
        one, other = await thread.tool_messages()
        assert orjson.loads(one.content)["refund_id"] != orjson.loads(other.content)["refund_id"]
        assert await booked(database) == [100, 100]


async def test_a_sub_agent_that_waited_goes_on_from_its_own_checkpoint(database: Database) -> None:
    quick = tool_graph(ToolNode([calculator]), [SUM])
    slow = tool_graph(ToolNode([order_refund]), [refund(100)])

    @tool
    async def delegate(to: str) -> str:
        """Have somebody else do it."""
        inner = quick if to == "quick" else slow
        return told(await inner.ainvoke({"messages": [HumanMessage("please")]}))

    calls = [{"name": "delegate", "args": {"to": to}} for to in ("quick", "slow")]
    async with governed(database, tool_graph(ToolNode([delegate]), calls)) as thread:
        await thread.ask()
        await approve_all(thread)
        first, second = await thread.tool_messages()
        assert first.text == "42"
        assert orjson.loads(second.content)["refunded"] == "1.00 EUR"
        assert await booked(database) == [100]


async def test_sub_agents_that_run_at_once_are_told_apart(database: Database) -> None:
    async def node(_: MessagesState) -> Any:
        graphs = [tool_graph(ToolNode([calculator]), [SUM]) for _ in range(3)]
        ended = await asyncio.gather(*(g.ainvoke({"messages": [HumanMessage("x")]}) for g in graphs))
        return {"messages": [AIMessage(" ".join(told(state) for state in ended))]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    async with governed(database, builder.compile(), mode="enforce") as thread:
        await thread.ask()
        assert await thread.trail() == [("calculator", "settle", "succeeded")] * 3
        assert thread.meter.usage.tool_calls == 3


async def test_what_needs_a_person_is_refused_to_an_agent_on_a_thread_of_its_own(database: Database) -> None:
    inner = tool_graph(ToolNode([order_refund, calculator]), [refund(100), SUM])
    inner.checkpointer = InMemorySaver()

    @tool
    async def delegate() -> str:
        """Have an agent do it that remembers on its own."""
        own = {"configurable": {"thread_id": "own"}}
        return told(await inner.ainvoke({"messages": [HumanMessage("please")]}, own))

    async with governed(database, tool_graph(ToolNode([delegate]), [DELEGATE])) as thread:
        [answer] = await thread.ask()
        refused, computed = answer.text.split(" / ")
        assert "cannot wait" in refused
        assert computed == "42"
        assert ("order_refund", "review", "refused") in await thread.trail()
        assert await database.fetch_one(b"SELECT FROM interlock.reviews") is None


@pytest.mark.parametrize("way", ["sync", "thread", "thread_with_runtime", "own_loop", "own_executor"])
async def test_a_sub_agent_in_a_thread_is_governed_too(database: Database, way: str) -> None:
    inner = tool_graph(ToolNode([order_refund, calculator]), [refund(100), SUM])
    given = {"messages": [HumanMessage("please")]}

    @tool
    def sync(config: RunnableConfig) -> str:
        """Run it here."""
        return told(inner.invoke(given))

    @tool
    async def thread(config: RunnableConfig) -> str:
        """Run it in a thread that has the config alone."""
        return told(await asyncio.get_running_loop().run_in_executor(None, inner.invoke, given, config))

    @tool
    async def thread_with_runtime(runtime: ToolRuntime) -> str:
        """Run it in a thread that has the config of the runtime."""
        return told(
            await asyncio.get_running_loop().run_in_executor(None, inner.invoke, given, runtime.config)
        )

    @tool
    def own_loop(config: RunnableConfig) -> str:
        """Run it on another event loop."""
        return told(asyncio.run(inner.ainvoke(given)))

    @tool
    def own_executor(config: RunnableConfig) -> str:
        """Run it on another event loop in another thread."""
        with ThreadPoolExecutor(1) as executor:
            return told(executor.submit(lambda: asyncio.run(inner.ainvoke(given, config))).result())

    tools = [sync, thread, thread_with_runtime, own_loop, own_executor]
    async with governed(
        database, tool_graph(ToolNode(tools), [{"name": way, "args": {}}]), mode="enforce"
    ) as governed_thread:
        await governed_thread.ask()
        [waiting] = governed_thread.waiting
        assert waiting["value"]["action_requests"][0]["name"] == "order_refund"
        assert await booked(database) == []
        await approve_all(governed_thread)
        [answer] = await governed_thread.tool_messages()
        assert answer.text.endswith("/ 42")
        assert await booked(database) == [100]


@pytest.mark.parametrize("name", ["delegate", "order_refund"])
async def test_a_declared_tool_that_a_tool_calls_by_itself_is_refused(database: Database, name: str) -> None:
    @tool(name)
    async def delegate() -> str:
        """Refund something by the way."""
        return await order_refund.ainvoke(refund(100)["args"])

    graph = tool_graph(ToolNode([delegate]), [{"name": name, "args": {}}])
    async with governed(database, graph) as thread:
        with pytest.raises(ToolBypassed, match="order_refund"):
            await thread.ask()
        assert ("order_refund", "resolve", "refused") in await thread.trail()
        assert await booked(database) == []


async def test_not_even_its_coroutine_runs_under_the_leave_of_another_call(database: Database) -> None:
    keys: list[str] = []

    @declared(effect="external", risk="low")
    async def book(context: ToolContext, seats: int) -> str:
        """Book seats."""
        keys.append(context.idempotency_key)
        if seats > 1:
            assert book.coroutine is not None
            await book.coroutine(seats=seats - 1)
        return "booked"

    graph = tool_graph(ToolNode([book]), [{"name": "book", "args": {"seats": 2}}])
    async with governed(database, graph) as thread:
        with pytest.raises(ToolBypassed, match="book"):
            await thread.ask()
        assert len(keys) == 1


async def test_a_preview_has_no_leave_of_another_call(database: Database) -> None:
    @tool
    async def delegate() -> str:
        """Look what a refund would do."""
        return str(await order_refund.preview(refund(100)["args"]))

    async with governed(database, tool_graph(ToolNode([delegate]), [DELEGATE])) as thread:
        with pytest.raises(ToolBypassed, match="order_refund"):
            await thread.ask()


@pytest.mark.parametrize("config", [None, {"callbacks": []}])
@pytest.mark.parametrize("mode", ["observe", "enforce"])
async def test_a_plain_tool_that_a_tool_calls_by_itself_is_seen(
    database: Database, mode: Any, config: Any
) -> None:
    @tool
    async def hidden() -> str:
        """Run beside the gateway."""
        return "hidden"

    @tool
    async def delegate() -> str:
        """Run something by the way."""
        return "".join(await asyncio.gather(hidden.ainvoke({}, config), hidden.ainvoke({}, config)))

    graph = tool_graph(ToolNode([delegate]), [DELEGATE])
    async with governed(database, graph, mode=mode) as thread:
        if mode == "enforce":
            with pytest.raises(ToolBypassed, match="hidden"):
                await thread.ask()
            assert ("hidden", "resolve", "refused") in await thread.trail()
            return
        [answer] = await thread.ask()
        assert answer.text == "hiddenhidden"
        assert [t for t in await thread.trail() if t[0] == "hidden"] == [
            ("hidden", "resolve", "bypassed")
        ] * 2
        assert thread.meter.usage.tool_calls == 3


async def test_a_tool_node_that_nobody_could_find_in_the_graph_is_governed(database: Database) -> None:
    async def node(_: MessagesState) -> Any:
        hidden = {"node": ToolNode([order_lookup])}
        call = {"name": "order_lookup", "args": {"order_id": "A-1001"}}
        asked = AIMessage("", tool_calls=tool_calls([call]))
        return {"messages": [asked, *(await hidden["node"].ainvoke({"messages": [asked]}))["messages"]]}

    nobody = Principal(tenant="default", subject="bob")
    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    async with governed(database, builder.compile(), principal=nobody) as thread:
        [answer] = await thread.ask()
        assert answer.text == "Refused: no policy permits it."
        assert await thread.trail() == [("order_lookup", "policy", "refused")]


async def test_a_sub_agent_that_blocks_the_loop_of_its_run_fails_instead_of_waiting_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "_LOOP_DEADLINE_S", 0.05)
    inner = tool_graph(ToolNode([calculator]), [SUM])

    @tool
    async def delegate(config: RunnableConfig) -> str:
        """Wait for a thread while nothing else can run."""
        with ThreadPoolExecutor(1) as executor:
            return told(
                executor.submit(lambda: asyncio.run(inner.ainvoke({"messages": []}, config))).result()
            )

    async with governed(database, tool_graph(ToolNode([delegate]), [DELEGATE])) as thread:
        with pytest.raises(RuntimeError, match="blocks the event loop"):
            await thread.ask()


async def test_a_tool_node_called_synchronously_on_the_loop_says_so(database: Database) -> None:
    hidden = ToolNode([calculator])
    asked = AIMessage("", tool_calls=tool_calls([SUM, {**SUM, "id": "other"}]))

    @tool
    async def delegate() -> str:
        """Block."""
        return told(hidden.invoke({"messages": [asked]}))

    async with governed(database, tool_graph(ToolNode([delegate]), [DELEGATE])) as thread:
        with pytest.raises(RuntimeError, match="ainvoke"):
            await thread.ask()
