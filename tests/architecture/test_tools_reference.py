"""The reference of tools lists what the registry has. With `RECORD=1` this test writes it."""

from __future__ import annotations

from typing import get_args

import pytest

from interlock.tools.audit import Outcome, Stage
from interlock.tools.ledger import LedgerState
from interlock.tools.policy.budget import Dimension
from interlock.tools.registry import builtin_registry

from .reference import REFERENCE, check_section, table
from .tree import ROOT

EXPLANATION = ROOT / "docs" / "explanation" / "tool-gateway.md"
POLICY = ROOT / "tools" / "policy"


def tools() -> str:
    rows: list[tuple[str, ...]] = []
    for tool in builtin_registry():
        spec = tool.spec
        marks = [
            mark
            for mark, has in (
                ("review", spec.review),
                ("dry run", spec.dry_run is not None),
                ("idempotent", spec.idempotent),
                ("untrusted", spec.untrusted),
            )
            if has
        ]
        permissions = ", ".join(f"`{p}`" for p in sorted(spec.permissions))
        summary = spec.description.splitlines()[0]
        rows.append(
            (
                f"`{spec.name}`",
                spec.effect,
                spec.risk,
                permissions,
                ", ".join(marks),
                f"{spec.timeout_s:g} s",
                summary,
            )
        )
    return table(("Tool", "Effect", "Risk", "Permissions", "Marks", "Deadline", "What it does"), rows)


def arguments() -> str:
    rows: list[tuple[str, ...]] = []
    for tool in builtin_registry():
        schema = tool.spec.arguments_schema or {}
        for name, field in schema.get("properties", {}).items():
            parts = field.get("anyOf", [field])
            kinds = [part.get("type", "") for part in parts]
            needed = "yes" if name in schema.get("required", []) else "no"
            described = next((p["description"] for p in (field, *parts) if "description" in p), "")
            rows.append((f"`{tool.name}`", f"`{name}`", " or ".join(kinds), needed, described))
    return table(("Tool", "Argument", "Type", "Required", "Meaning"), rows)


def words() -> str:
    listed = (("Stage", Stage), ("Outcome", Outcome), ("Ledger state", LedgerState), ("Limit", Dimension))
    rows = [(name, ", ".join(f"`{word}`" for word in get_args(closed_set))) for name, closed_set in listed]
    return table(("Kind", "Words"), rows)


def source(name: str) -> str:
    return f"```cedar\n{(POLICY / name).read_text().strip()}\n```"


SECTIONS = {
    "tools": tools,
    "arguments": arguments,
    "words": words,
    "schema": lambda: source("interlock.cedarschema"),
    "policies": lambda: source("default.cedar"),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_reference_lists_what_the_registry_has(name: str) -> None:
    check_section(REFERENCE / "tools.md", name, SECTIONS[name]())


@pytest.mark.parametrize("word", [*get_args(Stage), *get_args(LedgerState)])
def test_the_explanation_speaks_of_every_stage_and_state(word: str) -> None:
    assert f"`{word}`" in EXPLANATION.read_text()
