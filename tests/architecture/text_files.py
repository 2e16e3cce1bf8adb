"""Checks text files: they end with one newline, no line ends with a space. `text_files.py [FILE…]`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


def faults(paths: Iterable[Path]) -> list[str]:
    """What is wrong, one line for each file."""
    found: list[str] = []
    for path in paths:
        text = path.read_bytes()
        if b"\0" in text or not text:
            continue
        if not text.endswith(b"\n") or text.endswith(b"\n\n"):
            found.append(f"{path} does not end with one newline")
        if any(line.endswith((b" ", b"\t", b"\r")) for line in text.splitlines(keepends=False)):
            found.append(f"{path} has a line that ends with a space")
    return found


if __name__ == "__main__":
    problems = faults(Path(name) for name in sys.argv[1:])
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    sys.exit(1 if problems else 0)
