"""What the reference lists is what the code has. With `RECORD=1` these tests write it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from interlock.server.cli import app
from interlock.server.runs.project import (
    BUILD_TIME_KEYS,
    INJECTED,
    UNSUPPORTED_KEYS,
)
from interlock.server.sources import DOCUMENTED_VARIABLES, setting_names

from .reference import REFERENCE, check_section, table, value
from .tree import ROOT, tracked

CONFIGURATION = REFERENCE / "configuration.md"
COMMANDS = REFERENCE / "commands.md"


def settings_table() -> str:
    rows: list[tuple[str, ...]] = []
    for name in setting_names():
        default, meaning = value(name.default), name.description
        rows.append((f"`{name.path}`", default, f"`{name.variable}`", meaning))
    return table(("Setting", "Default", "Variable", "Meaning"), rows)


def variables_table() -> str:
    rows = [(f"`{variable}`", f"`{path}`") for variable, path in DOCUMENTED_VARIABLES.items()]
    rows += [
        (f"`{variable}`", f"the key `{key}` of langgraph.json, as JSON") for variable, key in INJECTED.items()
    ]
    return table(("Variable", "Sets"), rows)


def unsupported_table() -> str:
    rows = [(f"`{key}`", meaning) for key, meaning in UNSUPPORTED_KEYS.items()]
    return table(("Key", "What happens instead"), rows)


def build_time_list() -> str:
    return ", ".join(f"`{key}`" for key in sorted(BUILD_TIME_KEYS) if not key.startswith(("_", "internal")))


def commands_table() -> str:
    group = typer.main.get_command(app)
    rows: list[tuple[str, ...]] = []
    for name, command in sorted(group.commands.items()):  # pyright: ignore[reportAttributeAccessIssue]
        inner = getattr(command, "commands", None)
        for path, one in [(f"{name} {n}", c) for n, c in inner.items()] if inner else [(name, command)]:
            options = [
                p for p in one.params if p.param_type_name == "option" and not p.hidden and p.name != "help"
            ]
            flags = " ".join(f"`{option.opts[0]}`" for option in options)
            rows.append((f"`interlock {path}`", one.help or "", flags))
    return table(("Command", "What it does", "Options"), rows)


SECTIONS = {
    "settings": (CONFIGURATION, settings_table),
    "variables": (CONFIGURATION, variables_table),
    "unsupported": (CONFIGURATION, unsupported_table),
    "build-time": (CONFIGURATION, build_time_list),
    "commands": (COMMANDS, commands_table),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_reference_lists_what_the_code_has(name: str) -> None:
    file, render = SECTIONS[name]
    check_section(file, name, render())


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path}: {target}"
        for path in tracked()
        if path.suffix == ".md" and "vendor" not in path.parts
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", (ROOT / path).read_text())
        if not (ROOT / path.parent / target).exists()
    ]
    assert broken == []


def test_the_readme_names_only_targets_and_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = {name.split()[0] for name in typer.main.get_command(app).commands}  # pyright: ignore[reportAttributeAccessIssue]
    for document in (Path("README.md"), Path("CONTRIBUTING.md")):
        text = (ROOT / document).read_text()
        for name in re.findall(r"(?:^\s*|`)make ([a-z-]+)", text, re.MULTILINE):
            assert name in targets, f"{document}: make {name}"
        for name in re.findall(r"(?:^\s*|`)interlock ([a-z]+)", text, re.MULTILINE):
            assert name in commands, f"{document}: interlock {name}"
