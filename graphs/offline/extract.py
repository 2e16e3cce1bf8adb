"""Fills the arguments of a tool from the words of a question, as its JSON schema asks for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .arithmetic import expression_in
from .offered import SPECIFIC, OfferedTool, Parameter, Shape
from .places import place_in
from .words import STOP_WORDS, stem, words

_URL = re.compile(r"\bhttps?://[^\s<>\"'\u201d)\]]+[^\s<>\"'\u201d)\].,;:!?]", re.IGNORECASE)
_HOST = re.compile(
    r"(?<![\w.-])(?:[a-z0-9-]{1,63}\.){1,8}(?:com|org|net|io|dev|de|eu|uk|fr|gov|edu|info|app)(?:/\S*)?\b",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}\b")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_IDENTIFIER = re.compile(r"\b[A-Za-z]{1,6}-?\d{2,}\b|#\d+|\b\d{3,}\b")
_QUOTED = re.compile(
    r"[\"\u201c]([^\"\u201d]+)[\"\u201d]|(?<!\w)['\u2018]([^'\u2019]+)['\u2019](?!\w)|`([^`]+)`"
)
_CURRENCY = r"[$\u20ac\u00a3]|\b(?:EUR|USD|GBP|euros?|dollars?|pounds?|cents?)\b"
_MONEY = re.compile(
    rf"(?:{_CURRENCY})\s*(?P<behind>\d+(?:[.,]\d{{1,2}})?)"
    rf"|(?P<before>\d+(?:[.,]\d{{1,2}})?)\s*(?P<unit>{_CURRENCY})"
    r"|\b(?:refund|pay|transfer|amount(?:\s+of)?)\s+(?P<bare>\d+(?:[.,]\d{1,2})?)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w-])")
_PERSON = re.compile(
    r"\b(?:of|for|by|from|customer|named?)\s+(?:the\s+)?(?:customer\s+)?"
    r"(?P<name>[A-Z][^\W\d]+(?:[\s'\u2019-]+[A-Z][^\W\d]+)*)"
)
_REASON = re.compile(
    r"\b(?:because|since|as|reason(?:\s+is)?:?)\s+(?P<reason>.+)|[,;\u2013\u2014]\s*(?P<rest>.+)",
    re.IGNORECASE,
)
_POLITE = re.compile(
    r"^(?:\s*(?:please|hey|hi|hello|ok(?:ay)?|now|then|also|and|so)\b[\s,]*)+", re.IGNORECASE
)
_WISH = re.compile(
    r"^(?:(?:could|can|would|will)\s+you|i\s+(?:want|need)\s+you\s+to|i'?d\s+like\s+you\s+to)\s+(?:please\s+)?",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"^(?:remember|note|save|store|memori[sz]e|jot|record|write|keep\s+in\s+mind|don'?t\s+forget|take\s+a\s+note|"
    r"make\s+a\s+note|send|search(?:\s+for)?|find|look\s+up|ask|say|echo|translate|summari[sz]e)\b"
    r"(?:\s+(?:this|it))?(?:\s+down)?(?:\s+a\s+note)?(?:\s+(?:that|of|to|about)\b)?\s*:?\s*",
    re.IGNORECASE,
)
_FILED = re.compile(r"\s+(?:as\s+a\s+note|(?:in|to|into)\s+(?:my|the)\s+notes?)\s*$", re.IGNORECASE)
_TITLE_WORDS = 6


class Filled(NamedTuple):
    """Arguments for one call."""

    arguments: dict[str, Any]
    missing: tuple[Parameter, ...]
    """Required ones that the question does not give."""
    evidence: float
    """How much of the question is recognised as something that this tool takes."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where arguments are looked for."""

    text: str
    """The part of the question that the call is for."""
    earlier: Sequence[str] = ()
    """What was said before, the newest first: what `it` may mean."""
    results: Sequence[Any] = field(default=())
    """What tools have answered in this turn, the newest first."""
    whole: str = ""
    """The whole question, when `text` is a part of it."""


def fill(tool: OfferedTool, source: Source) -> Filled:
    """Arguments of a call of `tool`; values that the question only implies are left to `missing`."""
    arguments: dict[str, Any] = {}
    missing: list[Parameter] = []
    evidence = 0.0
    for parameter in tool.parameters:
        value = found_in(source.text, parameter)
        if value is not None and parameter.shape in SPECIFIC:
            evidence += 1.0 if parameter.required or parameter.shape == "pattern" else 0.5
        if value is None and (parameter.required or _refers_back(source.text)):
            value = _said_before(parameter, source.earlier)
        if value is None and parameter.required:
            value = _from_results(tool, parameter, source.results, arguments)
        if value is None and parameter.required:
            value = _last_resort(source.whole or source.text, parameter)
        if value is not None:
            arguments[parameter.name] = value
        elif parameter.required and "default" not in parameter.schema:
            missing.append(parameter)
    if not arguments and not missing:
        missing += _one_of_identifiers(tool)
    return Filled(arguments, tuple(missing), evidence)


def found_in(text: str, parameter: Parameter) -> Any:
    """The value of a parameter that a text states, or None."""
    values = all_in(text, parameter)
    return values[0] if values else None


def all_in(text: str, parameter: Parameter) -> list[Any]:
    """Every value that a text states for a parameter, in order."""
    match parameter.shape:
        case "choice":
            return [
                c for c in parameter.choices if re.search(rf"\b{re.escape(str(c))}\b", text, re.IGNORECASE)
            ]
        case "flag":
            return _flags(text, parameter)
        case "money" | "number":
            return _numbers(text, parameter)
        case "unknown":
            return []
        case "many":
            items = parameter.schema.get("items", {})
            shape = _item_shape(items)
            single = Parameter(parameter.name.removesuffix("s"), items, shape == "number", shape)
            values = all_in(text, single)
            return [values] if values else []
        case _:
            return [_fitting(v, parameter) for v in _texts(text, parameter)]


def _texts(text: str, parameter: Parameter) -> list[str]:
    match parameter.shape:
        case "expression":
            expression = expression_in(text)
            return [expression] if expression else []
        case "url":
            hosts = [f"https://{m[0]}" for m in _HOST.finditer(_EMAIL.sub(" ", text))]
            return [m[0] for m in _URL.finditer(text)] or hosts
        case "zone":
            place = place_in(text)
            if place is None:
                return []
            return [place.zone if "zone" in parameter.name or parameter.name == "tz" else place.name]
        case "email":
            return [m[0] for m in _EMAIL.finditer(text)]
        case "date":
            return [m[0] for m in _DATE.finditer(text)]
        case "pattern":
            return _matching(text, str(parameter.schema["pattern"]))
        case "identifier":
            return [m[0].lstrip("#") for m in _IDENTIFIER.finditer(_URL.sub(" ", text))]
        case "person":
            return [m["name"] for m in _PERSON.finditer(text)]
        case "title":
            return _quotations(text) or ([_title(text)] if parameter.required else [])
        case "reason":
            reasons = [m["reason"] or m["rest"] for m in _REASON.finditer(text)]
            return [r.strip().rstrip(".!") for r in reasons if r]
        case _:
            return _quotations(text) or ([rest] if parameter.required and (rest := spoken(text)) else [])


def spoken(text: str) -> str:
    """What an order is about: `please remember that I like teal` is `I like teal`."""
    rest = _WISH.sub("", _POLITE.sub("", text.strip()))
    return _FILED.sub("", _ORDER.sub("", rest).strip().rstrip(".!?")).strip()


def _quotations(text: str) -> list[str]:
    return [next(g for g in m.groups() if g) for m in _QUOTED.finditer(text)]


def _title(text: str) -> str:
    rest = re.sub(r"https?://", "", spoken(text))
    subject = re.split(r"\s+(?:is|are|was|were|=|will\s+be)\s+|:\s", rest, maxsplit=1)[0]
    kept = [w for w in re.findall(r"[\w'\u2019:./-]+", subject) if w.lower() not in STOP_WORDS]
    return " ".join(kept[:_TITLE_WORDS]) or " ".join(rest.split()[:_TITLE_WORDS])


def _matching(text: str, pattern: str) -> list[str]:
    """Words of the text that a schema's pattern accepts, in capitals if it only takes those."""
    try:
        compiled = re.compile(pattern)
    except re.error:  # another dialect
        return [m[0] for m in _IDENTIFIER.finditer(text)]
    found: list[str] = []
    for word in re.findall(r"[^\s,;!?()\"']+", text):
        for form in (word.rstrip(".:"), word.rstrip(".:").upper(), word.rstrip(".:").lstrip("#")):
            if compiled.search(form) and form not in found:
                found.append(form)
                break
    return found


def _numbers(text: str, parameter: Parameter) -> list[Any]:
    whole = parameter.schema.get("type") == "integer"
    if parameter.shape == "money":
        return _amounts(text, cents="cents" in parameter.name, whole=whole)
    label = "|".join(re.escape(stem(part)) for part in parameter.name.split("_"))
    near = re.compile(
        rf"(?:{label})\w*\s*(?:of|is|=|:|to)?\s*(-?\d+(?:\.\d+)?)|(-?\d+(?:\.\d+)?)\s*(?:{label})",
        re.IGNORECASE,
    )
    values = [m[1] or m[2] for m in near.finditer(text)]
    if not values and parameter.required:
        values = [m[0] for m in _NUMBER.finditer(text)]
    return [int(float(v)) if whole else float(v) for v in values]


def _amounts(text: str, *, cents: bool, whole: bool) -> list[Any]:
    values: list[Any] = []
    for match in _MONEY.finditer(text):
        number = float((match["behind"] or match["before"] or match["bare"]).replace(",", "."))
        given_in_cents = (match["unit"] or "").lower().startswith("cent")
        if cents != given_in_cents:
            number = number * 100 if cents else number / 100
        values.append(round(number) if whole else number)
    return values


def _flags(text: str, parameter: Parameter) -> list[bool]:
    named = [stem(part) for part in parameter.name.split("_")]
    if not set(named) & set(words(text)):
        return []
    label = "|".join(re.escape(n) for n in named)
    return [re.search(rf"\b(?:no|not|without|don'?t)\s+(?:\w+\s+)?(?:{label})", text, re.IGNORECASE) is None]


def _fitting(value: str, parameter: Parameter) -> str:
    limit = parameter.schema.get("maxLength")
    return value if limit is None or len(value) <= limit else value[: limit - 1].rstrip() + "\u2026"


def _item_shape(items: Mapping[str, Any]) -> Shape:
    if "enum" in items:
        return "choice"
    if "pattern" in items:
        return "pattern"
    return "number" if items.get("type") in ("integer", "number") else "text"


def _refers_back(text: str) -> bool:
    return re.search(r"\b(?:it|its|that|this|them|same|again)\b", text, re.IGNORECASE) is not None


def _said_before(parameter: Parameter, earlier: Sequence[str]) -> Any:
    if parameter.shape not in ("pattern", "identifier", "url", "email"):
        return None
    return next((v for text in earlier if (v := found_in(text, parameter)) is not None), None)


def _from_results(
    tool: OfferedTool, parameter: Parameter, results: Sequence[Any], arguments: Mapping[str, Any]
) -> Any:
    """A value that an earlier call answered under a name that fits: `refundable_cents` for `amount_cents`.

    Only a record that agrees with the other arguments counts, so no order gets the amount of another.
    """
    kinds = {"integer": int, "number": (int, float), "string": str, "boolean": bool}
    kind = kinds.get(str(parameter.schema.get("type")), str)
    wanted = parameter.name.split("_")
    about = {part[:5] for part in tool.name.split("_")}
    best: tuple[int, Any] = (0, None)
    for result in results:
        for record in result if isinstance(result, list) else [result]:
            if not isinstance(record, Mapping) or any(record.get(k, v) != v for k, v in arguments.items()):
                continue
            for key, value in record.items():
                if not isinstance(value, kind) or (parameter.shape == "money" and value == 0):
                    continue
                parts = str(key).split("_")
                score = 3 * (key == parameter.name) + 2 * (parts[-1] == wanted[-1])
                score += bool(score) * sum(part[:5] in about for part in parts)
                if score > best[0]:
                    best = (score, value)
    return best[1]


def _last_resort(text: str, parameter: Parameter) -> Any:
    """What may be taken from the question as it stands: nothing is invented."""
    match parameter.shape:
        case "reason":
            # No reason was given: the reader sees the request itself.
            return _fitting(f"Asked for: {text.strip()}", parameter)
        case "flag":
            return False
        case "choice" if len(parameter.choices) == 1:
            return parameter.choices[0]
        case _:
            return None


def _one_of_identifiers(tool: OfferedTool) -> list[Parameter]:
    """What a tool whose arguments are all optional cannot do without: the number of a thing."""
    return [p for p in tool.parameters if p.shape in ("pattern", "identifier")][:1]
