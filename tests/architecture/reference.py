"""Sections of the reference documents that are written from the code, between `begin` and `end` marks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .tree import ROOT

REFERENCE = ROOT / "docs" / "reference"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def value(default: object) -> str:
    """A default as one would write it in TOML; nothing when there is none."""
    if default is None or default == "":
        return ""
    plain = list(default) if isinstance(default, tuple) else default
    return f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"


def check_section(file: Path, name: str, expected: str) -> None:
    """Fail unless the section says what is expected; with `RECORD=1`, write it first."""
    section = re.compile(rf"(?<=<!-- begin {name} -->\n).*?(?=<!-- end {name} -->)", re.DOTALL)
    written = file.read_text()
    assert section.search(written), f"{file.name} has no section {name!r}"
    if os.environ.get("RECORD"):
        written = section.sub(lambda _: f"{expected}\n", written)
        file.write_text(written)
    assert section.findall(written) == [f"{expected}\n"]
