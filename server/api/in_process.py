"""Calls that the code of a project makes to the server it runs in: `get_client()` of the official SDK.

The SDK asks a package `langgraph_api` for the application and for a transport to it. `provide` puts ours
there. A call crosses from whatever loop it is made on to that of the server, passes every layer that a
request from outside passes, and acts for whom the calling code executes.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol, cast
from uuid import UUID

import httpx
import structlog
from starlette.types import ASGIApp, Message, Scope

from ..runs import cache
from ..runs.acting import Actor, current_actor
from .callers import ACTOR, IDENTIFIED

log = structlog.get_logger(__name__)

_PACKAGE = "langgraph_api"
_BUFFERED = 64
"""Parts of a response that wait for their reader before the server waits too."""
_MOMENT_S = 0.1
"""A run that waits for the server itself for longer needs no slot meanwhile."""
_LEAVE_DEADLINE_S = 5.0


class Lender(Protocol):
    """Who gives the slot of a waiting run to another one: the worker."""

    def lend(self, run_id: UUID) -> None:
        """The run waits for this server."""

    def take_back(self, run_id: UUID) -> None:
        """It goes on."""


class Inside:
    """The server as seen from inside its process."""

    def __init__(self) -> None:
        self._door: _Door | None = None

    @asynccontextmanager
    async def open(self, app: ASGIApp, *, prefix: str) -> AsyncIterator[_Door]:
        """Take calls for `app`, on this loop."""
        before, self._door = self._door, _Door(app, prefix)
        door = self._door
        try:
            yield door
        finally:
            self._door = before
            await door.close()

    def call(self, request: httpx.Request, body: bytes) -> _Exchange:
        """Begin a call.

        Raises:
            httpx.ConnectError: no server is up in this process, or it stops.
            RuntimeError: it cannot be told for whom the call is made.
        """
        door, actor = self._door, current_actor()
        if door is None:
            raise httpx.ConnectError(
                "no server is up in this process; `get_client()` without a `url` works in graphs and routes "
                "that `interlock` serves, elsewhere give it a `url`",
                request=request,
            )
        if actor is None:
            # Never as the server itself: that would give a graph all rights wherever it starts a thread.
            raise RuntimeError(
                "it cannot be told for whom this code calls the server: a thread that a node makes itself "
                "does not know; use `asyncio.to_thread`, or run it in `contextvars.copy_context()`"
            )
        exchange = _Exchange(door.loop, actor)
        try:
            door.loop.call_soon_threadsafe(door.take, exchange, request, body, context=contextvars.Context())
        except RuntimeError as error:
            raise httpx.ConnectError("this server has stopped", request=request) from error
        return exchange


class _Door:
    """Where calls come in; everything here happens on the loop of the server."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.lender: Lender | None = None
        """Who lends the slots of waiting runs; None where no runs are executed."""
        self._app = app
        self._prefix = prefix
        self._open: dict[asyncio.Task[None], _Exchange] = {}

    def take(self, exchange: _Exchange, request: httpx.Request, body: bytes) -> None:
        """Serve a call."""
        scope = _scope(request, self._prefix, exchange.actor)
        task = self.loop.create_task(self._serve(exchange, scope, body), name="in-process call")
        self._open[task] = exchange
        task.add_done_callback(lambda done: self._open.pop(done))

    async def _serve(self, exchange: _Exchange, scope: Scope, body: bytes) -> None:
        with self._lent(exchange.actor.run_id):
            await exchange.serve(self._app, scope, body)

    @contextlib.contextmanager
    def _lent(self, run_id: UUID | None) -> Iterator[None]:
        lender = self.lender
        if run_id is None or lender is None:
            yield
            return
        lent = False

        def lend() -> None:
            nonlocal lent
            lent = True
            lender.lend(run_id)

        timer = self.loop.call_later(_MOMENT_S, lend)
        try:
            yield
        finally:
            timer.cancel()
            if lent:
                lender.take_back(run_id)

    async def close(self) -> None:
        """Let go of every reader that is left."""
        for exchange in self._open.values():
            exchange.let_go()
        if self._open:
            await asyncio.wait(self._open, timeout=_LEAVE_DEADLINE_S)
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)


@dataclass(frozen=True, slots=True)
class _Start:
    """Status and headers of a response."""

    status: int
    headers: list[tuple[bytes, bytes]]


class _Exchange:
    """One call: served on the loop of the server, read on any other, or in a thread without one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, actor: Actor) -> None:
        self.actor = actor
        self.left = asyncio.Event()
        self._loop = loop
        self._unread = 0
        self._moved = asyncio.Event()
        self._lock = threading.Lock()
        self._parts: deque[_Start | bytes | Exception | None] = deque()
        self._reader: concurrent.futures.Future[Any] | None = None

    async def serve(self, app: ASGIApp, scope: Scope, body: bytes) -> None:
        """Let the application answer; what goes wrong goes to the reader."""
        given = complete = False

        async def receive() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                self._put(_Start(message["status"], list(message.get("headers", ()))))
            elif message["type"] == "http.response.body":
                if part := message.get("body", b""):
                    await self._put_when_read(part)
                if not message.get("more_body", False):
                    complete = True
                    self._put(None)

        try:
            await app(scope, receive, send)
        except Exception as error:
            log.error("in_process_call_failed", path=scope["path"], exc_info=error)
        finally:
            if not complete:
                self._put(httpx.RemoteProtocolError("the server broke the response off"))

    async def _put_when_read(self, part: bytes) -> None:
        while self._unread >= _BUFFERED and not self.left.is_set():
            self._moved.clear()
            await self._moved.wait()
        if not self.left.is_set():
            self._unread += 1
            self._put(part)

    def _put(self, part: _Start | bytes | Exception | None) -> None:
        with self._lock:
            if self._reader is None:
                self._parts.append(part)
            else:
                self._reader.set_result(part)
                self._reader = None

    def take(self) -> concurrent.futures.Future[Any]:
        """What comes next: the start, then parts, then None; an exception is one that ends it."""
        part: concurrent.futures.Future[Any] = concurrent.futures.Future()
        # Whoever waits may be cancelled meanwhile; the answer then goes nowhere.
        part.set_running_or_notify_cancel()
        with self._lock:
            if self._parts:
                part.set_result(self._parts.popleft())
            else:
                self._reader = part
        return part

    def read(self) -> None:
        """Tell the server that a part was read."""
        self._post(self._was_read)

    def leave(self) -> None:
        """Tell the server that nobody reads any more."""
        self._post(self.let_go)

    def _was_read(self) -> None:
        self._unread -= 1
        self._moved.set()

    def let_go(self) -> None:
        """Take no more from the application, on the loop of the server."""
        self.left.set()
        self._moved.set()

    def _post(self, callback: Any) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, context=contextvars.Context())

    @property
    def on_this_loop(self) -> bool:
        """Whether whoever asks is on the loop of the server."""
        return asyncio._get_running_loop() is self._loop


class Transport(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Takes requests of an HTTP client to this very server; responses stream."""

    def __init__(self, inside: Inside) -> None:
        self.app: Any = None
        """Set by the SDK, which does not know that we know."""
        self._inside = inside

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request from a coroutine."""
        exchange = self._inside.call(request, await request.aread())
        try:
            start = _checked(await asyncio.wrap_future(exchange.take()))
        except BaseException:
            exchange.leave()
            raise
        return httpx.Response(start.status, headers=start.headers, stream=_AsyncParts(exchange))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request from a thread.

        Raises:
            RuntimeError: the thread is that of the server, which could not answer meanwhile.
        """
        exchange = self._inside.call(request, request.read())
        if exchange.on_this_loop:
            exchange.leave()
            raise RuntimeError(
                "this would wait for itself; use the async client here, or `asyncio.to_thread`"
            )
        try:
            start = _checked(exchange.take().result())
        except BaseException:
            exchange.leave()
            raise
        return httpx.Response(start.status, headers=start.headers, stream=_Parts(exchange))


class _AsyncParts(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := _checked(await asyncio.wrap_future(self._exchange.take()))) is not None:
            self._exchange.read()
            yield part

    async def aclose(self) -> None:
        self._exchange.leave()


class _Parts(httpx.SyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        while (part := _checked(self._exchange.take().result())) is not None:
            self._exchange.read()
            yield part

    def close(self) -> None:
        self._exchange.leave()


def provide() -> Inside:
    """Make `get_client()` and `langgraph_sdk.cache` work in this process; the same object each time.

    Call it before any code of a project is imported: the SDK looks for the package once.
    """
    present = sys.modules.get(f"{_PACKAGE}.server")
    if present is not None and isinstance(getattr(present, "app", None), Inside):
        return present.app
    inside = Inside()

    def transport(*_: Any, **__: Any) -> Transport:
        return Transport(inside)

    contents: dict[str, dict[str, Any]] = {
        "asgi_transport": {"ASGITransport": transport},
        "cache": {name: getattr(cache, name) for name in cache.__all__},
        "server": {"app": inside},
    }
    package = ModuleType(_PACKAGE, "What the official SDK looks for inside a server.")
    package.__path__ = []
    sys.modules[_PACKAGE] = package
    for name, values in contents.items():
        module = ModuleType(f"{_PACKAGE}.{name}")
        vars(module).update(values)
        setattr(package, name, module)
        sys.modules[module.__name__] = module
    return inside


def _checked(part: Any) -> Any:
    if isinstance(part, Exception):
        raise part
    return part


def _scope(request: httpx.Request, prefix: str, actor: Actor) -> Scope:
    # A Location that the client follows has the prefix already.
    path = request.url.path
    prefix = "" if path == prefix or path.startswith(f"{prefix}/") else prefix
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": prefix + path,
        "raw_path": prefix.encode() + request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port or 80),
        "client": ("127.0.0.1", 0),
        "extensions": {},
        IDENTIFIED: actor.principal,
        ACTOR: actor,
    }
    return cast("Scope", scope)
