"""Recorded expectations: what our server sent when a person had checked it against what clients expect.

They are our own, and changed only on purpose: `RECORD=1 .venv/bin/pytest tests/compat` writes them
anew from the Python client, and `git diff tests/compat/recordings` shows what a client would now see
differently. Every other client is then held to the same files.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings"
_VARYING = re.compile(
    r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b)"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z))"
    r"|(?P<version>^\d+\.\d+\.\d+(\.\w+)*$)"
    r"|(?P<url>https?://127\.0\.0\.1:\d+)"
)


class Normaliser:
    """Replaces what differs between two runs, and keeps which of it is the same.

    Ids are numbered in the order in which they are met, so a message that changes its id halfway, or
    a frame that names another run, shows as another number.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._text(name): self(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        return _VARYING.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        kind = match.lastgroup
        if match["id"] is None:
            return f"<{kind}>"
        return self._numbers.setdefault(match["id"], f"<id {len(self._numbers) + 1}>")


def agree(name: str, found: Any, *, may_record: bool = False) -> None:
    """Compare with the recording of this name; the one client that may record writes it if `RECORD` is set.

    Raises:
        AssertionError: they differ.
    """
    path = FOLDER / f"{name}.json"
    found = json.loads(json.dumps(Normaliser()(found)))
    if may_record and os.environ.get("RECORD"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(path.read_text()), f"not as recorded in {path.name}"
