"""A connection pooler in transaction mode, small enough to read: what PgBouncer does to its clients."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from ..streams import Serving, close_all

_PROTOCOL = 196608
_SSL_REQUEST, _CANCEL_REQUEST, _GSS_REQUEST = 80877103, 80877102, 80877104
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One message after the start-up: its type, and all its bytes."""
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!I", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)


class TransactionPooler:
    """Lends one of a few server connections to a client for each transaction, in turn.

    A prepared statement or a setting that a client left behind is not there the next time.
    """

    def __init__(self, database_url: str, *, servers: int) -> None:
        address = urlsplit(database_url)
        options = {name: values[0] for name, values in parse_qs(address.query).items()}
        self._socket = f"{options['host']}/.s.PGSQL.{options['port']}"
        self._database = address.path.lstrip("/")
        self._size = servers
        self._free: asyncio.Queue[Stream] = asyncio.Queue()
        self._greeting = b""
        self._folder = tempfile.TemporaryDirectory(prefix="pool-")
        self._open: list[asyncio.StreamWriter] = []
        self._serving = Serving(self._serve)
        self.url = f"postgresql://postgres@/{self._database}?host={self._folder.name}&port=6432"
        self.transactions = 0

    async def __aenter__(self) -> Self:
        for _ in range(self._size):
            await self._free.put(await self._connect())
        path = Path(self._folder.name) / ".s.PGSQL.6432"
        self._listener = await asyncio.start_unix_server(self._serving, path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listener.close()
        await self._serving.end()
        await close_all(self._open)
        self._folder.cleanup()

    async def _connect(self) -> Stream:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        self._open.append(writer)
        text = f"user\0postgres\0database\0{self._database}\0\0".encode()
        writer.write(struct.pack("!II", 8 + len(text), _PROTOCOL) + text)
        greeting = b""
        kind = b""
        while kind != b"Z":
            kind, message = await read_message(reader)
            assert kind != b"E", message
            greeting += message
        self._greeting = greeting
        return reader, writer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inbox: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            if await self._welcome(reader, writer):
                speaking = asyncio.create_task(self._transactions(inbox, writer))
                try:
                    while (message := await read_message(reader))[0] != b"X":
                        inbox.put_nowait(message)
                finally:
                    speaking.cancel()
                    await asyncio.wait({speaking})

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the start-up ourselves; false for what is not one."""
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if code == _CANCEL_REQUEST:
                return False
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                writer.write(self._greeting)
                return True
            writer.write(b"N")

    async def _transactions(
        self, inbox: asyncio.Queue[tuple[bytes, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        message = await inbox.get()
        while True:
            server = await self._free.get()
            self.transactions += 1
            try:
                message = await self._transaction(server, message, inbox, writer)
            except asyncio.CancelledError:
                # The client left in the middle: nobody may get what it left behind.
                server[1].close()
                await self._free.put(await self._connect())
                raise
            if message is None:
                message = await inbox.get()

    async def _transaction(
        self,
        server: Stream,
        message: tuple[bytes, bytes],
        inbox: asyncio.Queue[tuple[bytes, bytes]],
        writer: asyncio.StreamWriter,
    ) -> tuple[bytes, bytes] | None:
        """Pass messages both ways until the server is idle; returns a message that came too late."""
        unanswered = 0

        async def answers() -> None:
            nonlocal unanswered
            while True:
                kind, answer = await read_message(server[0])
                writer.write(answer)
                if kind == b"Z":
                    unanswered -= 1
                    if unanswered == 0 and answer[-1:] == b"I":
                        return

        relay = asyncio.create_task(answers())
        try:
            while True:
                unanswered += message[0] in (b"Q", b"S")
                server[1].write(message[1])
                following = asyncio.create_task(inbox.get())
                try:
                    await asyncio.wait({relay, following}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not following.done():
                        following.cancel()
                if relay.done():
                    self._free.put_nowait(server)
                    return following.result() if following.done() and not following.cancelled() else None
                message = following.result()
        finally:
            relay.cancel()
