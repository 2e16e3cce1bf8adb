"""What a tool message says besides the result: who answered, whether it was done, what a person changed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import ToolMessage

from ..tools.answers import facts_of, without_notice
from ..tools.results import unwrapped

Outcome = Literal["done", "failed", "refused", "rejected", "responded"]
"""done: the tool answered. failed: it could not. refused: by policy. rejected: by a person. responded: a
person answered in the place of the tool."""

# LangChain's own review middleware.
_REJECTED = re.compile(
    r"User rejected the tool call for `[^`]*`(?: with reason: (?P<reason>.*)|.*)", re.DOTALL
)


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
    """Take a tool message apart: one of the gateway by its facts, any other by its status and text."""
    facts = facts_of(message)
    reason = facts.get("reason", "")
    match facts.get("outcome"):
        case "rejected":
            return Result("rejected", reason)
        case "refused":
            return Result("refused", f"{reason}.")
        case "unknown":
            return Result("failed", f"{reason}. It may have taken effect.")
        case "failed":
            return Result("failed", f"{reason}.")
        case "responded":
            return Result("responded", message.text)
        case _ if message.status == "error":
            return _not_done(message.text)
        case _:
            return Result("done", unwrapped(without_notice(message)), facts.get("arguments"))


def _not_done(text: str) -> Result:
    if rejection := _REJECTED.fullmatch(text):
        return Result("rejected", rejection["reason"] or "")
    return Result("failed", text.removeprefix("Error: ").strip())
