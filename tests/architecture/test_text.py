from __future__ import annotations

import ast
import re
from pathlib import Path

from .text_files import faults
from .tree import ROOT, code, tracked

UNUSED_WORDS = re.compile(
    r"(?<![a-z])(helper|utils?|common|manager|broker|infos?)(?![a-z])|^(base|job)_|_job$"
)
"""Words that say nothing, in the names of files, classes and functions."""

GIVEN_NAMES = {"info", "test_info"}
"""Names that the wire or a library gave."""

TEXT = {
    ".cedar",
    ".css",
    ".html",
    ".js",
    ".json",
    ".md",
    ".mjs",
    ".py",
    ".sh",
    ".sql",
    ".toml",
    ".yaml",
    ".yml",
}


def test_text_files_end_with_one_newline_and_no_line_with_a_space() -> None:
    paths = [ROOT / path for path in tracked() if path.suffix in TEXT and "vendor" not in path.parts]
    assert faults(paths) == []


def test_names_say_what_a_thing_is() -> None:
    assert [f"{path}:{name}" for path in code(".py") for name in names(path) if says_nothing(name)] == []


def names(path: Path) -> list[str]:
    """The module, and every class and function in it."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    return [path.stem, *(node.name for node in nodes if isinstance(node, kinds))]


def says_nothing(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return name not in GIVEN_NAMES and UNUSED_WORDS.search(words) is not None


def test_nothing_of_one_machine_is_in_the_tree() -> None:
    machine = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+)/")
    texts = {path: (ROOT / path).read_bytes().decode(errors="replace") for path in tracked()}
    assert [str(path) for path, text in texts.items() if machine.search(text)] == []
