"""What the words of a question stand for: stems, and a small thesaurus of what people ask tools for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

_WORD = re.compile(r"[a-zA-Z][a-zA-Z'\u2019]*")
_ADDRESS = re.compile(r"https?://\S+|\S+@\S+")
_DETERMINER = r"(?:the|my|a|an|of|his|her|your|their|no|any|this|that|last)"
_NOUN = re.compile(
    r"(?<!want )(?<!need )(?<!like )(?<!give me )(?<!request )(?<!get )"
    rf"\b{_DETERMINER}(?:\s+{_DETERMINER})*\s+\w+"
)

_STOP_WORDS = """
a about all already also am an and any are as at be been but by can could did do does for from had has
have he her him his how i if in into is it its just let like me my need not of on or our out please she
should so some tell than that the their them then there these they this to us want was we were what when
where which who whom why will with would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

_PHRASES: Mapping[str, str] = {
    r"look(?:ing|ed)?\s+up": "lookup",
    r"write\s+(?:\w+\s+)?down|(?:take|make)\s+a\s+note|keep\s+in\s+mind|don'?t\s+forget": "remember",
    r"money\s+back|pay\s+(?:\w+\s+)?back|give\s+back": "refund",
    r"(?:do|did|can)\s+you\s+(?:still\s+)?(?:remember|recall|know)": "recall",
    r"(?:what|which|anything).*\b(?:noted?|wrote|saved|remember(?:ed)?|told\s+you)\b": "recall",
    r"(?:my|the|all|list|show|read)\s+notes": "recall",
    r"forget\s+about": "delete",
}
"""Turns of phrase and the concept that each stands for."""

_CONCEPTS: Mapping[str, str] = {
    "compute": "calculate calculation calculator compute evaluate sum add multiply divide subtract percent "
    "percentage root average math maths arithmetic expression",
    "time": "time date day clock today hour weekday evening morning noon night afternoon oclock midnight",
    "fetch": "fetch download http url page web website webpage link browse visit site retrieve",
    "remember": "remember note save memo jot record memorize memorise remind",
    "recall": "recall",
    "lookup": "lookup find check status track search show view detail where",
    "refund": "refund reimburse reimbursement chargeback",
    "order": "order package parcel purchase delivery shipment bought",
    "weather": "weather rain forecast temperature sunny snow",
    "send": "send mail email message notify",
    "delete": "delete remove erase cancel drop",
    "create": "create book schedule",
    "update": "update change edit set rename move",
}
"""Words that name the same thing; the key is the concept."""

ACTING = frozenset({"refund", "send", "delete", "create", "update"})
"""Concepts of something being done to a thing: no tool that only reads does it."""

READING = frozenset(
    {"compute", "time", "fetch", "recall", "lookup", "read", "get", "current", "weather", "query"}
)
"""Concepts of tools that change nothing, as far as a name tells."""

WEAK = frozenset(
    {"write", "read", "get", "make", "set", "add", "use", "run", "do", "show", "open", "current"}
)
"""Words that say nothing about a subject: `write a poem` is no call of `note_write`."""


def stem(word: str) -> str:
    """The word without its usual English endings."""
    word = word.lower().replace("\u2019", "'").removesuffix("'s")
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word.removesuffix(ending)
    return word


@cache
def _concept_of() -> Mapping[str, str]:
    return {stem(word): concept for concept, words in _CONCEPTS.items() for word in words.split()}


def words(text: str) -> list[str]:
    """The words of a text that carry meaning, as stems."""
    found = (match[0] for match in _WORD.finditer(text))
    return [stem(word) for word in found if word.lower() not in STOP_WORDS and len(word) > 1]


def concepts(text: str) -> set[str]:
    """What a text speaks of: its stems, their concepts, and those of its turns of phrase."""
    lowered = _ADDRESS.sub(" ", text.lower().replace("\u2019", "'"))
    phrases = {concept for pattern, concept in _PHRASES.items() if re.search(rf"\b(?:{pattern})", lowered)}
    return phrases | concepts_of(words(lowered)) | _questioned(lowered)


def ordered(text: str) -> set[str]:
    """The concepts of a text without those that it only mentions: `the refund` is no order to refund."""
    return concepts(_NOUN.sub(" ", text.lower()))


def concepts_of(stems: Iterable[str]) -> set[str]:
    """The stems, and the concepts that they stand for."""
    known = _concept_of()
    found: set[str] = set()
    for word in stems:
        found.add(word)
        if word in known:
            found.add(known[word])
    return found


def is_question(text: str) -> bool:
    """Whether something is asked rather than ordered."""
    opening = r"\s*(?:and\s+|so\s+)?(?:what|which|who|whose|when|where|why|how|is|are|was|were|do|does|did)\b"
    return re.match(opening, text, re.IGNORECASE) is not None


def _questioned(lowered: str) -> set[str]:
    found: set[str] = set()
    if re.search(r"\bwhere\b", lowered):
        found.add("lookup")
    if re.search(r"\b(?:what|which|who|when|where|whose)\b.*\b(?:my|mine)\b", lowered):
        found.add("recall")
    return found
