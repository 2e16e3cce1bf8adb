"""What the API serves, asked of the application itself."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts


def served_routes(app: FastAPI) -> Iterator[APIRoute]:
    """Every route of the API, those of included routers too."""
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute):
            yield context.original_route
