"""What A2A is answered: built in the shape of version 0.3, and turned into that of 1.0. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from ...encoding import JsonObject


class Version(StrEnum):
    """A version of the protocol."""

    OLD = "0.3"
    """Objects tell their `kind`."""
    NEW = "1.0"
    """JSON of protocol buffers: what an object is tells the name of the field that holds it."""


def text_part(text: str) -> JsonObject:
    """A part that is text."""
    return {"kind": "text", "text": text}


def data_part(data: JsonObject) -> JsonObject:
    """A part that is data."""
    return {"kind": "data", "data": data}


def message(
    role: str, parts: Sequence[JsonObject], *, message_id: str, place: Mapping[str, str]
) -> JsonObject:
    """A message of the `user` or the `agent`; `place` names the context and the task."""
    return {"kind": "message", "messageId": message_id, "role": role, "parts": list(parts), **place}


def status(state: str, *, at: datetime, said: JsonObject | None = None) -> JsonObject:
    """How a task stands."""
    told = {"message": said} if said is not None else {}
    return {"state": state, **told, "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z")}


def shown(answer: JsonObject, version: Version, *, wrapped: bool) -> JsonObject:
    """An answer as a version has it; `wrapped`: where it could be of several kinds."""
    if version is Version.OLD:
        return answer
    match answer["kind"]:
        case "task":
            name, newer = "task", _task(answer)
        case "status-update":
            name, newer = "statusUpdate", {**_named(answer), "status": _status(answer["status"])}
        case _:
            newer = {**_named(answer), "artifact": _artifact(answer["artifact"]), "lastChunk": True}
            name = "artifactUpdate"
    return {name: newer} if wrapped else newer


def _named(event: JsonObject) -> JsonObject:
    return {"taskId": event["taskId"], "contextId": event["contextId"]}


def _task(task: JsonObject) -> JsonObject:
    newer = {name: value for name, value in task.items() if name != "kind"}
    newer["status"] = _status(task["status"])
    newer["artifacts"] = [_artifact(one) for one in task["artifacts"]]
    newer["history"] = [_message(one) for one in task["history"]]
    return newer


def _status(older: JsonObject) -> JsonObject:
    newer = {**older, "state": f"TASK_STATE_{older['state'].replace('-', '_').upper()}"}
    if "message" in older:
        newer["message"] = _message(older["message"])
    return newer


def _message(older: JsonObject) -> JsonObject:
    newer = {name: value for name, value in older.items() if name != "kind"}
    return newer | {"role": f"ROLE_{older['role'].upper()}", "parts": _parts(older)}


def _artifact(older: JsonObject) -> JsonObject:
    return older | {"parts": _parts(older)}


def _parts(holder: JsonObject) -> list[JsonObject]:
    return [{name: value for name, value in part.items() if name != "kind"} for part in holder["parts"]]
