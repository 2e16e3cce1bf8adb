"""Sizes are a smell, not a law: what is larger is listed here, with the reason."""

from __future__ import annotations

import ast
from pathlib import Path

from .tree import ROOT, code

FILE_LINES = 400
FUNCTION_LINES = 50

LARGE_FILES: dict[str, str] = {}
LARGE_FUNCTIONS: dict[str, str] = {}


def test_a_file_holds_one_thing() -> None:
    sizes = {str(path): len((ROOT / path).read_text().splitlines()) for path in code(".py", ".sql")}
    assert {path for path, size in sizes.items() if size > FILE_LINES} == LARGE_FILES.keys()


def test_a_function_fits_on_a_screen() -> None:
    large = {name for path in code(".py") for name, size in functions(path).items() if size > FUNCTION_LINES}
    assert large == LARGE_FUNCTIONS.keys()


def functions(path: Path) -> dict[str, int]:
    """The functions of a file, each with its number of lines."""
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    found = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {f"{path}:{node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in found}
