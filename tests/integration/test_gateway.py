"""The gateway on real graphs: what is refused, recorded, repeated or not."""

from __future__ import annotations

import asyncio
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import httpx
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, ToolException, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.types import Command, RetryPolicy

from interlock.checkpoints.database import Database
from interlock.checkpoints.errors import FenceLost
from interlock.tools.audit import column_text
from interlock.tools.builtin import BUILTIN, calculator
from interlock.tools.context import ToolContext
from interlock.tools.errors import OutcomeUnknown, RetryTool, ToolBypassed, ToolFailed
from interlock.tools.policy.permissions import Principal
from interlock.tools.tool import Bound
from interlock.tools.tool import tool as declared

from .governed import APPROVE, ScriptedModel, governed, tool_calls, tool_graph

SUM = {"name": "calculator", "args": {"expression": "6*7"}}


async def test_every_attempt_leaves_a_row_with_the_policies_that_decided(database: Database) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [SUM])) as thread:
        [answer] = await thread.ask()
        assert answer.content == "42"
        [attempt] = await thread.attempts()
        assert attempt["policy_ids"] == ["admin-may-call", "holder-of-permissions-may-call"]
        assert attempt["subject"] == "ann"
        assert attempt["arguments"] == b'{"expression":"6*7"}'
        assert attempt["definition_hash"] == calculator.spec.definition_hash
        assert attempt["duration_ms"] > 0


@pytest.mark.parametrize(
    ("call", "stage", "said"),
    [
        (
            {"name": "format_disk", "args": {}},
            "resolve",
            "no tool named 'format_disk'; there are calculator, ",
        ),
        ({"name": "calculator", "args": {"expression": "1", "tenant": "x"}}, "schema", "tenant"),
        ({"name": "calculator", "args": {}}, "schema", "expression"),
        ({"name": "calculator", "args": {"expression": 7}}, "schema", "string"),
        ({"name": "calculator", "args": {"expression": float("nan")}}, "canonicalise", "not JSON"),
        ({"name": "calculator", "args": {"expression": "\ud800"}}, "canonicalise", "not JSON"),
        ({"name": "note_write", "args": {"title": "a\0b", "text": "x"}}, "canonicalise", "NUL"),
        ({"name": "calculator", "args": {"expression": "1", "a\0b": [["x"]]}}, "canonicalise", "NUL"),
        ({"name": "order_lookup", "args": {"order_id": "A-1001; DROP"}}, "schema", "order_id"),
    ],
)
async def test_a_refused_call_is_answered_and_recorded(
    database: Database, call: dict[str, Any], stage: str, said: str
) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [call])) as thread:
        [answer] = await thread.ask()
        assert answer.status == "error"
        assert said in answer.content
        assert await thread.trail() == [(call["name"], stage, "refused")]


async def test_a_call_whose_id_no_row_can_hold_is_made_and_recorded(database: Database) -> None:
    odd = "a\0b"
    refund = {"name": "order_refund", "args": {"order_id": "A-1001", "amount_cents": 1, "reason": "test"}}
    calls = [{**SUM, "id": odd}, {**SUM, "id": column_text(odd)}, {**refund, "id": odd}]
    async with governed(database, tool_graph(ToolNode(BUILTIN), calls)) as thread:
        await thread.ask()
        computed, also_computed, refunded = await thread.resume(APPROVE)
        assert (computed.content, also_computed.content) == ("42", "42")
        assert [m.tool_call_id for m in (computed, refunded)] == [odd, odd]
        assert refunded.status == "success"
        assert {outcome for _, _, outcome in await thread.trail()} == {"succeeded", "waiting", "replayed"}
        assert len({a["tool_call_id"] for a in await thread.attempts()}) == 2


async def test_a_principal_without_the_permission_is_refused(database: Database) -> None:
    clerk = Principal(tenant="default", subject="bob", permissions=frozenset({"orders:read"}))
    calls = [
        {"name": "order_lookup", "args": {"order_id": "A-1001"}},
        {"name": "order_refund", "args": {"order_id": "A-1001", "amount_cents": 1, "reason": "test"}},
    ]
    async with governed(database, tool_graph(ToolNode(BUILTIN), calls), principal=clerk) as thread:
        found, refused = await thread.ask()
        assert '"customer":"Ada Lovelace"' in found.content
        assert refused.content == "Refused: no policy permits it."
        assert ("order_refund", "policy", "refused") in await thread.trail()


async def test_a_forbid_that_cannot_be_evaluated_refuses(database: Database, tmp_path: Any) -> None:
    policies = tmp_path / "overflow.cedar"
    policies.write_text(
        '@id("all") permit (principal, action, resource);\n'
        '@id("too-many") forbid (principal, action, resource)\n'
        "when { (context.toolCalls + 9223372036854775807) + 1 > 0 };"
    )
    graph = tool_graph(ToolNode(BUILTIN), [SUM])
    async with governed(database, graph, policies=policies) as thread:
        [answer] = await thread.ask()
        assert "could not be evaluated" in answer.content
        assert await thread.trail() == [("calculator", "policy", "refused")]


async def test_a_foreign_agent_runs_its_plain_tools_out_of_the_box(database: Database) -> None:
    @tool
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"sun in {city}"

    agent = create_agent(ScriptedModel(calls=[{"name": "weather", "args": {"city": "Ulm"}}]), [weather])
    nobody = Principal(tenant="default", subject="bob")
    async with governed(database, agent, principal=nobody) as thread:
        [answer] = await thread.ask()
        assert answer.content == "sun in Ulm"
        [attempt] = await thread.attempts()
        assert (attempt["effect"], attempt["risk"], attempt["outcome"]) == (
            "external",
            "unknown",
            "succeeded",
        )


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_injected_arguments_and_commands_pass(database: Database, kind: str) -> None:
    seen: dict[str, Any] = {}

    def remember(
        text: str,
        state: Annotated[dict[str, Any], InjectedState],
        store: Annotated[BaseStore, InjectedStore()],
        call_id: Annotated[str, InjectedToolCallId],
        runtime: ToolRuntime,
    ) -> Command[Any]:
        """Remember a text."""
        seen.update(messages=len(state["messages"]), store=store, runtime=runtime.tool_call_id)
        return Command(update={"messages": [ToolMessage(f"kept {text}", tool_call_id=call_id)]})

    async def aremember(
        text: str,
        state: Annotated[dict[str, Any], InjectedState],
        store: Annotated[BaseStore, InjectedStore()],
        call_id: Annotated[str, InjectedToolCallId],
        runtime: ToolRuntime,
    ) -> Command[Any]:
        """Remember a text."""
        return remember(text, state, store, call_id, runtime)

    chosen = tool("remember")(remember if kind == "sync" else aremember)
    calls = [{"name": "remember", "args": {"text": "milk"}}, {"name": "remember", "args": {"text": "tea"}}]
    async with governed(database, tool_graph(ToolNode([chosen]), calls)) as thread:
        messages = await thread.ask()
        assert [m.content for m in messages] == ["kept milk", "kept tea"]
        assert seen["messages"] == 2
        assert seen["store"] is not None
        assert seen["runtime"].startswith("call-")
        assert {stage for _, stage, _ in await thread.trail()} == {"settle"}


async def test_a_handoff_out_of_a_sub_graph_passes(database: Database) -> None:
    @tool
    def hand_over(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Hand over to the other agent."""
        answer = ToolMessage("handed over", tool_call_id=call_id)
        return Command(goto="other", graph=Command.PARENT, update={"messages": [answer]})

    builder = StateGraph(MessagesState)
    builder.add_node("first", tool_graph(ToolNode([hand_over]), [{"name": "hand_over", "args": {}}]))
    builder.add_node("other", lambda _: {"messages": [AIMessage("other here")]})
    builder.add_edge(START, "first")
    async with governed(database, builder.compile()) as thread:
        assert [m.content for m in await thread.ask()] == ["handed over"]
        state = await thread.graph.aget_state(thread.config)
        assert state.values["messages"][-1].content == "other here"
        assert await thread.trail() == [("hand_over", "settle", "succeeded")]


async def test_a_result_is_replayed_even_if_its_artifact_cannot_be_kept(database: Database) -> None:
    @tool(response_format="content_and_artifact")
    async def draw() -> tuple[str, Any]:
        """Draw."""
        return "drawn", object()

    refund = {"name": "order_refund", "args": {"order_id": "A-1001", "amount_cents": 1, "reason": "test"}}
    graph = tool_graph(ToolNode([draw, *BUILTIN]), [{"name": "draw", "args": {}}, refund])
    async with governed(database, graph) as thread:
        await thread.ask()
        drawn, _ = await thread.resume({"decisions": [{"type": "reject"}]})
        assert drawn.content == "drawn"
        assert ("draw", "ledger", "replayed") in await thread.trail()


async def test_a_deleted_thread_takes_its_ledger_along_and_leaves_its_audit(database: Database) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [SUM])) as thread:
        await thread.ask()
        await database.execute(b"DELETE FROM interlock.threads WHERE thread_id = %s", (thread.thread_id,))
        assert await database.fetch_one(b"SELECT FROM interlock.tool_ledger") is None
        assert len(await thread.attempts()) == 1


async def test_a_sub_graph_and_a_synchronous_node_are_governed_too(database: Database) -> None:
    inner = tool_graph(ToolNode(BUILTIN), [SUM])
    by_hand = ToolNode(BUILTIN)

    def sync_node(state: MessagesState) -> Any:
        asked = AIMessage("", tool_calls=tool_calls([{**SUM, "id": "by-hand"}]))
        return {"messages": [asked, *by_hand.invoke({"messages": [asked]})["messages"]]}

    builder = StateGraph(MessagesState)
    builder.add_node("inner", inner)
    builder.add_node("sync", sync_node)
    builder.add_edge(START, "inner")
    builder.add_edge("inner", "sync")
    builder.add_edge("sync", END)
    async with governed(database, builder.compile()) as thread:
        assert [m.content for m in await thread.ask()] == ["42", "42"]
        namespaces = [a["checkpoint_ns"].split(":")[0] for a in await thread.attempts()]
        assert namespaces == ["inner", "sync"]
        assert await thread.trail() == [("calculator", "settle", "succeeded")] * 2


async def test_the_gateway_decides_the_call_that_middleware_made_of_it(database: Database) -> None:
    class Doubles(AgentMiddleware):
        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            call = request.tool_call
            changed = {**call, "args": {"expression": f"2*({call['args']['expression']})"}}
            return await handler(request.override(tool_call=changed))

    agent = create_agent(ScriptedModel(calls=[SUM]), [calculator], middleware=[Doubles()])
    async with governed(database, agent) as thread:
        [answer] = await thread.ask()
        assert answer.content == "84"
        [attempt] = await thread.attempts()
        assert attempt["arguments"] == b'{"expression":"2*(6*7)"}'


async def test_a_synchronous_wrapper_of_the_graph_keeps_working(database: Database) -> None:
    def shouting(request: Any, execute: Any) -> Any:
        result = execute(request)
        return result.model_copy(update={"content": f"{result.content}!"})

    async with governed(database, tool_graph(ToolNode(BUILTIN, wrap_tool_call=shouting), [SUM])) as thread:
        [answer] = await thread.ask()
        assert answer.content == "42!"
        assert await thread.trail() == [("calculator", "settle", "succeeded")]


async def test_retry_middleware_may_try_a_call_again_that_raised(database: Database) -> None:
    tries: list[int] = []

    @tool
    async def flaky() -> str:
        """Work at the second try."""
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("first")
        return "second"

    agent = create_agent(
        ScriptedModel(calls=[{"name": "flaky", "args": {}}]),
        [flaky],
        middleware=[ToolRetryMiddleware(max_retries=2, initial_delay=0, jitter=False)],
    )
    async with governed(database, agent) as thread:
        [answer] = await thread.ask()
        assert answer.content == "second"
        assert [outcome for _, _, outcome in await thread.trail()] == ["failed", "succeeded"]


@pytest.mark.parametrize("handles", [False, True])
async def test_an_error_of_a_tool_goes_where_the_graph_wants_it(database: Database, handles: bool) -> None:
    @tool
    async def broken() -> str:
        """Fail."""
        raise ToolException("no paper")

    node = ToolNode([broken], handle_tool_errors=handles)
    async with governed(database, tool_graph(node, [{"name": "broken", "args": {}}])) as thread:
        if handles:
            [answer] = await thread.ask()
            assert (answer.status, "no paper" in answer.content) == ("error", True)
        else:
            with pytest.raises(ToolException):
                await thread.ask()
        assert await thread.trail() == [("broken", "execute", "failed")]


@pytest.mark.parametrize("handles", [False, True])
@pytest.mark.parametrize(
    ("error", "said", "outcome"),
    [
        (ToolFailed("no such order"), "Error: no such order.", "failed"),
        (RetryTool("line busy"), "It may be tried again", "failed"),
        (OutcomeUnknown("line cut"), "is unknown", "unknown"),
    ],
)
async def test_a_declared_tool_says_what_its_failure_means(
    database: Database, error: Exception, said: str, outcome: str, handles: bool
) -> None:
    @declared(effect="external", risk="low")
    async def order_paper() -> str:
        """Order paper."""
        raise error

    node = ToolNode([order_paper], handle_tool_errors=handles)
    async with governed(database, tool_graph(node, [{"name": "order_paper", "args": {}}])) as thread:
        [answer] = await thread.ask()
        assert said in answer.content
        assert await thread.trail() == [("order_paper", "execute", outcome)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such date"), "ValueError: no such date"),
        (httpx.ReadTimeout("slow"), "ReadTimeout: slow"),
        (ToolFailed("no such order"), "no such order"),
    ],
)
async def test_a_dry_run_that_fails_refuses_the_call_and_bothers_nobody(
    database: Database, error: Exception, said: str
) -> None:
    async def preview() -> str:
        raise error

    @declared(effect="external", risk="high", dry_run=preview)
    async def order_paper() -> str:
        """Order paper."""
        return "ordered"

    graph = tool_graph(ToolNode([order_paper]), [{"name": "order_paper", "args": {}}])
    async with governed(database, graph) as thread:
        [answer] = await thread.ask()
        assert said in answer.content
        assert thread.waiting == []
        assert await thread.trail() == [("order_paper", "dry_run", "refused")]


@pytest.mark.parametrize(
    ("foreseen", "shown"),
    [(Decimal("2.50"), "2.50"), ({"on": date(2026, 1, 2)}, {"on": "2026-01-02"}), (object(), None)],
)
async def test_a_dry_run_may_answer_what_has_a_json_form(
    database: Database, foreseen: Any, shown: Any
) -> None:
    async def preview() -> Any:
        return foreseen

    @declared(effect="external", risk="high", dry_run=preview)
    async def order_paper() -> str:
        """Order paper."""
        return "ordered"

    graph = tool_graph(ToolNode([order_paper]), [{"name": "order_paper", "args": {}}])
    async with governed(database, graph) as thread:
        answers = await thread.ask()
        if shown is None:
            assert "Refused: the dry run failed" in answers[0].content
        else:
            [waiting] = thread.waiting
            assert waiting["value"]["review"]["dry_run"] == shown


async def test_a_call_that_was_cut_off_is_not_repeated_until_a_person_says_so(
    database: Database, until: Any
) -> None:
    started: list[int] = []
    free = asyncio.Event()

    @tool
    async def send_letter(to: str) -> str:
        """Send a letter."""
        started.append(1)
        await free.wait()
        return f"sent to {to}"

    graph = tool_graph(ToolNode([send_letter]), [{"name": "send_letter", "args": {"to": "Ann"}}])
    async with governed(database, graph) as thread:
        dying = asyncio.create_task(thread.ask())
        await until(lambda: started)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        free.set()

        assert await thread.run(None) == []
        [waiting] = thread.waiting
        assert waiting["value"]["review"]["kind"] == "outcome"
        assert len(started) == 1
        [answer] = await thread.resume(APPROVE)
        assert answer.content == "sent to Ann"
        assert len(started) == 2
        assert [outcome for _, _, outcome in await thread.trail()] == ["unknown", "succeeded"]


async def test_a_person_can_say_what_became_of_a_call_that_was_cut_off(
    database: Database, until: Any
) -> None:
    started: list[int] = []

    @tool
    async def send_letter(to: str) -> str:
        """Send a letter."""
        started.append(1)
        await asyncio.Event().wait()
        return to

    graph = tool_graph(ToolNode([send_letter]), [{"name": "send_letter", "args": {"to": "Ann"}}])
    async with governed(database, graph) as thread:
        dying = asyncio.create_task(thread.ask())
        await until(lambda: started)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        await thread.run(None)
        [answer] = await thread.resume({"decisions": [{"type": "respond", "message": "It is in the post."}]})
        assert answer.content == "It is in the post."
        assert len(started) == 1


async def test_a_node_that_is_retried_waits_for_a_call_that_still_runs(
    database: Database, until: Any
) -> None:
    letters: list[int] = []
    tries: list[int] = []
    free = asyncio.Event()

    @tool
    async def send_letter() -> str:
        """Send a letter."""
        letters.append(1)
        await free.wait()
        return "sent"

    @tool
    async def flaky() -> str:
        """Fail at first."""
        tries.append(1)
        if len(tries) == 1:
            await until(lambda: letters)
            raise ConnectionError("first")
        free.set()
        return "fine"

    graph = tool_graph(
        ToolNode([send_letter, flaky]),
        [{"name": "send_letter", "args": {}}, {"name": "flaky", "args": {}}],
        retry=RetryPolicy(initial_interval=0.01, max_attempts=2),
    )
    async with governed(database, graph) as thread:
        assert [m.content for m in await thread.ask()] == ["sent", "fine"]
        assert len(letters) == 1


async def test_an_idempotent_tool_is_made_again_under_the_same_key(database: Database, until: Any) -> None:
    keys: list[str] = []

    @declared(effect="external", risk="low", idempotent=True)
    async def book(context: ToolContext) -> str:
        """Book a seat."""
        keys.append(context.idempotency_key)
        if len(keys) == 1:
            await asyncio.Event().wait()
        return "booked"

    async with governed(database, tool_graph(ToolNode([book]), [{"name": "book", "args": {}}])) as thread:
        dying = asyncio.create_task(thread.ask())
        await until(lambda: keys)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        [answer] = await thread.run(None)
        assert answer.content == "booked"
        assert len(keys) == 2
        assert len(set(keys)) == 1


async def test_a_tool_that_never_returns_ends_at_its_deadline_with_an_unknown_outcome(
    database: Database,
) -> None:
    @declared(effect="external", risk="low", timeout_s=0.05)
    async def hang() -> str:
        """Hang."""
        await asyncio.Event().wait()
        return "never"

    async with governed(database, tool_graph(ToolNode([hang]), [{"name": "hang", "args": {}}])) as thread:
        [answer] = await thread.ask()
        assert "no answer in 0.05 s" in answer.content
        assert await thread.trail() == [("hang", "execute", "unknown")]
        row = await database.fetch_one(b"SELECT state FROM interlock.tool_ledger")
        assert row == {"state": "unknown"}


async def test_a_worker_that_lost_its_thread_starts_no_tool(database: Database) -> None:
    ran: list[int] = []

    @tool
    async def act() -> str:
        """Act."""
        ran.append(1)
        return "done"

    async with governed(database, tool_graph(ToolNode([act]), [{"name": "act", "args": {}}])) as thread:
        await database.execute(b"UPDATE interlock.threads SET fence = fence + 1")
        with pytest.raises(FenceLost):
            await thread.ask()
        assert ran == []


async def test_a_worker_that_loses_its_thread_while_a_tool_runs_records_nothing_more(
    database: Database,
) -> None:
    @tool
    async def act() -> str:
        """Act."""
        await database.execute(b"UPDATE interlock.threads SET fence = fence + 1")
        return "done"

    async with governed(database, tool_graph(ToolNode([act]), [{"name": "act", "args": {}}])) as thread:
        with pytest.raises(FenceLost):
            await thread.ask()
        assert await thread.trail() == []
        row = await database.fetch_one(b"SELECT state FROM interlock.tool_ledger")
        assert row == {"state": "started"}


async def test_a_long_result_is_cut_and_says_so(database: Database) -> None:
    @tool
    async def read_book() -> str:
        """Read a book."""
        return "word " * 1000

    graph = tool_graph(ToolNode([read_book]), [{"name": "read_book", "args": {}}])
    async with governed(database, graph, max_result_chars=1000) as thread:
        [answer] = await thread.ask()
        assert answer.content.endswith("[cut here: the result has 5000 characters, 1000 are shown]")


async def test_a_result_that_is_not_what_was_declared_is_kept_from_the_model(database: Database) -> None:
    @declared(effect="read", risk="low")
    async def count() -> int:
        """Count."""
        return "many"  # pyright: ignore[reportReturnType] - the fault under test

    async with governed(database, tool_graph(ToolNode([count]), [{"name": "count", "args": {}}])) as thread:
        [answer] = await thread.ask()
        assert "not what it declares" in answer.content
        assert "many" not in answer.content
        assert await thread.trail() == [("count", "result", "failed")]


async def test_the_server_fills_in_bound_parameters_and_refuses_a_model_that_does(
    database: Database,
) -> None:
    @declared(effect="read", risk="low")
    async def whoami(
        tenant: Annotated[str, Bound("tenant")], subject: Annotated[str, Bound("subject")]
    ) -> str:
        """Tell who asks."""
        return f"{tenant}/{subject}"

    calls = [{"name": "whoami", "args": {}}, {"name": "whoami", "args": {"tenant": "other"}}]
    async with governed(database, tool_graph(ToolNode([whoami]), calls)) as thread:
        own, forged = await thread.ask()
        assert own.content == "default/ann"
        assert forged.status == "error"


def bypassing_graph() -> Any:
    async def node(state: MessagesState) -> Any:
        @tool
        async def hidden(x: int) -> str:
            """Run beside the gateway."""
            return str(x)

        return {"messages": [AIMessage(await hidden.ainvoke({"x": 1}))]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile()


async def test_a_tool_called_past_the_gateway_is_recorded_and_counted(database: Database) -> None:
    async with governed(database, bypassing_graph()) as thread:
        await thread.ask()
        assert await thread.trail() == [("hidden", "resolve", "bypassed")]
        assert thread.meter.usage.tool_calls == 1


async def test_enforce_refuses_a_tool_called_past_the_gateway(database: Database) -> None:
    async with governed(database, bypassing_graph(), mode="enforce") as thread:
        with pytest.raises(ToolBypassed, match="hidden"):
            await thread.ask()
        assert await thread.trail() == [("hidden", "resolve", "refused")]


async def test_enforce_lets_governed_tools_through(database: Database) -> None:
    graph = tool_graph(ToolNode(BUILTIN), [SUM])
    async with governed(database, graph, mode="enforce") as thread:
        [answer] = await thread.ask()
        assert answer.content == "42"


async def test_outside_a_run_a_governed_graph_works_as_before(database: Database) -> None:
    @tool
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"sun in {city}"

    graph = tool_graph(ToolNode([weather]), [{"name": "weather", "args": {"city": "Ulm"}}])
    async with governed(database, graph) as thread:
        result = await thread.graph.ainvoke({"messages": [HumanMessage("x")]}, thread.config)
        assert result["messages"][-1].content == "sun in Ulm"
        assert await thread.attempts() == []


async def test_the_next_turn_with_the_same_call_id_is_a_new_call(database: Database) -> None:
    async with governed(database, tool_graph(ToolNode(BUILTIN), [SUM])) as thread:
        await thread.ask()
        await thread.ask()
        assert await thread.trail() == [("calculator", "settle", "succeeded")] * 2
