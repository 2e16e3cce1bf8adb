"""Puts what tools have answered into plain sentences."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .choose import Intent, Plan, Question, Similarity
from .conversation import MadeCall, Turn
from .words import concepts, is_question

_SHOWN = 300
_LINES = 10
_CLOCK = re.compile(r"(?P<day>\w+), (?P<date>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d)(?::\d\d)? (?P<zone>\S+)")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_NO_TEXT = re.compile(r"<(script|style|head)\b.*?</\1>|<[^>]+>", re.IGNORECASE | re.DOTALL)


def answer(turn: Turn, plan: Plan, similarity: Similarity) -> str:
    """The answer of a turn: what each call brought, then what is still missing."""
    clauses = _clauses(turn, plan.intents)
    lines = [_sentence(call, clause, similarity) for call, clause in zip(turn.calls, clauses, strict=True)]
    lines += [_question(question) for question in plan.questions]
    return "\n".join(dict.fromkeys(lines))


def _clauses(turn: Turn, intents: Sequence[Intent]) -> list[str]:
    """For each call the part of the question that it was made for."""
    left = list(intents)
    found: list[str] = []
    for call in turn.calls:
        intent = next((i for i in left if i.tool.name == call.tool), None)
        if intent is not None:
            left.remove(intent)
        found.append(intent.clause if intent else turn.question)
    return found


def _question(question: Question) -> str:
    tool, parameter = question.tool.name.replace("_", " "), question.parameter
    hint = re.search(r"such as [^.;]+", parameter.description)
    example = f", {hint[0]}" if hint else ""
    return f"For `{tool}` I need the {parameter.label}{example}. What is it?"


def _sentence(call: MadeCall, clause: str, similarity: Similarity) -> str:
    label = f"`{call.tool.replace('_', ' ')}`"
    if call.result is None:
        return f"{label} was stopped before it answered."
    match call.result.outcome:
        case "rejected":
            told = f": {_ended(call.text)}" if call.text else "."
            return f"A person rejected {label}{told} Nothing was done."
        case "refused":
            return f"{label} was refused: {_ended(call.text)}"
        case "failed":
            return f"{label} did not work: {_ended(call.text)}"
        case "responded":
            return f"A person answered for {label}: {_ended(call.text)}"
        case "done":
            changed = f"A person changed {label} before it ran. " if call.result.changed else ""
            known = _SENTENCES.get(call.tool)
            said = known(call, clause, similarity) if known else None
            return changed + (said if said is not None else _plain(label, call.value))


def _calculator(call: MadeCall, clause: str, similarity: Similarity) -> str:  # noqa: ARG001 - one signature for all
    expression = str(call.arguments.get("expression", ""))
    share = re.fullmatch(r"([\d.]+) / 100 \* ([\d.]+)", expression)
    if share:
        return f"{share[1]}% of {share[2]} is {call.text}."
    return f"{expression} = {call.text}"


def _current_time(call: MadeCall, clause: str, similarity: Similarity) -> str | None:  # noqa: ARG001
    clock = _CLOCK.search(call.text)
    if clock is None:
        return None
    zone = str(call.arguments.get("timezone", "UTC"))
    where = f"In {zone.rpartition('/')[2].replace('_', ' ')}" if "/" in zone else f"In {zone}"
    suffix = "" if clock["zone"] == zone else f" ({clock['zone']})"
    return f"{where} it is {clock['time']} on {clock['day']}, {clock['date']}{suffix}."


def _note_write(call: MadeCall, clause: str, similarity: Similarity) -> str:  # noqa: ARG001
    return f"Noted under \u201c{call.arguments.get('title')}\u201d: {_ended(str(call.arguments.get('text')))}"


def _note_read(call: MadeCall, clause: str, similarity: Similarity) -> str | None:
    notes = call.value
    if not isinstance(notes, list):
        return None
    texts = [str(n.get("text", "")) for n in notes if isinstance(n, Mapping)]
    if not texts:
        return "There are no notes yet."
    about = concepts(clause) - {"recall", "remember", "note", "notes"}
    asks_for_one = is_question(clause) and bool(about) and "note" not in clause.lower()
    if asks_for_one:
        ranked = sorted(texts, key=lambda t: (len(about & concepts(t)), similarity(clause, t)), reverse=True)
        if about & concepts(ranked[0]):
            return f"You noted: {_ended(ranked[0])}"
        return f"None of your {len(texts)} notes speaks of that."
    if len(texts) == 1:
        return f"You noted: {_ended(texts[0])}"
    return "Your notes:\n" + "\n".join(f"- {text}" for text in texts)


def _order_lookup(call: MadeCall, clause: str, similarity: Similarity) -> str | None:  # noqa: ARG001
    orders = call.value if isinstance(call.value, list) else [call.value]
    if not orders:
        return "There is no such order."
    if not all(isinstance(o, Mapping) and "order_id" in o for o in orders):
        return None
    return "\n".join(_order(order) for order in orders[:_LINES])


def _order(order: Mapping[str, Any]) -> str:
    sentence = (
        f"Order {order['order_id']}: {order.get('item')} for {order.get('customer')}, {order.get('status')}, "
    )
    sentence += f"placed on {order.get('placed')}, {order.get('paid')} paid"
    refunded = str(order.get("refunded", "0"))
    return f"{sentence}, {refunded} refunded." if re.search(r"[1-9]", refunded) else f"{sentence}."


def _order_refund(call: MadeCall, clause: str, similarity: Similarity) -> str | None:  # noqa: ARG001
    receipt = call.value
    if not isinstance(receipt, Mapping) or "refunded" not in receipt:
        return None
    return (
        f"Refunded {receipt['refunded']} of order {receipt.get('order_id')}; {receipt.get('left')} is left."
    )


def _http_fetch(call: MadeCall, clause: str, similarity: Similarity) -> str | None:  # noqa: ARG001
    page = call.value
    if not isinstance(page, Mapping) or "status" not in page:
        return None
    body = str(page.get("text", ""))
    title = _TITLE.search(body)
    text = " ".join(html.unescape(_NO_TEXT.sub(" ", body)).split())
    shown = _cut(text)
    named = f", titled \u201c{html.unescape(title[1]).strip()}\u201d" if title else ""
    return (
        f"{page.get('url')} answered {page['status']}{named}. It begins: {shown}"
        if shown
        else (f"{page.get('url')} answered {page['status']}{named}, without any text.")
    )


_SENTENCES: Mapping[str, Callable[[MadeCall, str, Similarity], str | None]] = {
    "calculator": _calculator,
    "current_time": _current_time,
    "http_fetch": _http_fetch,
    "note_read": _note_read,
    "note_write": _note_write,
    "order_lookup": _order_lookup,
    "order_refund": _order_refund,
}
"""How the results of the built-in tools are told; any other result is told as `_plain` does."""


def _plain(label: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{label} answered: {_fields(value)}."
    if isinstance(value, list):
        if not value:
            return f"{label} found nothing."
        shown = [f"- {_fields(v) if isinstance(v, Mapping) else _cut(str(v))}" for v in value[:_LINES]]
        more = [f"- and {len(value) - _LINES} more"] if len(value) > _LINES else []
        return "\n".join([f"{label} found {len(value)}:", *shown, *more])
    return f"{label} answered: {_ended(_cut(str(value)))}"


def _fields(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{str(k).replace('_', ' ')}: {_cut(str(v))}" for k, v in list(record.items())[:_LINES])


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN].rsplit(" ", 1)[0] + " \u2026"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "\u2026")) else f"{text}."
