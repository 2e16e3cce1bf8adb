"""The stages of the gateway that need nothing but the call: resolve to policy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol
from uuid import UUID

from langchain_core.tools import BaseTool
from langgraph.store.base import BaseStore

from .audit import Attempt, Outcome, Stage, column_text
from .canonical import Canonical, NotJson, canonical
from .context import RunScope
from .ledger import CallKey
from .policy.cedar import Policies, UnknownTools
from .policy.permissions import Principal
from .policy.review import Review
from .registry import Registry
from .spec import ToolSpec

Mode = Literal["enforce", "observe"]
"""What a tool that runs past the gateway meets. enforce: it is refused. observe: it is recorded."""


class GatewayOptions(Protocol):
    """What an operator sets for every call; the settings of the server are one."""

    @property
    def mode(self) -> Mode:
        """What a tool that runs past the gateway meets."""
        ...

    @property
    def unknown(self) -> UnknownTools:
        """What a plain tool meets whose risk nobody declared."""
        ...

    @property
    def timeout_s(self) -> float:
        """Deadline of a tool that declares none."""
        ...

    @property
    def max_result_chars(self) -> int:
        """Longest text of a result that a model is shown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRequest:
    """A call as the graph makes it."""

    name: str
    tool: BaseTool | None
    """What the graph would run; None when the model named a tool that is not there."""
    arguments: dict[str, Any]
    tool_call_id: str
    checkpoint_ns: str
    store: BaseStore | None = None
    offered: tuple[str, ...] = ()
    """Names of the tools that the graph has, for a model that names another one."""
    can_wait: bool = True
    """Whether the run pauses where this call does."""

    @property
    def stored_id(self) -> str:
        """The tool call id as a row can hold it; two ids never become the same."""
        stored = column_text(self.tool_call_id)
        if stored == self.tool_call_id:
            return stored
        return f"{stored}#{hashlib.sha256(self.tool_call_id.encode(errors='surrogatepass')).hexdigest()}"


class Refused(Exception):
    """A stage says no."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(reason)
        self.stage: Stage = stage
        self.reason = reason


@dataclass(slots=True, kw_only=True)
class Passage:
    """A call on its way through the stages; what is not known yet is None."""

    request: CallRequest
    principal: Principal
    run: RunScope
    policy_version: str
    spec: ToolSpec | None = None
    canonical: Canonical | None = None
    policy_ids: tuple[str, ...] = ()

    def attempt(
        self,
        *,
        stage: Stage,
        outcome: Outcome,
        reason: str | None = None,
        review_id: UUID | None = None,
        duration_ms: float | None = None,
    ) -> Attempt:
        """The audit row of an attempt that ended here."""
        known = self.canonical
        arguments = known.text if known else column_text(repr(self.request.arguments)).encode()
        return Attempt(
            scope=self.run,
            subject=self.principal.subject,
            tool=self.request.name,
            tool_call_id=self.request.stored_id,
            checkpoint_ns=self.request.checkpoint_ns,
            arguments=arguments,
            arguments_hash=known.hash if known else None,
            spec=self.spec,
            stage=stage,
            outcome=outcome,
            reason=reason,
            policy_ids=self.policy_ids,
            policy_version=self.policy_version,
            review_id=review_id,
            duration_ms=duration_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCall:
    """A call that may be made, though perhaps not without asking."""

    passage: Passage
    tool: BaseTool
    spec: ToolSpec
    canonical: Canonical
    needs_review: bool

    @property
    def request(self) -> CallRequest:
        """What the graph asked for."""
        return self.passage.request

    def see_that_it_can_wait(self) -> None:
        """Before a person is asked.

        Raises:
            Refused: the answer would find nobody.
        """
        if not self.request.can_wait:
            raise Refused(
                "review", "a person has to agree, and an agent on a thread of its own cannot wait for one"
            )

    def key_after(self, review: Review) -> CallKey:
        """The key of the call as a person let it be made, perhaps with other arguments.

        Raises:
            Refused: what that person wrote is not JSON.
        """
        changed = (review.answer or {}).get("arguments")
        return self.key if changed is None else replace(self.key, arguments_hash=_canonical(changed).hash)

    @property
    def key(self) -> CallKey:
        """What makes it the same call when the step runs again."""
        return CallKey(
            scope=self.passage.run,
            checkpoint_ns=self.request.checkpoint_ns,
            tool=self.spec.name,
            tool_call_id=self.request.stored_id,
            arguments_hash=self.canonical.hash,
        )


class Checks:
    """Stages one to five; one for each gateway."""

    def __init__(self, *, registry: Registry, policies: Policies, options: GatewayOptions) -> None:
        self._registry = registry
        self._policies = policies
        self._options = options

    def begin(self, request: CallRequest, *, principal: Principal, run: RunScope) -> Passage:
        """Start a call on its way."""
        return Passage(request=request, principal=principal, run=run, policy_version=self._policies.version)

    def run(self, passage: Passage, *, tool_calls: int) -> CheckedCall:
        """Take a call through the stages; the passage keeps how far it came.

        Args:
            passage: the call.
            tool_calls: how many the run made before; policies may ask.

        Raises:
            Refused: a stage says no.
        """
        request = passage.request
        if request.tool is None:
            offered = f"; there are {', '.join(request.offered)}" if request.offered else ""
            raise Refused("resolve", f"there is no tool named {request.name!r}{offered}")
        spec = passage.spec = self._registry.spec_of(request.tool)
        found = passage.canonical = _canonical(request.arguments)
        if spec.schema is not None and (problem := spec.schema.problem(request.arguments)):
            raise Refused("schema", f"the arguments do not fit: {problem}")
        # A field that the server fills in is not in the schema, so a closed schema refuses it above.
        # Where the arguments have no schema, its name is looked for.
        if spec.schema is None and (forged := spec.server_fields & request.arguments.keys()):
            raise Refused("bind", f"only the server fills in {', '.join(sorted(forged))}")
        context = {
            "graph": passage.run.graph_id,
            "assistant": str(passage.run.assistant_id),
            "unknownTools": self._options.unknown,
            "toolCalls": tool_calls,
        }
        verdict = self._policies.decide("call", passage.principal, spec, context=context)
        passage.policy_ids = verdict.policy_ids
        if not verdict.allowed:
            raise Refused("policy", verdict.reason)
        unreviewed = self._policies.decide("callUnreviewed", passage.principal, spec, context=context)
        if not unreviewed.allowed:
            passage.policy_ids = (*verdict.policy_ids, *unreviewed.policy_ids)
        return CheckedCall(
            passage=passage,
            tool=request.tool,
            spec=spec,
            canonical=found,
            needs_review=not unreviewed.allowed,
        )


def _canonical(arguments: dict[str, Any]) -> Canonical:
    try:
        return canonical(arguments)
    except NotJson as error:
        raise Refused("canonicalise", f"the arguments are not JSON: {error}") from error
