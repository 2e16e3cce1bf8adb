"""What is in the repository, for the tests of this folder."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS = ("checkpoints", "tools", "graphs", "server", "evals")


@cache
def tracked() -> tuple[Path, ...]:
    """The files that git knows, relative to the root; links to our folders are not followed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = (Path(name) for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if (ROOT / path).is_file())


def code(*suffixes: str) -> list[Path]:
    """Tracked files of the five floors with these endings."""
    return [path for path in tracked() if path.parts[0] in FLOORS and path.suffix in suffixes]
