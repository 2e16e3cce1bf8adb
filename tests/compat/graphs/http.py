"""Routes and middleware beside the server's, and the emptying that the suite asks for between tests."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CREATES_RUNS = re.compile(r"/runs(/stream|/wait|/batch)?|/threads/[^/]+/runs(/stream|/wait)?")
_HEADER = "x-configurable-header"


class Intercept:
    """Answers `?interrupt` itself, and marks every other answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if "interrupt" in Request(scope).query_params:
            await JSONResponse({"status": "interrupted"})(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-js-middleware"] = "true"
            await send(message)

        await self.app(scope, receive, marked)


class HeaderIntoConfig:
    """Puts a header of requests that create runs into their `config.configurable`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["type"] == "http" and scope["method"] == "POST"
        if not wanted or not _CREATES_RUNS.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        value = request.headers.get(_HEADER)
        body = await request.body()
        if value is not None:
            asked: dict[str, Any] = json.loads(body)
            asked.setdefault("config", {}).setdefault("configurable", {}).setdefault(_HEADER, value)
            body = json.dumps(asked).encode()
            MutableHeaders(scope=scope)["content-length"] = str(len(body))
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replayed, send)


async def ask_the_server(request: Request) -> Response:
    async with get_client(url=str(request.base_url)) as client:
        asked = {"messages": [{"role": "human", "content": "input"}]}
        return JSONResponse({"result": await client.runs.wait(None, "agent_simple", input=asked)})


async def own_route(request: Request) -> Response:
    return JSONResponse(
        {"foo": "bar"}, headers={"x-custom-output": request.headers.get("x-custom-input", "")}
    )


async def below_runs(_: Request) -> Response:
    return JSONResponse({"foo": "afakeroute"})


async def refuse(_: Request) -> Response:
    raise HTTPException(400, "Bad request")


async def counting(_: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(4):
            yield f"Count: {number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")


async def take_webhook(request: Request) -> Response:
    request.app.state.webhook = await request.json()
    return JSONResponse({"status": "success"})


async def show_webhook(request: Request) -> Response:
    return JSONResponse(request.app.state.webhook)


async def truncate(request: Request) -> Response:
    wanted = await request.json()
    async with get_client(url=str(request.base_url)) as client:
        if wanted.get("threads"):
            while found := await client.threads.search(limit=1000, select=["thread_id"]):
                await asyncio.gather(*(client.threads.delete(one["thread_id"]) for one in found))
        if wanted.get("store"):
            await _empty_store(client)
    return JSONResponse({"ok": True})


async def _empty_store(client: LangGraphClient) -> None:
    for namespace in (await client.store.list_namespaces(limit=1000))["namespaces"]:
        for item in (await client.store.search_items(namespace, limit=1000))["items"]:
            await client.store.delete_item(item["namespace"], item["key"])


app = Starlette(
    routes=[
        Route("/custom/client", ask_the_server),
        Route("/custom/my-route", own_route),
        Route("/runs/afakeroute", below_runs),
        Route("/custom/error", refuse),
        Route("/custom/streaming", counting),
        Route("/custom/webhook", take_webhook, methods=["POST"]),
        Route("/custom/webhook-payload", show_webhook),
        Route("/internal/truncate", truncate, methods=["POST"]),
    ],
    middleware=[Middleware(Intercept), Middleware(HeaderIntoConfig)],
)
