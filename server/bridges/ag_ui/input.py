"""The one message that a user interface sends, as the request of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from ag_ui.core import RunAgentInput
from pydantic import ValidationError

from ...api.callers import Caller
from ...api.problems import first_fault
from ...domain import Assistant, Thread
from ...encoding import JsonObject
from ...errors import Invalid, NoSuchInterrupt
from ...runs.admission import RunRequest
from ..offered import MESSAGES, Form
from ..speech import messages_of
from ..waiting import Waiting
from .answers import resume_of
from .messages import given

OURS = "ag-ui"
"""Key of a state under which graphs written for AG-UI look for what the application offers."""
CONFIGURABLE = "ag_ui"
"""Key of `configurable` under which every graph finds it."""
_LONGEST_NAME = 500


def read(raw: Any) -> RunAgentInput:
    """Check an input.

    Raises:
        Invalid: it is none.
    """
    try:
        wanted = RunAgentInput.model_validate(raw)
    except ValidationError as error:
        raise first_fault(error) from error
    for name, value in (("threadId", wanted.thread_id), ("runId", wanted.run_id)):
        if not 0 < len(value) <= _LONGEST_NAME:
            raise Invalid(f"`{name}` must have 1 to {_LONGEST_NAME} characters")
    return wanted


def thread_id_of(caller: Caller, name: str) -> UUID:
    """The thread of a conversation: a UUID is its id, another name is the caller's own name for one."""
    if (identity := _uuid(name)) is not None:
        return identity
    # Names are short, so two people may have the same: each one's is another thread.
    owned = f"{caller.principal.subject}\n{name}".encode("utf-8", "replace").decode()
    return uuid5(NAMESPACE_URL, owned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What makes a request of an input: the assistant and the thread it is for."""

    assistant: Assistant
    form: Form
    thread: Thread | None
    thread_id: UUID
    wanted: RunAgentInput

    def request(self) -> RunRequest:
        """The run that is asked for.

        Raises:
            ServerError: the thread waits for an answer that is not there, or there is one and it does not.
        """
        run_id = _uuid(self.wanted.run_id)
        offer = self._offer()
        return RunRequest(
            assistant_id=str(self.assistant.assistant_id),
            thread_id=self.thread_id,
            if_not_exists="create",
            config={"configurable": {CONFIGURABLE: offer}} if offer else {},
            stream_mode=("messages-tuple", "values", "custom"),
            # What is new was found out of the present state; a run in between would change that.
            multitask_strategy="reject",
            **({} if run_id is None else {"run_id": run_id}),
            **self._start(offer),
        )

    def _start(self, offer: JsonObject) -> JsonObject:
        new, entries = self._new(offer), self.wanted.resume or []
        waiting = Waiting.of(self.thread)
        if waiting is None:
            if entries and not new.get(MESSAGES):
                raise NoSuchInterrupt("nothing waits on this thread, and the input has no new messages")
            return {"input": new}
        resume = resume_of(waiting, entries)
        command = {} if resume is None else {"resume": resume}
        if any(new.values()):
            command["update"] = {name: value for name, value in new.items() if value}
        return {"command": command or None, "answers": waiting.ids}

    def _new(self, offer: JsonObject) -> JsonObject:
        """What the thread does not have yet."""
        values = self.thread.values or {} if self.thread else {}
        known = {one.get("id") for one in messages_of(values)}
        messages = [one for sent in self.wanted.messages if sent.id not in known and (one := given(sent))]
        if messages and not self.form.talks:
            raise Invalid("the graph of this assistant has no `messages`: send its input as `state`")
        new = {
            name: value
            for name, value in self._state().items()
            if name not in values or values[name] != value
        }
        declared = self.form.schema.get("properties") or {}
        if offer and "tools" in declared:
            new["tools"] = offer["tools"]
        if offer and OURS in declared:
            new[OURS] = {"tools": offer["tools"], "context": offer["context"]}
        return new | {MESSAGES: messages} if self.form.talks else new

    def _state(self) -> Mapping[str, Any]:
        """What of the state that is sent the graph takes; its messages travel on their own."""
        state = self.wanted.state
        if state is None:
            return {}
        if not isinstance(state, dict):
            raise Invalid("`state` must be an object: it is the state of a graph")
        declared = self.form.schema.get("properties")
        own = {name: value for name, value in state.items() if name != MESSAGES}
        return own if declared is None else {name: own[name] for name in own if name in declared}

    def _offer(self) -> JsonObject:
        """What the application offers the graph; nothing when it offers nothing."""
        wanted = self.wanted
        if not (wanted.tools or wanted.context or wanted.forwarded_props):
            return {}
        return {
            "tools": [one.model_dump(by_alias=True) for one in wanted.tools or ()],
            "context": [one.model_dump(by_alias=True) for one in wanted.context or ()],
            "forwardedProps": wanted.forwarded_props,
        }


def _uuid(name: str) -> UUID | None:
    try:
        return UUID(name)
    except ValueError:
        return None
