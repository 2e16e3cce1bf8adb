"""From a run's row to the arguments of its graph: input or command, config, context. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send
from langgraph.version import __version__ as LANGGRAPH_VERSION  # noqa: N812 - a constant, whatever its name
from pydantic import BaseModel

from ...tools.answers import stopped
from ...tools.policy.permissions import Principal
from ..domain import Run
from ..runs.catalog import user_of

_STRICT = "__pregel_strict_resume"
"""Makes LangGraph refuse a resume that answers what does not wait."""
_FORK_KEYS = ("checkpoint_id", "checkpoint_map", "checkpoint_ns")


def graph_config(run: Run, *, callbacks: list[BaseCallbackHandler], continues: bool) -> RunnableConfig:
    """The config of one attempt.

    Args:
        run: the run.
        callbacks: handlers of this attempt.
        continues: an earlier attempt left a checkpoint, so the fork that the request asked for is made.
    """
    asked: Mapping[str, Any] = run.kwargs["config"]
    configurable = dict(asked.get("configurable", {}))
    if continues:
        for key in _FORK_KEYS:
            configurable.pop(key, None)
    ids = {
        "thread_id": str(run.thread_id),
        "run_id": str(run.run_id),
        "graph_id": run.graph_id,
        "assistant_id": str(run.assistant_id),
    }
    metadata = {
        **asked.get("metadata", {}),
        **ids,
        "created_by": run.metadata.get("created_by", run.principal.subject),
        "run_attempt": run.attempt,
        "langgraph_version": LANGGRAPH_VERSION,
    }
    config: dict[str, Any] = {
        "configurable": {
            **configurable,
            **ids,
            **_user(run.principal, told=configurable.get("user_id")),
            "langgraph_request_id": None,
            **({_STRICT: True} if run.kwargs.get("strict_resume") else {}),
        },
        "metadata": metadata,
        "callbacks": callbacks,
        "run_id": run.run_id,
        "run_name": run.graph_id,
    }
    for key in ("tags", "recursion_limit", "max_concurrency"):
        if asked.get(key) is not None:
            config[key] = asked[key]
    return cast("RunnableConfig", config)


def _user(principal: Principal, *, told: Any) -> dict[str, Any]:
    """Who asked. Where the server asks nobody for credentials, it is who the client says it is.

    LangGraph hands an authenticated one to nodes as `server_info.user`.
    """
    user = user_of(principal)
    if user is None:
        return {"user_id": principal.subject if told is None else told}
    return {
        "user_id": principal.subject,
        "langgraph_auth_user": user,
        "langgraph_auth_user_id": user.identity,
        "langgraph_auth_permissions": list(user.permissions),
    }


def graph_input(run: Run, *, continues: bool) -> Any:
    """What the graph starts with: a command, an input, or None to go on from the checkpoint."""
    if continues:
        return None
    command = run.kwargs.get("command")
    return run.kwargs.get("input") if command is None else _command(command)


def graph_context(schema: type[Any] | None, context: Mapping[str, Any]) -> Any:
    """The context for a graph with this schema: only what it declares, None when that is nothing.

    Assistants and requests mirror `configurable` into the context, so there may be more in it.
    """
    if schema is None:
        return dict(context) or None
    if dataclasses.is_dataclass(schema):
        known = {f.name for f in dataclasses.fields(schema)}
    elif issubclass(schema, BaseModel):
        known = set(schema.model_fields)
    else:
        known = set(getattr(schema, "__annotations__", context))
    return {key: value for key, value in context.items() if key in known}


def with_orphans_answered(graph_input: Any, messages: Any) -> Any:
    """`graph_input` with an answer to each tool call that a cancelled run left without one.

    Providers refuse a conversation in which a tool call has no result, so without this every later
    message on the thread would fail.
    """
    if not isinstance(graph_input, dict) or not isinstance(new := graph_input.get("messages"), list):
        return graph_input
    orphans = _orphans(messages)
    if not orphans:
        return graph_input
    return {**graph_input, "messages": [*(stopped(call) for call in orphans), *new]}


def _orphans(messages: Any) -> list[ToolCall]:
    if not isinstance(messages, list):
        return []
    answered: set[str] = set()
    for message in reversed(cast("list[Any]", messages)):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [call for call in message.tool_calls if call["id"] not in answered]
        else:
            return []
    return []


def _command(command: Mapping[str, Any]) -> Command[Any]:
    update = command.get("update")
    if isinstance(update, list):
        update = [tuple(pair) for pair in cast("list[list[Any]]", update)]
    return Command(update=update, resume=command.get("resume"), goto=_goto(command.get("goto")))


def _goto(goto: Any) -> Any:
    if goto is None:
        return ()
    if isinstance(goto, list):
        return [_goto_one(item) for item in cast("list[Any]", goto)]
    return _goto_one(goto)


def _goto_one(target: Any) -> str | Send:
    return Send(target["node"], target.get("input")) if isinstance(target, dict) else target
