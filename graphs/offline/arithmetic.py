"""Finds the arithmetic in a sentence and writes it as an expression: `12% of 340` is `12 / 100 * 340`."""

from __future__ import annotations

import re

_NUMBER = r"\d+(?:\.\d+)?"
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)")
_FUNCTIONS = r"(?:abs|ceil|exp|floor|ln|log|max|min|round|sqrt)"
_ATOM = rf"(?:{_NUMBER}|\bpi\b|{_FUNCTIONS}\s*(?=\()|[-+*/^%(),])"
_RUN = re.compile(rf"{_ATOM}(?:\s*{_ATOM})*")
_OPERATOR = re.compile(r"[-+*/^%]|\b(?:sqrt|abs|max|min|round|floor|ceil|ln|log|exp)\b")
# What looks like arithmetic and is not: dates, times, numbers of orders, addresses.
_NOT_ARITHMETIC = re.compile(
    r"https?://\S+|\b[A-Za-z]+-\d+\b|\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}:\d{2}\b|\b\d{1,2}/\d{1,2}/\d{2,4}\b"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b|\+\d[\d ]{6,}"
)

_SPELLED = [
    (rf"({_NUMBER})\s*(?:%|percent)\s+off\s+(?:of\s+)?({_NUMBER})", r"\2 * (1 - \1 / 100)"),
    (rf"({_NUMBER})\s*(?:plus|\+)\s*({_NUMBER})\s*(?:%|percent)(?!\s*\d)", r"\1 * (1 + \2 / 100)"),
    (rf"({_NUMBER})\s*(?:minus|-)\s*({_NUMBER})\s*(?:%|percent)(?!\s*\d)", r"\1 * (1 - \2 / 100)"),
    (rf"({_NUMBER})\s*(?:%|percent)\s+of\s+(?=[\d(])", r"\1 / 100 * "),
    (rf"(?:the\s+)?square\s+root\s+of\s+({_NUMBER})", r"sqrt(\1)"),
    (rf"(?:the\s+)?cube\s+root\s+of\s+({_NUMBER})", r"\1 ^ (1 / 3)"),
    (rf"(?:the\s+)?average\s+of\s+({_NUMBER})\s+and\s+({_NUMBER})", r"(\1 + \2) / 2"),
    (rf"(?:the\s+)?sum\s+of\s+({_NUMBER})\s+and\s+({_NUMBER})", r"\1 + \2"),
    (rf"(?:the\s+)?product\s+of\s+({_NUMBER})\s+and\s+({_NUMBER})", r"\1 * \2"),
    (rf"add\s+({_NUMBER})\s+(?:and|to)\s+({_NUMBER})", r"\1 + \2"),
    (rf"subtract\s+({_NUMBER})\s+from\s+({_NUMBER})", r"\2 - \1"),
    (rf"multiply\s+({_NUMBER})\s+(?:by|and|with)\s+({_NUMBER})", r"\1 * \2"),
    (rf"divide\s+({_NUMBER})\s+by\s+({_NUMBER})", r"\1 / \2"),
    (rf"half\s+of\s+({_NUMBER})", r"\1 / 2"),
    (rf"(?:twice|double)\s+({_NUMBER})", r"2 * \1"),
    (rf"({_NUMBER})\s+squared", r"\1 ^ 2"),
    (rf"({_NUMBER})\s+cubed", r"\1 ^ 3"),
    (r"\bto\s+the\s+power\s+of\b|\*\*", "^"),
    (r"\b(?:multiplied\s+by|times)\b|(?<=\d)\s*[x\u00d7]\s*(?=\d)", " * "),
    (r"\b(?:divided\s+by|over)\b|\u00f7", " / "),
    (r"\bplus\b", " + "),
    (r"\bminus\b|\u2212", " - "),
    (r"\b(?:modulo|mod)\b", " % "),
]


def expression_in(text: str) -> str | None:
    """The arithmetic expression of a sentence, or None when there is none to compute."""
    text = _NOT_ARITHMETIC.sub(" ; ", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    for pattern, replacement in _SPELLED:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    found = [_trimmed(match[0]) for match in _RUN.finditer(text)]
    found = [f for f in found if _is_expression(f)]
    return max(found, key=len, default=None)


def _trimmed(run: str) -> str:
    """Without what belongs to the sentence around it: a dash, a comma, an unmatched parenthesis."""
    run = re.sub(r"\s+", " ", run).strip(" ,")
    if "(" not in run:
        run = re.sub(r",(?=\s*[-+*/^])", "", run)  # `340, plus 25`
    run = re.sub(r"[-+*/^%(,\s]+$", "", run)
    run = re.sub(r"^[*/^%),\s]+", "", run)
    while run.count(")") > run.count("(") and run.endswith(")"):
        run = run[:-1].rstrip()
    while run.count("(") > run.count(")") and run.startswith("("):
        run = run[1:].lstrip()
    return run


def _is_expression(run: str) -> bool:
    if run.count("(") != run.count(")") or not re.search(r"\d|\bpi\b", run):
        return False
    # A sign before a lone number is no operation.
    return _OPERATOR.search(run.lstrip("+-")) is not None
