"""A network that can be cut: a relay between the browser and the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STOP_S = 10


class Relay:
    """Passes bytes both ways until it is cut; mended, it takes new connections."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._up = True
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self.origin = ""

    def start(self) -> None:
        """Listen on a free port of this machine."""
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection, and each new one."""
        self._up = False
        self._call(self._break())

    def mend(self) -> None:
        """Take connections again."""
        self._up = True

    def stop(self) -> None:
        """Close everything."""
        self.cut()
        self._server.close()
        self._call(self._server.wait_closed())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_STOP_S)

    async def _break(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, far_writer}
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self._open -= {writer, far_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass  # Cut on purpose, or by the peer: either way this direction is over.
        finally:
            writer.close()


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A running relay to a port of this machine."""
    opened = Relay(port)
    opened.start()
    try:
        yield opened
    finally:
        opened.stop()
