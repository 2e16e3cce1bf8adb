"""What a tool message says besides the result: who answered, whether it was done, what a person changed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import ToolMessage

Outcome = Literal["done", "failed", "refused", "rejected", "responded"]
"""done: the tool answered. failed: it could not. refused: by policy. rejected: by a person. responded: a
person answered in the place of the tool."""

_PREFIXES: Mapping[str, Outcome] = {"Refused: ": "refused", "Error: ": "failed"}
_UNTRUSTED = re.compile(r"<(?P<tag>untrusted[\w-]*)\b[^>]*>\n?(?P<text>.*?)\n?</(?P=tag)\b[^>]*>", re.DOTALL)
_CHANGED = re.compile(
    r"Note: a person changed this call.*?these arguments: (?P<arguments>\{.*?\})\. Do not repeat[^\n]*\n\n",
    re.DOTALL,
)
_REJECTED = re.compile(r"User rejected the tool call for `[^`]*`(?P<rest>.*)", re.DOTALL)
_REASON = re.compile(r" with reason: (?P<reason>.*?)\.? It was not executed\.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Result:
    """A tool message, taken apart."""

    outcome: Outcome
    text: str
    """The result alone, without notices, marks and prefixes. Of a rejection the reason, if any."""
    changed: Mapping[str, Any] | None = None
    """The arguments of the call as it ran, if a person changed them."""

    @property
    def value(self) -> Any:
        """The result as JSON if it is that, else its text."""
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text


def read_result(message: ToolMessage) -> Result:
    """Take a tool message apart. LangChain's own review middleware words a rejection in the same way."""
    text = message.text
    rejection = _REJECTED.match(text)
    if rejection and message.status == "error":
        reason = _REASON.match(rejection["rest"])
        return Result("rejected", reason["reason"] if reason else "")
    if message.status == "error":
        for prefix, outcome in _PREFIXES.items():
            if text.startswith(prefix):
                return Result(outcome, text.removeprefix(prefix).strip())
        return Result("failed", text.strip())
    changed = None
    if (notice := _CHANGED.match(text)) and (changed := _object(notice["arguments"])) is not None:
        text = text[notice.end() :]
    if wrapped := _UNTRUSTED.search(text):
        text = wrapped["text"]
    responded = message.additional_kwargs.get("interlock", {}).get("outcome") == "responded"
    return Result("responded" if responded else "done", text, changed)


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object, or None where a text only looks like one."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
