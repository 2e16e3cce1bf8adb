"""Computes arithmetic. A parser of its own: no `eval`, no Python, a bound on everything."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import (
    ROUND_HALF_UP,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from typing import Annotated, NamedTuple

from pydantic import Field

from ..errors import ToolFailed
from ..tool import tool

_LENGTH_LIMIT = 500
_DEPTH_LIMIT = 50
_EXPONENT_LIMIT = 10_000
_PRECISION = 50
_SHOWN_DIGITS = 30
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_]+)|(?P<symbol>\*\*|//|[-+*/%^(),\u00d7\u00f7\u2212]))"
)
_SPELLINGS = {"\N{MULTIPLICATION SIGN}": "*", "\N{DIVISION SIGN}": "/", "\N{MINUS SIGN}": "-", "**": "^"}
_BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "^": 4}
_UNARY = 3

_ARITHMETIC = Context(
    prec=_PRECISION,
    rounding=ROUND_HALF_UP,
    Emax=_EXPONENT_LIMIT,
    Emin=-_EXPONENT_LIMIT,
    traps=[DivisionByZero, InvalidOperation, Overflow],
)


class CalculationError(ValueError):
    """The expression is not arithmetic, or its result is out of bounds."""


class _Function(NamedTuple):
    compute: Callable[..., Decimal]
    least: int
    most: int


def _rounded(value: Decimal, digits: Decimal = Decimal(0)) -> Decimal:
    if digits != digits.to_integral_value() or abs(digits) > _PRECISION:
        raise CalculationError("`round` takes a whole number of digits")
    return _ARITHMETIC.quantize(value, Decimal(1).scaleb(-int(digits)))


def _floored(value: Decimal) -> Decimal:
    return value.to_integral_value(rounding="ROUND_FLOOR")


def _ceiled(value: Decimal) -> Decimal:
    return value.to_integral_value(rounding="ROUND_CEILING")


_FUNCTIONS: Mapping[str, _Function] = {
    "abs": _Function(_ARITHMETIC.abs, 1, 1),
    "ceil": _Function(_ceiled, 1, 1),
    "exp": _Function(_ARITHMETIC.exp, 1, 1),
    "floor": _Function(_floored, 1, 1),
    "ln": _Function(_ARITHMETIC.ln, 1, 1),
    "log": _Function(_ARITHMETIC.log10, 1, 1),
    "max": _Function(max, 1, 50),
    "min": _Function(min, 1, 50),
    "round": _Function(_rounded, 1, 2),
    "sqrt": _Function(_ARITHMETIC.sqrt, 1, 1),
}
_CONSTANTS = {
    "pi": Decimal("3.1415926535897932384626433832795028841971693993751"),
    "e": Decimal("2.7182818284590452353602874713526624977572470936999"),
}


@tool(effect="read", risk="low", timeout_s=5)
async def calculator(
    expression: Annotated[
        str,
        Field(
            description="For example: 3 * (2.5 + 4) ^ 2, or round(199 * 1.19, 2)", max_length=_LENGTH_LIMIT
        ),
    ],
) -> str:
    """Compute an arithmetic expression exactly.

    Knows + - * / // % ^, parentheses, pi, e and the functions abs, ceil, exp, floor, ln, log (base 10),
    max, min, round, sqrt.
    """
    try:
        return evaluate(expression)
    except CalculationError as error:
        raise ToolFailed(str(error)) from error


def evaluate(expression: str) -> str:
    """The value of an expression as text.

    Raises:
        CalculationError: it is not arithmetic, or out of bounds.
    """
    if len(expression) > _LENGTH_LIMIT:
        raise CalculationError(f"the expression is longer than {_LENGTH_LIMIT} characters")
    try:
        value = _Parser(expression).parse()
        if not value.is_finite():
            raise InvalidOperation
    except DivisionByZero as error:
        raise CalculationError("division by zero") from error
    except Overflow as error:
        raise CalculationError("the result is too large") from error
    except DecimalException as error:
        raise CalculationError("this has no value among the real numbers") from error
    return _text(value)


def _text(value: Decimal) -> str:
    shown = Context(prec=_SHOWN_DIGITS, rounding=ROUND_HALF_UP).plus(value)
    if shown == 0:
        return "0"
    if -_SHOWN_DIGITS < shown.adjusted() < _SHOWN_DIGITS:
        text = f"{shown:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(shown.normalize())


class _Parser:
    """Precedence climbing over a list of tokens."""

    def __init__(self, expression: str) -> None:
        self._tokens = _tokens(expression)
        self._position = 0
        self._depth = 0

    def parse(self) -> Decimal:
        value = self._expression(0)
        if self._position < len(self._tokens):
            raise CalculationError(f"{self._tokens[self._position]!r} is not expected here")
        return value

    def _peek(self) -> str | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _next(self) -> str:
        token = self._peek()
        if token is None:
            raise CalculationError("the expression ends too early")
        self._position += 1
        return token

    def _expect(self, symbol: str) -> None:
        if (found := self._next()) != symbol:
            raise CalculationError(f"{symbol!r} is missing before {found!r}")

    def _expression(self, least: int) -> Decimal:
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise CalculationError(f"nested more than {_DEPTH_LIMIT} levels deep")
        left = self._operand()
        while (symbol := self._peek()) in _BINDING and _BINDING[symbol] >= least:
            self._position += 1
            # A power binds to the right: 2^3^2 is 2^9.
            right = self._expression(_BINDING[symbol] + (symbol != "^"))
            left = _apply(symbol, left, right)
        self._depth -= 1
        return left

    def _operand(self) -> Decimal:
        word = self._next()
        if word in "+-":
            value = self._expression(_UNARY)
            return _ARITHMETIC.minus(value) if word == "-" else value
        if word == "(":
            value = self._expression(0)
            self._expect(")")
            return value
        if word[0].isdigit() or word[0] == ".":
            return _ARITHMETIC.create_decimal(word)
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        if word in _FUNCTIONS:
            return self._call(word)
        raise CalculationError(f"{word!r} is not expected here")

    def _call(self, name: str) -> Decimal:
        self._expect("(")
        arguments = [self._expression(0)]
        while self._peek() == ",":
            self._position += 1
            arguments.append(self._expression(0))
        self._expect(")")
        function = _FUNCTIONS[name]
        if not function.least <= len(arguments) <= function.most:
            raise CalculationError(f"`{name}` does not take {len(arguments)} argument(s)")
        return function.compute(*arguments)


def _tokens(expression: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    text = expression.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CalculationError(f"{text[position:].strip()[:1]!r} is not arithmetic")
        token = match[match.lastgroup or 0]
        tokens.append(_SPELLINGS.get(token, token.lower()))
        position = match.end()
    return tokens


def _apply(symbol: str, left: Decimal, right: Decimal) -> Decimal:
    match symbol:
        case "+":
            return _ARITHMETIC.add(left, right)
        case "-":
            return _ARITHMETIC.subtract(left, right)
        case "*":
            return _ARITHMETIC.multiply(left, right)
        case "/":
            return _ARITHMETIC.divide(left, right)
        case "//":
            return _floored(_ARITHMETIC.divide(left, right))
        case "%":
            # The sign of the divisor, as in mathematics and in Python.
            rest = _ARITHMETIC.remainder(left, right)
            return rest if rest == 0 or (rest < 0) == (right < 0) else _ARITHMETIC.add(rest, right)
        case _:
            if abs(right) > _EXPONENT_LIMIT:
                raise CalculationError(f"an exponent above {_EXPONENT_LIMIT} is not computed")
            return _ARITHMETIC.power(left, right)
