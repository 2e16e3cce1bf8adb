from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from interlock.checkpoints.queries import load_queries

from .tree import ROOT, code

FILES = [path for path in code(".sql") if "migrations" not in path.parts]
STATEMENT = re.compile(
    r"\s*(WITH\s+\w+\s+AS|SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|CREATE\s+(TABLE|SCHEMA))",
    re.DOTALL,
)
MAY_HOLD_SQL = {
    "checkpoints/notify.py": "a lock of the session that tells others that this worker lives",
    "checkpoints/migrate.py": "what it asks comes before there is a schema",
    "server/embedded.py": "asks through psql whether the server answers, before a driver is loaded",
}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_block_is_named_and_used(path: Path) -> None:
    """By the module beside it, or for all of its room by `paging`, which puts orders together."""
    modules = [(ROOT / path).with_suffix(".py"), (ROOT / path).with_name("paging.py")]
    code = "".join(module.read_text() for module in modules if module.exists())
    names = load_queries(str(modules[0])).names()
    assert [name for name in names if not name.startswith("order_by_") and name not in code] == []


def test_python_holds_no_sql() -> None:
    found = {
        str(path)
        for path in code(".py")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant)
        and STATEMENT.match(node.value.decode() if isinstance(node.value, bytes) else str(node.value))
    }
    assert found <= MAY_HOLD_SQL.keys()
