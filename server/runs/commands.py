"""What the commands of the thread protocol do. Their parameters are checked by whoever calls."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from ...tools.policy.permissions import Principal
from ..domain import Run, Thread
from ..errors import NoSuchInterrupt, NotFound
from ..records import queue, threads
from . import admission, introspection, state
from .admission import RunRequest
from .agent_tree import tree_of
from .continuing import by_interrupt_id
from .naming import assistant_named
from .permitting import assistant_held
from .state import Place

if TYPE_CHECKING:
    from ..resources import Resources

ErrorCode = Literal[
    "invalid_argument",
    "unknown_command",
    "unknown_error",
    "no_such_run",
    "no_such_subscription",
    "no_such_namespace",
    "no_such_interrupt",
    "no_such_checkpoint",
    "permission_denied",
    "not_supported",
]

ALL_MODES = ("values", "updates", "messages-tuple", "tasks", "checkpoints", "custom", "tools")
"""What a run of the protocol records: readers choose when they read."""

Result = dict[str, Any]


class CommandRefused(Exception):
    """A command that was understood and is not carried out."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message


class Commands:
    """The commands on one thread, by one principal."""

    def __init__(
        self, resources: Resources, principal: Principal, thread_id: UUID, *, headers: Mapping[str, str]
    ) -> None:
        self._resources = resources
        self._principal = principal
        self._thread_id = thread_id
        self._headers = headers

    async def start(self, request: Mapping[str, Any]) -> Result:
        """Queue a run and answer at once; the thread is made if there is none.

        On a thread that waits, answers by interrupt id are answers. So is what names no field of the graph's
        input, if that declares any; all else is a new input, and `{}` is one too.
        """
        if answers := await self._answers_in(request):
            resumed = {"input": None, "command": {"resume": answers}, "answers": tuple(answers)}
            request = {**request, **resumed, "strict_resume": True}
        run = await self._admit(if_not_exists="create", **request)
        return {"run_id": str(run.run_id)}

    async def respond(
        self, answers: Mapping[str, Any], *, command: Mapping[str, Any], request: Mapping[str, Any]
    ) -> Result:
        """Answer interrupts of the thread by their ids, with `update` and `goto` in the same step."""
        thread = await self._thread()
        if thread is None:
            raise NoSuchInterrupt("there is no such thread, and so nothing waits for this answer")
        assistant_id = thread.left_by.assistant_id if thread.left_by else thread.metadata.get("assistant_id")
        if assistant_id is None:
            raise NoSuchInterrupt("nothing has run on this thread, and so nothing waits for this answer")
        await self._admit(
            assistant_id=str(assistant_id),
            command={"resume": dict(answers), **command},
            answers=tuple(answers),
            strict_resume=True,
            **request,
        )
        return {}

    async def inject(self, message: Mapping[str, Any], *, namespace: Sequence[str]) -> Result:
        """Give the agent a message: it gets its turn after what is in flight."""
        if namespace:
            raise CommandRefused("not_supported", "messages go to the root: send `namespace: []`")
        await self._admit(assistant_id=await self._assistant(), input={"messages": [dict(message)]})
        return {}

    async def tree(self, run_id: UUID | None) -> Result:
        """What a run consists of; without an id the run in flight, or else the last one."""
        run = await self._run(run_id)
        if run is None:
            raise CommandRefused("no_such_run", "there is no such run on this thread")
        return {"tree": await tree_of(self._resources, run)}

    async def get_state(self, namespace: Sequence[str], keys: Sequence[str] | None) -> Result:
        """The state of the thread or of a sub-graph, and the checkpoint it was read from."""
        found = await self._state(Place(checkpoint_ns="|".join(namespace)))
        if namespace and found["checkpoint"] is None:
            raise CommandRefused("no_such_namespace", f"there is no state at {list(namespace)!r}")
        values = found["values"] if isinstance(found["values"], dict) else {"__root__": found["values"]}
        if keys is not None:
            values = {key: values[key] for key in keys if key in values}
        if found["checkpoint"] is None:
            return {"values": values}
        place = found["checkpoint"]
        return {"values": values, "checkpoint": {"id": place["checkpoint_id"], "ns": place["checkpoint_ns"]}}

    async def list_checkpoints(self, namespace: Sequence[str], *, limit: int, before: str | None) -> Result:
        """Checkpoints of the thread or of a sub-graph, newest first."""
        checkpoint_ns = "|".join(namespace)
        walking = state.history(
            self._resources,
            self._principal,
            thread_id=self._thread_id,
            # One more tells which node led to the last.
            limit=limit + 1,
            before=Place(checkpoint_id=before, checkpoint_ns=checkpoint_ns) if before else None,
            checkpoint_ns=checkpoint_ns,
        )
        async with contextlib.aclosing(walking):
            states = [one async for one in walking]
        parents = {one["checkpoint_id"]: one for one in states}
        return {"checkpoints": [_summary(one, parents) for one in states[:limit]]}

    async def fork(self, checkpoint_id: str, request: Mapping[str, Any]) -> Result:
        """Start a run from an earlier checkpoint."""
        found = await self._state(Place(checkpoint_id=checkpoint_id))
        if found["checkpoint"] is None:
            raise CommandRefused(
                "no_such_checkpoint", f"there is no checkpoint {checkpoint_id!r} on this thread"
            )
        run = await self._admit(assistant_id=await self._assistant(), checkpoint_id=checkpoint_id, **request)
        return {"run_id": str(run.run_id), "thread_id": str(run.thread_id)}

    async def require_run(self, run_id: UUID) -> None:
        """See to it that a run is there.

        Raises:
            CommandRefused: it is not.
        """
        if await self._run(run_id) is None:
            raise CommandRefused("no_such_run", "there is no such run on this thread")

    async def _admit(self, **request: Any) -> Run:
        wanted = RunRequest(
            thread_id=self._thread_id,
            stream_mode=ALL_MODES,
            stream_subgraphs=True,
            stream_resumable=True,
            headers=self._headers,
            **request,
        )
        return await admission.admit(self._resources, self._principal, wanted)

    async def _answers_in(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The answers by interrupt id, when an input is one: so `RemoteGraph` sends its resumes."""
        given = request["input"]
        forks = (request["config"].get("configurable") or {}).get("checkpoint_id") is not None
        thread = None if given is None or given == {} or forks else await self._thread()
        if thread is None or not thread.interrupts:
            return None
        waiting = [one["id"] for one in thread.asked]
        by_id = isinstance(given, dict) and given.keys() <= set(waiting)
        if not by_id and await self._takes(request["assistant_id"], given):
            return None
        if (answers := by_interrupt_id(given, waiting)) is None:
            raise CommandRefused(
                "invalid_argument", f"{len(waiting)} interrupts wait: send the answers by their ids"
            )
        return answers

    async def _takes(self, assistant: str, given: Any) -> bool:
        assistant_id = assistant_named(self._resources.catalog, assistant)
        held = await assistant_held(self._resources, self._principal, assistant_id)
        return await introspection.takes(
            self._resources, self._principal, str(assistant_id), given, held=held
        )

    async def _thread(self) -> Thread | None:
        async with self._resources.database.connection() as connection:
            return await threads.get(connection, tenant_id=self._principal.tenant, thread_id=self._thread_id)

    async def _assistant(self) -> str:
        thread = await self._thread()
        if thread is None:
            raise NotFound(f"Thread with ID {self._thread_id} not found")
        if "assistant_id" not in thread.metadata:
            raise CommandRefused("invalid_argument", "nothing has run on this thread; send `run.start` first")
        return str(thread.metadata["assistant_id"])

    async def _run(self, run_id: UUID | None) -> Run | None:
        identity: dict[str, Any] = {"tenant_id": self._principal.tenant, "thread_id": self._thread_id}
        async with self._resources.database.connection() as connection:
            if run_id is not None:
                return await queue.get_run(connection, **identity, run_id=run_id)
            found = await queue.inflight_runs(connection, **identity)
            found = found or await queue.list_runs(connection, **identity, limit=1)
        return found[0] if found else None

    async def _state(self, place: Place) -> Mapping[str, Any]:
        try:
            return await state.read(self._resources, self._principal, thread_id=self._thread_id, place=place)
        except ValueError as error:
            # So LangGraph says that a graph has no such sub-graph.
            if not place.checkpoint_ns:
                raise
            raise CommandRefused("no_such_namespace", str(error)) from error


def _summary(one: Mapping[str, Any], parents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    metadata = one["metadata"] or {}
    summary: dict[str, Any] = {
        "id": one["checkpoint_id"],
        "timestamp": one["created_at"],
        "step": metadata.get("step", -1),
        "metadata": metadata,
    }
    parent = parents.get(one["parent_checkpoint_id"])
    if metadata.get("source") == "loop" and parent is not None and len(parent["next"]) == 1:
        summary["node_name"] = parent["next"][0]
    return summary
