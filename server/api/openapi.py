"""The API description: FastAPI's, with the request bodies that `bodies.py` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette

from .bodies import reader_of
from .routes import served_routes

_REFERENCE = "#/components/schemas/{model}"

PROBLEM = {
    "type": "object",
    "required": ["detail", "code"],
    "properties": {"detail": {"type": "string"}, "code": {"type": "string"}},
}
"""Body of every error."""


def describe(
    app: FastAPI, *, project: Starlette | None = None, security: Mapping[str, Any] | None = None
) -> None:
    """Give the app its description, that of the project's app included; it is made when first asked for.

    `security` is the `auth.openapi` of the project: `securitySchemes`, `security` and `paths`.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
            if isinstance(project, FastAPI):
                _merge(app.openapi_schema, project.openapi())
            _secure(app.openapi_schema, security or {})
        return app.openapi_schema

    app.openapi = openapi


def _described(app: FastAPI) -> dict[str, Any]:
    description = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = PROBLEM
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for route in served_routes(app):
        if route.include_in_schema:
            for method in route.methods or ():
                operation = description["paths"][route.path_format][method.lower()]
                _describe_body(operation, route, schemas)
                _describe_errors(operation)
    return description


def _merge(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Add the project's description; its paths win as its routes do, and equal names are kept apart."""
    text = orjson.dumps(theirs).decode()
    components = theirs.get("components", {})
    known = ours["components"]["schemas"]
    renamed = {
        name: f"App{name}"
        for name, schema in components.get("schemas", {}).items()
        if known.get(name, schema) != schema
    }
    for name, other in renamed.items():
        text = text.replace(f'"{_REFERENCE.format(model=name)}"', f'"{_REFERENCE.format(model=other)}"')
    theirs = orjson.loads(text)
    for path, operations in theirs.get("paths", {}).items():
        ours["paths"].setdefault(path, {}).update(operations)
    for kind, named in theirs.get("components", {}).items():
        into = ours["components"].setdefault(kind, {})
        into.update(
            {(renamed if kind == "schemas" else {}).get(name, name): one for name, one in named.items()}
        )


def _secure(description: dict[str, Any], security: Mapping[str, Any]) -> None:
    if schemes := security.get("securitySchemes"):
        description["components"]["securitySchemes"] = schemes
    if "security" in security:
        description["security"] = security["security"]
    for path, operations in security.get("paths", {}).items():
        for method, said in operations.items():
            description["paths"].setdefault(path, {}).setdefault(method, {}).update(said)


def _describe_body(operation: dict[str, Any], route: APIRoute, schemas: dict[str, Any]) -> None:
    reader = reader_of(route)
    if reader is None:
        return
    _, definitions = models_json_schema([(reader.model, "validation")], ref_template=_REFERENCE)
    schemas.update(definitions.get("$defs", {}))
    reference = {"$ref": _REFERENCE.format(model=reader.model.__name__)}
    schema = {"type": "array", "minItems": 1, "items": reference} if reader.many else reference
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}


def _describe_errors(operation: dict[str, Any]) -> None:
    content = {"application/json": {"schema": {"$ref": _REFERENCE.format(model="Problem")}}}
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {"description": "Refused or failed.", "content": content}
