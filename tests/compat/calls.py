"""One fixed conversation with the server that uses every call of the client, step by step.

`js/calls.mjs` holds the same conversation with the same names, so all clients answer to one recording.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from langgraph_sdk.errors import APIStatusError

Results = dict[str, Any]


class Conversation:
    """The answers by name, in the order in which they came."""

    def __init__(self, client: Any, until: Any) -> None:
        self.client = client
        self.until = until
        self.mark = {"mark": str(uuid4())}
        self.results: Results = {}

    async def hold(self) -> Results:
        for part in (self.assistants, self.threads, self.states, self.runs, self.bulk, self.store):
            await part()
        return self.results

    def keep(self, name: str, value: Any) -> Any:
        self.results[name] = value
        return value

    async def refused(self, name: str, call: Any) -> None:
        """Keep the status with which a call is refused."""
        try:
            await call
        except APIStatusError as error:
            self.keep(name, error.status_code)
        else:
            raise AssertionError(f"{name} was not refused")

    async def is_at(self, thread: str, node: str) -> bool:
        return (await self.client.threads.get_state(thread))["next"] == [node]

    async def assistants(self) -> None:
        assistants, keep = self.client.assistants, self.keep
        keep(
            "assistants.search of a graph",
            await assistants.search(graph_id="hitl", metadata={"created_by": "system"}),
        )
        made = keep(
            "assistants.create",
            await assistants.create(
                "abc",
                config={"recursion_limit": 20, "tags": ["t"]},
                context={"colour": "red"},
                metadata=self.mark,
                name="First",
                description="What it is for",
            ),
        )
        number = made["assistant_id"]
        await self.refused("assistants.create twice", assistants.create("abc", assistant_id=number))
        keep(
            "assistants.create or keep",
            await assistants.create("abc", assistant_id=number, name="Other", if_exists="do_nothing"),
        )
        await self.refused("assistants.create of no graph", assistants.create("no-such-graph"))
        keep("assistants.update", await assistants.update(number, name="Second", metadata={"more": 1}))
        keep("assistants.get", await assistants.get(number))
        keep("assistants.versions", await assistants.get_versions(number))
        keep("assistants.set_latest", await assistants.set_latest(number, 1))
        keep(
            "assistants.search", await assistants.search(metadata=self.mark, sort_by="name", sort_order="asc")
        )
        keep("assistants.count", await assistants.count(metadata=self.mark))
        keep("assistants.graph", await assistants.get_graph(number))
        keep("assistants.schemas", await assistants.get_schemas(number))
        keep("assistants.delete", await assistants.delete(number))
        await self.refused("assistants.get after delete", assistants.get(number))
        found = await assistants.search(graph_id="sub", metadata={"created_by": "system"})
        sub = found[0]["assistant_id"]
        keep("assistants.graph with sub-graphs", await assistants.get_graph(sub, xray=True))
        keep("assistants.subgraphs", list(await assistants.get_subgraphs(sub)))

    async def threads(self) -> None:
        threads, keep = self.client.threads, self.keep
        made = keep("threads.create", await threads.create(metadata=self.mark, graph_id="abc"))
        number = made["thread_id"]
        await self.refused("threads.create twice", threads.create(thread_id=number))
        keep("threads.create or keep", await threads.create(thread_id=number, if_exists="do_nothing"))
        keep("threads.get", await threads.get(number))
        keep("threads.update", await threads.update(number, metadata={"title": "Lorries"}))
        keep("threads.search", await threads.search(metadata=self.mark, status="idle"))
        keep("threads.count", await threads.count(metadata=self.mark))
        copy = keep("threads.copy", await threads.copy(number))["thread_id"]
        keep("threads.prune", await threads.prune([copy]))
        keep("threads.delete", await threads.delete(number))
        await self.refused("threads.get after delete", threads.get(number))

    async def states(self) -> None:
        threads, runs, keep = self.client.threads, self.client.runs, self.keep
        number = (await threads.create(metadata=self.mark))["thread_id"]
        keep("threads.state of an empty thread", await threads.get_state(number))
        keep("runs.wait with a breakpoint", await runs.wait(number, "abc", input={}, interrupt_before=["C"]))
        state = keep("threads.state", await threads.get_state(number))
        keep("threads.state of a checkpoint", await threads.get_state(number, checkpoint=state["checkpoint"]))
        keep("threads.update_state", await threads.update_state(number, {"trace": ["by hand"]}, as_node="B"))
        keep("threads.history", await threads.get_history(number, limit=2))
        keep(
            "threads.history before", await threads.get_history(number, before=state["checkpoint"], limit=10)
        )
        keep("threads.get after a state", await threads.get(number))
        deep = (await threads.create(metadata=self.mark))["thread_id"]
        await runs.wait(
            deep, "sub", input={"messages": [{"type": "human", "content": "hi", "id": "question"}]}
        )
        keep("threads.state with sub-graphs", await threads.get_state(deep, subgraphs=True))
        keep("threads.state without sub-graphs", await threads.get_state(deep))
        keep("threads.get of an interrupted thread", await threads.get(deep))

    async def runs(self) -> None:
        threads, runs, keep = self.client.threads, self.client.runs, self.keep
        number = (await threads.create(metadata=self.mark))["thread_id"]
        await self.refused("runs.create of no graph", runs.create(number, "no-such-graph"))
        await self.refused("runs.create on no thread", runs.create(str(uuid4()), "abc", input={}))
        run = keep("runs.create", await runs.create(number, "abc", input={}, metadata={"why": "test"}))[
            "run_id"
        ]
        keep("runs.join", await runs.join(number, run))
        keep("runs.get", await runs.get(number, run))
        keep("runs.list", await runs.list(number))
        keep("runs.wait", await runs.wait(number, "abc", input={}))
        failed = await runs.wait(number, "err", input={}, raise_error=False)
        keep("runs.wait of an error", failed)
        keep("runs.wait without a thread", await runs.wait(None, "abc", input={}))
        keep(
            "runs.stream without a thread",
            [[p.event, p.data] async for p in runs.stream(None, "abc", input={})],
        )
        replayed = await runs.create(number, "abc", input={}, stream_mode=["updates"], stream_resumable=True)
        parts = [part async for part in runs.join_stream(number, replayed["run_id"], last_event_id="-1")]
        keep("runs.join_stream", [[part.event, part.data] for part in parts])
        rest = runs.join_stream(number, replayed["run_id"], last_event_id=parts[1].id)
        keep("runs.join_stream after an id", [[part.event, part.data] async for part in rest])
        keep("runs.delete", await runs.delete(number, run))
        await self.refused("runs.get after delete", runs.get(number, run))
        first = await runs.create(number, "slow", input={"steps": 2, "seconds": 60})
        await self.until(lambda: self.is_at(number, "step"))
        second = keep("runs.create on a busy thread", await runs.create(number, "abc", input={}))
        await self.refused(
            "runs.create rejected", runs.create(number, "abc", input={}, multitask_strategy="reject")
        )
        keep("runs.cancel of a pending run", await runs.cancel(number, second["run_id"]))
        keep("runs.cancel and wait", await runs.cancel(number, first["run_id"], wait=True))
        ended = [(await runs.get(number, r["run_id"]))["status"] for r in (first, second)]
        keep("statuses of cancelled runs", ended)
        keep("threads.get after a cancel", await threads.get(number))

    async def bulk(self) -> None:
        threads, runs, keep = self.client.threads, self.client.runs, self.keep
        made = await runs.create_batch(
            [{"assistant_id": "abc", "input": {}}, {"assistant_id": "hitl", "input": {}}]
        )
        keep("runs.create_batch", [run["kwargs"]["input"] for run in made])
        number = (await threads.create(metadata=self.mark))["thread_id"]
        slow = await runs.create(number, "slow", input={"steps": 2, "seconds": 60})
        ids = [slow["run_id"]]
        keep("runs.cancel_many", await runs.cancel_many(thread_id=number, run_ids=ids, action="interrupt"))
        await runs.join(number, ids[0])
        keep("status after cancel_many", (await runs.get(number, ids[0]))["status"])

    async def store(self) -> None:
        store, keep = self.client.store, self.keep
        space = ["compat", self.mark["mark"]]
        keep("store.put", await store.put_item([*space, "a"], "one", {"n": 1, "colour": "red"}))
        await store.put_item([*space, "b"], "two", {"n": 2, "colour": "blue"})
        keep("store.get", await store.get_item([*space, "a"], "one"))
        keep("store.get of nothing", await store.get_item([*space, "a"], "none"))
        keep("store.search", await store.search_items(space, filter={"colour": "blue"}))
        keep("store.search for more than", await store.search_items(space, filter={"n": {"$gt": 1}}))
        keep("store.namespaces", await store.list_namespaces(prefix=space))
        keep("store.namespaces to a depth", await store.list_namespaces(prefix=space, max_depth=2))
        keep("store.delete", await store.delete_item([*space, "a"], "one"))
        keep("store.get after delete", await store.get_item([*space, "a"], "one"))
