"""Reads the named blocks of a `.sql` file that lies beside the module using it."""

from __future__ import annotations

import re
from pathlib import Path

_HEAD = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)[ \t]*\n", re.MULTILINE)


class Queries:
    """The blocks of one `.sql` file, each an attribute holding the statement as bytes.

    A block starts with `-- name: claim_runs` and lasts to the next such line; the comment
    below the name says what the statement does.
    """

    def __init__(self, blocks: dict[str, bytes], source: str) -> None:
        self._blocks = blocks
        self._source = source

    def __getattr__(self, name: str) -> bytes:
        try:
            return self._blocks[name]
        except KeyError:
            raise AttributeError(f"no block `-- name: {name}` in {self._source}") from None

    def names(self) -> list[str]:
        """Names of all blocks, in file order."""
        return list(self._blocks)


def load_queries(module_file: str) -> Queries:
    """Load the `.sql` file with the same stem as `module_file`; call with `__file__`.

    Raises:
        ValueError: the file has no block, text before the first one, or a repeated name.
    """
    path = Path(module_file).with_suffix(".sql")
    text = path.read_text(encoding="utf-8")
    heads = list(_HEAD.finditer(text))
    if not heads or text[: heads[0].start()].strip():
        raise ValueError(f"{path.name} must start with a line `-- name: <block>`")
    blocks: dict[str, bytes] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        name = head["name"]
        if name in blocks:
            raise ValueError(f"{path.name} has two blocks named {name!r}")
        blocks[name] = text[head.end() : following.start() if following else None].strip().encode()
    return Queries(blocks, path.name)
