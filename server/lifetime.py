"""One process from start to stop: its loop, its socket, its signals."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

import structlog
import uvicorn

from .app import create_app
from .records.event_log import Hub
from .worker.loop import Worker
from .worker.run_loops import new_event_loop

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from fastapi import FastAPI

    from .runs.catalog import Catalog
    from .settings import Settings

log = structlog.get_logger(__name__)

_CLOSE_STREAMS_S = 3.0
"""Time for open responses to end by themselves after a stop signal."""
_KEEP_ALIVE_S = 75
_BACKLOG = 2048
_STARTUP_FAILED = 3
"""Exit code of a server that never answered; what went wrong is in the log."""


def serve(
    settings: Settings,
    catalog: Catalog,
    *,
    bound: socket.socket,
    worker: bool,
    certificate: tuple[str, str] | None = None,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serve the API, with `worker` execute runs too, until a signal says stop."""
    _warn_of_open_door(settings, bound, guarded=catalog.auth is not None)
    app = create_app(settings, catalog, hub=Hub(), worker=worker)
    certfile, keyfile = certificate or (None, None)
    config = uvicorn.Config(
        app,
        loop="auto",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=settings.http.max_body_bytes,
        lifespan="on",
        log_config=None,
        access_log=settings.log.level == "debug",
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=int(_CLOSE_STREAMS_S),
        # Longer than clients keep an idle connection, so that none sends into one that is being closed.
        timeout_keep_alive=_KEEP_ALIVE_S,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )
    server = _Server(config, app, announce)
    server.run(sockets=[bound])
    if not server.started:
        sys.exit(_STARTUP_FAILED)


class _Server(uvicorn.Server):
    """Tells the worker to drain as soon as the signal comes, not after the last response."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so once requests are answered."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler
        """Stop in good order; at a second signal at once, which is what a crash would do and as safe."""
        if self.should_exit:
            os._exit(128 + sig)
        self.should_exit = True
        worker: Worker | None = getattr(self._app.state, "worker", None)
        if worker is not None:
            self._loop.call_soon_threadsafe(worker.request_drain)


def _warn_of_open_door(settings: Settings, bound: socket.socket, *, guarded: bool) -> None:
    host = bound.getsockname()[0]
    if not settings.auth.api_keys and not guarded and not ipaddress.ip_address(host).is_loopback:
        log.warning("open_to_everybody", host=host, advice="set `[[auth.api_keys]]`, or listen on 127.0.0.1")


def work(settings: Settings, catalog: Catalog) -> None:
    """Execute runs, without the API, until a signal says stop."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_work(settings, catalog))


async def _work(settings: Settings, catalog: Catalog) -> None:
    # The application is there too, only without a socket: graphs call it from inside the process.
    app = create_app(settings, catalog, hub=Hub(), worker=True)
    stops = asyncio.Event()

    def stop(number: int) -> None:
        if stops.is_set():
            os._exit(128 + number)
        stops.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    async with app.router.lifespan_context(app):
        await stops.wait()
