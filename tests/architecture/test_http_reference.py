"""The reference of the HTTP API lists what the code has. With `RECORD=1` this test writes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic_core import PydanticUndefined

from interlock.server import errors
from interlock.server.api.callers import Guard
from interlock.server.api.routes import served_routes
from interlock.server.api.run_schemas import RunCreate
from interlock.server.app import create_app
from interlock.server.errors import ServerError
from interlock.server.records.event_log import Hub
from interlock.server.runs.catalog import Catalog
from interlock.server.runs.scope import ROLES
from interlock.server.settings import Settings

from .reference import REFERENCE, check_section, table, value


def app() -> FastAPI:
    return create_app(Settings(), Catalog({}, {}, {}), hub=Hub(), worker=False)


def rights(route: APIRoute) -> str:
    calls = (dependency.call for dependency in route.dependant.dependencies)
    return next((f"`{call.rule}`" for call in calls if isinstance(call, Guard)), "")


def routes() -> str:
    shown = sorted(
        (route for route in served_routes(app()) if route.include_in_schema),
        key=lambda route: (str((route.tags or [""])[0]), route.path),
    )
    return table(
        ("Route", "Right", "What it does"),
        (
            (f"`{method} {route.path}`", rights(route), route.description)
            for route in shown
            for method in sorted(route.methods or ())
        ),
    )


def run_fields() -> str:
    def shown(name: str) -> str:
        field = RunCreate.model_fields[name]
        default = field.get_default(call_default_factory=True, validated_data={})
        if default is PydanticUndefined:
            return "required"
        return value(default) if isinstance(default, bool | str | list | int | float) else ""

    return table(
        ("Field", "Default", "Meaning"),
        (
            (f"`{name}`", shown(name), field.description or "")
            for name, field in RunCreate.model_fields.items()
        ),
    )


def roles() -> str:
    def granted(role: str) -> Iterator[str]:
        for resource, actions in ROLES[role].items():
            yield from (f"`{resource}.{action}`" for action in sorted(actions))

    return table(("Role", "Grants"), ((f"`{role}`", ", ".join(granted(role))) for role in ROLES))


def error_codes() -> str:
    kinds = sorted(
        (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServerError)),
        key=lambda kind: kind.status,
    )
    return table(
        ("Status", "Code", "When"),
        ((str(kind.status), f"`{kind.code}`", (kind.__doc__ or "").strip()) for kind in kinds),
    )


SECTIONS = {"routes": routes, "run fields": run_fields, "roles": roles, "errors": error_codes}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_reference_of_the_api_lists_what_the_code_has(name: str) -> None:
    check_section(REFERENCE / "http-api.md", name, SECTIONS[name]())


def test_every_field_of_a_run_is_explained() -> None:
    assert [name for name, field in RunCreate.model_fields.items() if not field.description] == []
