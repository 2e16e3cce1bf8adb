"""Lets runs in: thread rule, multitask strategy, what the assistant adds, first event, wake-up.

Each admission is one transaction. A refusal is raised inside it and so leaves no trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from ...checkpoints.database import Connection
from ...checkpoints.errors import Conflict
from ...tools.policy.budget import Budget, BudgetInvalid
from ...tools.policy.permissions import Principal
from ..domain import Assistant, Durability, MultitaskStrategy, Run, Thread
from ..encoding import encode
from ..errors import Conflicting, Invalid, NotFound
from ..protocol.run_events import created_data
from ..records import queue, threads
from ..records.held import Held, stamped
from ..records.segments import NewEvent
from . import cancel, refusals
from .continuing import acting_principal, require_budget, require_waiting
from .naming import NO_THREAD, assistant_of
from .permitting import Permit, permit
from .priority import ThreadPriority, decided_for, run_metadata
from .reviews import ResumePlan, answer
from .threads import default_ttl
from .webhooks import require_target

if TYPE_CHECKING:
    from ..resources import Resources

BUSY = "Thread is already running a task. Wait for it to finish or choose a different multitask strategy."
_PLACE = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
_OURS = frozenset({"thread_id", "run_id", "cron_id", *_PLACE})
"""Keys of `configurable` that say where a run belongs, not a setting of the graph."""
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a client asks for; docs/reference/http-api.md explains the fields."""

    assistant_id: str
    """A UUID, or the name of a graph for its default assistant."""
    thread_id: UUID | None = None
    """None: a stateless run, on a thread made for it."""
    run_id: UUID = field(default_factory=uuid7)
    if_not_exists: Literal["reject", "create"] = "reject"
    input: Any = None
    command: Mapping[str, Any] | None = None
    """`resume`, `update` and `goto`; wins over `input`."""
    config: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, Any] | None = None
    """Where to fork: `checkpoint_id`, `checkpoint_ns`, `checkpoint_map`."""
    checkpoint_id: str | None = None
    interrupt_before: Literal["*"] | Sequence[str] | None = None
    interrupt_after: Literal["*"] | Sequence[str] | None = None
    stream_mode: Sequence[str] = ()
    """None: `values`."""
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    strict_resume: bool = False
    """A resume that answers what does not wait fails the run, instead of doing nothing."""
    answers: Sequence[str] = ()
    """Interrupts that must wait for an answer when the run is admitted."""
    durability: Durability | None = None
    checkpoint_during: bool | None = None
    """Older spelling: False means durability `exit`."""
    multitask_strategy: MultitaskStrategy = "enqueue"
    after_seconds: float = 0.0
    on_completion: Literal["delete", "keep"] = "delete"
    """What becomes of the thread of a stateless run."""
    webhook: str | None = None
    """Where the end of the run is told."""
    feedback_keys: Sequence[str] | None = None
    priority: int | None = None
    """Lower is served first; None: as the thread says."""
    cron_id: UUID | None = None
    """The cron that starts it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What came with the request and stands in `configurable`, over what the request says there itself."""
    idempotency_key: str | None = None
    """The same key with the same request is the same run; `headers` are not part of it."""

    @property
    def temporary(self) -> bool:
        """Whether the thread goes with the run."""
        return self.thread_id is None and self.on_completion == "delete"

    @property
    def parts(self) -> dict[str, Any] | None:
        """What the command says; None when it says nothing: the run just continues."""
        return {key: value for key, value in (self.command or {}).items() if value is not None} or None

    @property
    def resumes(self) -> bool:
        """Whether it answers an interrupt."""
        return "resume" in (self.parts or {})

    @property
    def continues(self) -> bool:
        """Whether it goes on from a checkpoint instead of starting with an input."""
        return self.input is None or self.parts is not None

    @property
    def only_continues(self) -> bool:
        """Whether it goes on and says nothing."""
        return self.input is None and self.parts is None

    @property
    def settings(self) -> dict[str, Any]:
        """The part of `configurable` that is the user's own."""
        return {
            key: value
            for key, value in (self.config.get("configurable") or {}).items()
            if key not in _OURS and not key.startswith(("x-", "langgraph_", "__"))
        }

    @property
    def place(self) -> dict[str, Any]:
        """Where in the thread's history the run starts, as keys of `configurable`."""
        named = {**(self.config.get("configurable") or {}), **(self.checkpoint or {})}
        if self.checkpoint_id is not None:
            named["checkpoint_id"] = self.checkpoint_id
        return {key: named[key] for key in _PLACE if named.get(key) is not None}


async def admit(resources: Resources, principal: Principal, request: RunRequest, *, held: Held = None) -> Run:
    """Queue one run, if the project's handlers let it in; `held` is what its thread must hold besides.

    Raises:
        ServerError: refused; nothing was stored.
    """
    return (await admit_batch(resources, principal, [request], held=held))[0]


async def admit_batch(
    resources: Resources, principal: Principal, requests: Sequence[RunRequest], *, held: Held = None
) -> list[Run]:
    """Queue several runs, all or none.

    Raises:
        ServerError: one of them is refused; nothing was stored.
    """
    refusals.require_few(resources.settings, requests)
    for request in requests:
        refusals.require_sense(request)
        require_target(resources, request.webhook)
    permits = [await permit(resources, principal, request, held=held) for request in requests]
    decided = [await decided_for(resources, principal, permit) for permit in permits]
    runs = await _admit_all(resources, principal, list(zip(permits, decided, strict=True)))
    for run in runs:
        resources.event_log.woken(run.tenant_id, run.thread_id)
    return runs


async def _admit_all(
    resources: Resources, principal: Principal, permits: Sequence[tuple[Permit, ThreadPriority | None]]
) -> list[Run]:
    for _ in range(_TRIES):
        try:
            async with resources.database.transaction() as connection:
                return [
                    await _Admission(resources, principal, connection, permit).admit(permit.request, decided)
                    for permit, decided in permits
                ]
        except Conflict as conflict:
            # The same key came in twice at once. The other one has committed, so the next try reads it.
            if conflict.constraint != "runs_idempotency_idx":
                raise
    raise Conflicting("an equal request with this Idempotency-Key is being admitted; try again")


@dataclass(slots=True)
class _Admission:
    """The part of a transaction that admits one run."""

    resources: Resources
    principal: Principal
    connection: Connection
    permit: Permit

    async def admit(self, request: RunRequest, decided: ThreadPriority | None) -> Run:
        request_hash = None if request.idempotency_key is None else _hash(request)
        if request_hash is not None and (earlier := await self._earlier(request, request_hash)):
            return earlier
        assistant = await assistant_of(
            self.resources, self.principal, self.connection, request.assistant_id, held=self.permit.assistant
        )
        thread = await self._thread(request)
        if request_hash is not None and request.thread_id is not None:
            # Its twin may have held the lock of the thread until now.
            earlier = await self._earlier(request, request_hash)
            if earlier is not None:
                return earlier
        thread, in_line = await self._make_room(request, thread)
        require_waiting(request.answers, thread=thread, in_line=in_line)
        plan = await self._resume(request, thread)
        require_budget(request, thread=thread, in_line=in_line, plan=plan)
        decides = plan is not None and bool(plan.answered)
        actor = acting_principal(
            self.principal, request, assistant, thread=thread, in_line=in_line, decides=decides
        )
        if actor != self.principal and not in_line:
            # Shuts out a state that somebody is just writing: nobody acts on that in another's name.
            await threads.take_fence(self.connection, tenant_id=thread.tenant_id, thread_id=thread.thread_id)
        new = self._new_run(request, assistant, thread, plan, actor)
        if decided is not None:
            new = replace(new, thread_priority=decided.priority, thread_group=decided.fairness_group)
        return await queue.insert_run(self.connection, replace(new, request_hash=request_hash))

    async def _earlier(self, request: RunRequest, request_hash: bytes) -> Run | None:
        key = self._key(request)
        assert key is not None
        found = await queue.run_by_key(self.connection, tenant_id=self.principal.tenant, idempotency_key=key)
        if found is None:
            return None
        run, earlier_hash = found
        if earlier_hash != request_hash:
            raise Invalid(f"Idempotency-Key {request.idempotency_key!r} was used before with another request")
        return run

    def _key(self, request: RunRequest) -> str | None:
        """The key as it is stored: those of different callers do not meet."""
        return request.idempotency_key and f"{self.principal.subject}\n{request.idempotency_key}"

    async def _thread(self, request: RunRequest) -> Thread:
        """Lock the thread of the run, or make it."""
        identity: dict[str, Any] = {
            "tenant_id": self.principal.tenant,
            "thread_id": request.thread_id or uuid7(),
        }
        thread = None
        if request.thread_id is None or request.if_not_exists == "create":
            metadata = stamped(request.metadata, self.permit.made)
            ttl = default_ttl(self.resources.settings)
            thread = await queue.create_thread(self.connection, **identity, metadata=metadata, ttl=ttl)
        if thread is None:
            thread = await queue.lock_thread(self.connection, **identity, held=self.permit.thread)
        if thread is None:
            raise NotFound(NO_THREAD)
        return thread

    async def _make_room(self, request: RunRequest, thread: Thread) -> tuple[Thread, list[Run]]:
        """Do to the runs in flight what the multitask strategy says; the thread then, and who is left there.

        Whoever starts with an input and waits for its turn is not told: to that run they do not matter.
        """
        strategy = request.multitask_strategy
        if request.thread_id is None or (strategy == "enqueue" and not request.continues):
            return thread, []
        identity: dict[str, Any] = {"tenant_id": thread.tenant_id, "thread_id": thread.thread_id}
        inflight = await queue.inflight_runs(self.connection, **identity)
        if not inflight or strategy == "enqueue":
            return thread, inflight
        if strategy == "reject":
            raise Conflicting(BUSY)
        await cancel.stop_in(
            self.connection,
            self.resources.settings,
            thread=thread,
            runs=inflight,
            action=strategy,
            reason=f"multitask {strategy}",
        )
        return await self._thread(request), []

    async def _resume(self, request: RunRequest, thread: Thread) -> ResumePlan | None:
        if request.command is None or not request.resumes:
            return None
        settings = self.resources.settings
        return await answer(
            self.connection,
            thread=thread,
            resume=request.command["resume"],
            principal=self.principal,
            # Without keys everybody is the same principal.
            four_eyes=settings.tools.four_eyes
            and (bool(settings.auth.api_keys) or self.resources.catalog.auth is not None),
        )

    def _new_run(
        self,
        request: RunRequest,
        assistant: Assistant,
        thread: Thread,
        plan: ResumePlan | None,
        actor: Principal,
    ) -> queue.NewRun:
        run_id = request.run_id
        metadata = stamped(run_metadata(request, assistant), self.permit.made)
        if actor != self.principal:
            metadata["resumed_by"] = self.principal.subject
        kwargs = _kwargs(request, assistant, metadata)
        refusals.require_end(self.resources.settings, kwargs["config"].get("recursion_limit"))
        budget = self._budget(request, assistant)
        if plan is not None:
            command = {**(request.command or {}), "resume": plan.resume}
            kwargs |= {"command": replace(request, command=command).parts, "input": None}
            budget = plan.budget or budget
        return queue.NewRun(
            tenant_id=thread.tenant_id,
            thread_id=thread.thread_id,
            run_id=run_id,
            assistant_id=assistant.assistant_id,
            graph_id=assistant.graph_id,
            multitask_strategy=request.multitask_strategy,
            metadata=metadata,
            kwargs=encode(kwargs),
            principal=actor.to_row(),
            priority=request.priority,
            thread_priority=None,
            thread_group=None,
            temporary=request.temporary,
            idempotency_key=self._key(request),
            request_hash=None,
            budget=budget.to_row(),
            after_seconds=request.after_seconds,
            created=NewEvent(
                kind="run.created",
                data=created_data(run_id=run_id, graph_id=assistant.graph_id, modes=kwargs["stream_mode"]),
            ),
        )

    def _budget(self, request: RunRequest, assistant: Assistant) -> Budget:
        """The limits of the server for this graph; the assistant and the run can only tighten them."""
        general = self.resources.settings.budget_of(assistant.graph_id)
        try:
            return Budget.from_row(general.model_dump()).tightened(
                Budget.from_row(assistant.config.get("budget")), Budget.from_row(request.config.get("budget"))
            )
        except BudgetInvalid as error:
            raise Invalid(str(error)) from error


def _kwargs(request: RunRequest, assistant: Assistant, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The request over what its assistant adds, in the shape that the wire echoes."""
    configurable = {
        **assistant.context,
        **(assistant.config.get("configurable") or {}),
        **(request.config.get("configurable") or {}),
        **(request.context or {}),
        **request.place,
        **request.headers,
    }
    # `__…` is LangGraph's own. A `RemoteGraph` that is a node sends some along, so they are not refused.
    configurable = {k: v for k, v in configurable.items() if k != "thread_id" and not k.startswith("__")}
    config = {**assistant.config, **request.config, "configurable": configurable, "metadata": dict(metadata)}
    config.pop("budget", None)
    durability = request.durability
    if durability is None and request.checkpoint_during is False:
        durability = "exit"
    return {
        "input": request.input,
        "command": request.parts,
        "config": config,
        "context": {**assistant.context, **request.settings, **(request.context or {})},
        "stream_mode": list(request.stream_mode) or ["values"],
        "interrupt_before": request.interrupt_before,
        "interrupt_after": request.interrupt_after,
        "webhook": request.webhook,
        "feedback_keys": request.feedback_keys,
        "temporary": request.temporary,
        "subgraphs": request.stream_subgraphs,
        "resumable": request.stream_resumable,
        "checkpoint_during": request.checkpoint_during,
        "durability": durability,
        **({"strict_resume": True} if request.strict_resume else {}),
    }


def _hash(request: RunRequest) -> bytes:
    names = RunRequest.__dataclass_fields__.keys() - {"headers", "run_id"}
    fields = {name: getattr(request, name) for name in names}
    canonical = orjson.dumps(orjson.loads(encode(fields)), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).digest()
