"""What the offline model says when no tool is needed: who it is, what it can do, and what it cannot."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .offered import OfferedTool

WHO = "I am Interlock's offline model: rules and word vectors, not a language model"

_GREETING = re.compile(
    r"\s*(?:hi|hello|hey|good\s+(?:morning|afternoon|evening|day)|greetings|howdy|moin|servus)\b",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"\s*(?:thanks?|thank\s+you|thx|cheers|great|perfect|nice|cool|ok(?:ay)?)\b", re.IGNORECASE
)
_FAREWELL = re.compile(r"\s*(?:bye|good\s*bye|see\s+you|good\s+night|ciao)\b", re.IGNORECASE)
_CAPABILITIES = re.compile(
    r"\b(?:what|which)\b.*\b(?:can|could|do)\s+you\s+(?:do|help)|\bhow\s+can\s+you\s+help|^\s*help\b|\bcan\s+you\s+help"
    r"|\b(?:what|which)\s+(?:are\s+your\s+)?(?:tools|capabilities|skills)",
    re.IGNORECASE,
)
_IDENTITY = re.compile(
    r"\b(?:who|what)\s+are\s+you\b|\bare\s+you\s+(?:an?\s+)?(?:ai|llm|bot|robot|human|real|gpt\w*|chatgpt|claude|model)"
    r"|\b(?:what|which)\s+(?:\w+\s+)?model\b|\byour\s+name\b",
    re.IGNORECASE,
)
_SHORT = 6


def small_talk(question: str, tools: Sequence[OfferedTool], *, has_vectors: bool) -> str:
    """An answer to a question that asks no tool for anything."""
    text = question.strip()
    if not text:
        return f"There was no question. {_offer(tools)}"
    if _IDENTITY.search(text):
        return f"{WHO}. {_how_it_works(has_vectors)} {_offer(tools)}"
    if _CAPABILITIES.search(text):
        return f"{_offer(tools)}\n\n{WHO}, so I understand plain requests for these and nothing else."
    brief = len(text.split()) <= _SHORT
    if _GREETING.match(text) and brief:
        return f"Hello! {WHO}. {_offer(tools)}"
    if _THANKS.match(text) and brief:
        return "You are welcome."
    if _FAREWELL.match(text) and brief:
        return "Goodbye."
    without = (
        "" if has_vectors else " Without the extra `embedded` I have no word vectors and go by rules alone."
    )
    return (
        f"{WHO}, and I see nothing in this that one of my tools could do.{without} {_offer(tools)}\n\n"
        "For everything else choose a real model: set `model` in the context of the assistant or of the run, "
        "for example `openai:gpt-5`."
    )


def _how_it_works(has_vectors: bool) -> str:
    by = "the words of a question and their vectors" if has_vectors else "the words of a question"
    return f"I choose tools by {by}, and I tell what they answer."


def _offer(tools: Sequence[OfferedTool]) -> str:
    if not tools:
        return "I have no tools here, so there is little that I can do."
    return "I can use these tools:\n" + "\n".join(f"- `{t.name}`: {t.first_sentence}" for t in tools)
