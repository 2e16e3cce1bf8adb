from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from interlock.checkpoints.queries import load_queries
from interlock.server.records.assistants import AssistantOrder
from interlock.server.records.crons import CronOrder
from interlock.server.records.threads import ThreadOrder

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


ORDERS: dict[str, Any] = {
    "server/records/assistants.sql": AssistantOrder,
    "server/records/crons.sql": CronOrder,
    "server/records/threads.sql": ThreadOrder,
}
"""What the rows of a file can be sorted by; `paging` puts such a statement together."""


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_block_is_used_by_the_module_beside_it(path: Path) -> None:
    module = (ROOT / path).with_suffix(".py")
    used = blocks_used(module.read_text())
    if order := ORDERS.get(str(path)):
        used |= {f"order_by_{column}" for column in get_args(order)}
        used |= blocks_used(module.with_name("paging.py").read_text())
    assert set(load_queries(str(module)).names()) == used


def blocks_used(source: str) -> set[str]:
    return set(re.findall(r"\b(?:_QUERIES|queries)\.([a-z]\w*)", source))


def test_python_holds_no_sql() -> None:
    found = {
        str(path)
        for path in code(".py")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant)
        and STATEMENT.match(node.value.decode() if isinstance(node.value, bytes) else str(node.value))
    }
    assert found <= MAY_HOLD_SQL.keys()
