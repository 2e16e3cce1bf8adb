"""The compatibility page says what is served of the official API. With `RECORD=1` this test writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi.routing import APIRoute

from interlock.server.api.bodies import reader_of
from interlock.server.api.routes import served_routes

from .reference import REFERENCE, check_section, table
from .test_http_reference import app
from .tree import ROOT

OFFICIAL = ROOT / "tests" / "compat" / "official"
PAGE = REFERENCE / "compatibility.md"
OWN_ENVELOPE = ("/commands", "/stream/events", "/mcp", "/a2a/{}")
"""Routes whose bodies are messages of a protocol of their own, checked by that protocol's types."""


def official(name: str) -> Any:
    return json.loads((OFFICIAL / f"{name}.json").read_text())


def place(method: str, path: str) -> str:
    """A route without the names of its path parameters and without a slash at the end."""
    return f"{method} {re.sub(r'{[^}]*}', '{}', path).rstrip('/')}"


def ours() -> dict[str, APIRoute]:
    return {
        place(method, route.path): route for route in served_routes(app()) for method in route.methods or ()
    }


def parameters(route: APIRoute) -> set[str]:
    """Query parameters and headers, those of dependencies too."""
    waiting, found = [route.dependant], set[str]()
    while waiting:
        dependant = waiting.pop()
        waiting += dependant.dependencies
        found |= {field.alias.lower() for field in (*dependant.query_params, *dependant.header_params)}
    return found


def told(route: APIRoute, official_route: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Each field of the official route, and what becomes of it."""
    reader = reader_of(route)
    fields = {field.alias or name for name, field in reader.model.model_fields.items()} if reader else set()
    # The official document has `version` of an assistant among the parameters; clients send it in the body.
    known = parameters(route) | fields | {"accept"}
    for name in official_route.get("parameters", ()):
        yield name, "served" if name.lower() in known else "unknown"
    for name in official_route.get("body", ()):
        if place("", route.path).endswith(OWN_ENVELOPE):
            yield name, "served"
        elif reader is None or name not in fields:
            yield name, "unknown"
        else:
            yield name, "ignored" if name in reader.model.without_effect else "served"


def compatibility() -> str:
    routes, rows = ours(), list[tuple[str, ...]]()
    for named, fields in official("api")["routes"].items():
        method, path = named.split()
        route = routes.get(place(method, path))
        if route is None:
            rows.append((f"`{named}`", "not served", "", ""))
            continue
        by_outcome: dict[str, list[str]] = {"served": [], "ignored": [], "unknown": []}
        for name, outcome in told(route, fields):
            by_outcome[outcome].append(f"`{name}`")
        rows.append((f"`{named}`", *(", ".join(names) for names in by_outcome.values())))
    return table(("Official route", "Served", "Ignored", "Unknown"), rows)


def suites() -> str:
    return table(
        ("Suite", "Commit", "With", "Passed", "What fails, and why"),
        (
            (
                f"{one['name']}",
                f"`{one['commit'][:12]}`",
                one["with"],
                f"{one['passed']} of {one['total']}",
                "<br>".join(f"{failed}: {cause}" for failed, cause in one["fails"].items()),
            )
            for one in official("suites")
        ),
    )


def frontends() -> str:
    return table(
        ("Frontend", "Commit", "What was done in it", "What it does not do itself"),
        (
            (one["name"], f"`{one['commit'][:12]}`", "; ".join(one["steps"]), "<br>".join(one["limits"]))
            for one in official("frontends")
        ),
    )


def test_the_page_tells_which_frontends_were_driven() -> None:
    check_section(PAGE, "frontends", frontends())


def test_the_page_tells_what_becomes_of_each_official_route_and_field() -> None:
    check_section(PAGE, "compatibility", compatibility())


def test_the_page_tells_the_counts_of_the_suites_of_others() -> None:
    check_section(PAGE, "suites", suites())


def test_every_failure_of_a_suite_is_named() -> None:
    for one in official("suites"):
        assert one["total"] - one["passed"] == len(one["fails"]), one["name"]
