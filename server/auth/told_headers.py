"""Headers as the handler of a project is given them."""

from __future__ import annotations

from typing import Any


class ToldHeaders(dict[Any, Any]):
    """Headers in bytes with lower-case names, as the SDK describes them.

    Many handlers ask by text all the same: they get text. Only bytes are listed.
    """

    def __missing__(self, name: object) -> str:
        if not isinstance(name, str) or _on_the_wire(name) not in self:
            raise KeyError(name)
        return self[_on_the_wire(name)].decode("latin-1")

    def __contains__(self, name: object) -> bool:
        return super().__contains__(_on_the_wire(name) if isinstance(name, str) else name)

    def get(self, name: Any, default: Any = None) -> Any:
        """The value, in bytes or text as its name is asked for."""
        try:
            return self[name]
        except KeyError:
            return default


def _on_the_wire(name: str) -> bytes:
    return name.lower().encode("latin-1", errors="replace")
