"""What tells about the server itself: alive, version, metrics, API description."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, Response

from ..records import gauges
from . import docs_page
from .shapes import json_response

router = APIRouter(tags=["system"])

FLAGS = {
    "assistants": True,
    "crons": True,
    "langsmith": False,
    "langsmith_tracing_replicas": False,
    "langsmith_tracing_session_on_runs": False,
    "strict_resume": True,
}


@router.get("/ok")
@router.head("/ok", include_in_schema=False)
@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def ok(request: Request, check_db: Annotated[bool, Query()] = False) -> Response:
    """Whether the server is alive and, if asked, reaches its database."""
    if check_db:
        await gauges.ping(request.app.state.resources.database)
    return json_response({"ok": True, "services": {}})


@router.get("/info")
async def info() -> Response:
    """Versions and abilities; user interfaces ask for it to see whether the server is there."""
    host = {"kind": "self-hosted", "project_id": None, "host_revision_id": None}
    return json_response(
        {
            "version": version("interlock"),
            "langgraph_py_version": version("langgraph"),
            "flags": FLAGS,
            "host": {**host, "revision_id": None, "tenant_id": None},
        }
    )


@router.get("/metrics")
async def metrics(
    request: Request, output: Annotated[Literal["prometheus", "json"], Query(alias="format")] = "prometheus"
) -> Response:
    """Counters of this process and the state of the queue."""
    state = request.app.state
    queue = await gauges.read(state.resources.database)
    if output == "json":
        requests = {"http_requests_total": state.metrics.totals()}
        workers = {"max": state.settings.worker.slots, "active": queue["n_running"]}
        return json_response({"queue": queue, "api": requests, "workers": workers})
    return Response(state.metrics.exposition(queue), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The API description, OpenAPI 3.1."""
    return json_response(request.app.openapi())


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The API description, to read."""
    return HTMLResponse(
        docs_page.page(request.app.openapi()), headers={"content-security-policy": docs_page.POLICY}
    )
