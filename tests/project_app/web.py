"""A project's own application: routes, middleware and lifespan beside those of the server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from langgraph_sdk import get_client
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def note(text: str) -> None:
    with Path(os.environ["APP_NOTES"]).open("a") as notes:
        notes.write(text + "\n")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    if os.environ.get("APP_FAILS"):
        raise RuntimeError("the ledger is locked")
    note("up")
    app.state.opened = "opened"
    app.state.met = await get_client().assistants.search()
    yield {"lent": "lent"}
    note("down")


app = FastAPI(lifespan=lifespan)
gate = asyncio.Event()


class Problem(BaseModel):
    """A body whose name one of the server's has as well."""

    severity: int


class Stamp:
    """Marks every response. Plain ASGI: the other form ends a broken response as if it were whole."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-stamped"] = "yes"
            await send(message)

        await self.app(scope, receive, stamped)


app.add_middleware(Stamp)


@app.get("/threads/custom")
async def custom_thread() -> dict[str, str]:
    return {"served": "by the project"}


@app.get("/ok")
async def not_ok() -> dict[str, str]:
    return {"served": "never"}


@app.get("/slash/")
async def slash(request: Request) -> dict[str, str]:
    return {"url": str(request.url_for("slash").path)}


@app.get("/opened")
async def opened(request: Request) -> dict[str, str]:
    return {"app": request.app.state.opened, "request": request.state.lent}


@app.get("/met-at-start")
async def met_at_start(request: Request) -> list[str]:
    return sorted(assistant["graph_id"] for assistant in request.app.state.met)


@app.get("/who")
async def who(request: Request) -> dict[str, Any]:
    user = request.scope.get("user")
    return {"identity": user and user.identity}


@app.post("/problems")
async def report(problem: Problem) -> dict[str, int]:
    return {"severity": problem.severity}


@app.get("/crash")
async def crash() -> None:
    raise RuntimeError("secret of the project")


@app.get("/crash-midway")
async def crash_midway() -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"begun"
        raise RuntimeError("in the middle")

    return StreamingResponse(parts())


@app.post("/inside")
async def inside() -> Any:
    return await get_client().threads.create()


@app.get("/open-gate")
async def open_gate() -> None:
    gate.set()


@app.get("/parts")
async def parts() -> StreamingResponse:
    async def two() -> AsyncIterator[bytes]:
        yield b"first"
        await gate.wait()
        yield b"second"

    return StreamingResponse(two())


@app.websocket("/talk")
async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("heard " + await socket.receive_text())
    await socket.close()


@app.get("/{anything:path}")
async def anything(anything: str) -> dict[str, str]:
    return {"anything": anything}
