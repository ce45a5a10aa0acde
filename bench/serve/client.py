"""A small HTTP/1.1 client on asyncio streams: what a load generator needs, and little processor time beside."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection that is kept open.

    A server may close an idle connection just when a request is on its way. So, as every HTTP client does, a request
    on a connection that has carried an answer before, and that ends before any byte of this answer, is sent once more,
    on a new connection. `resent` counts these.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._opened = self._used = 0.0
        self._answers = 0  # that this connection has carried
        self._has_bytes = False  # of the answer that is awaited
        self.resent = 0

    async def open(self) -> None:
        """Connect. Raises: OSError."""
        self._answers = 0
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 26)
        self._opened = self._used = time.perf_counter()

    @property
    def story(self) -> str:
        """Of the connection as it is or was, for whoever looks for the cause of an end."""
        now = time.perf_counter()
        bytes_came = "some" if self._has_bytes else "no"
        return (
            f"connection {now - self._opened:.1f} s old, {self._answers} answers before, the last "
            f"{now - self._used:.1f} s ago, {bytes_came} bytes of this one"
        )

    async def ask(self, path: str, body: bytes = b"", headers: str = "") -> Answer:
        """POST `body`, or GET without one. Raises: OSError or asyncio.IncompleteReadError, the connection ended."""
        try:
            return await self._ask(path, body, headers)
        except (OSError, asyncio.IncompleteReadError):
            is_stale = self._answers > 0 and not self._has_bytes
            self.close()
            if not is_stale:
                raise
        self.resent += 1
        return await self._ask(path, body, headers)

    async def _ask(self, path: str, body: bytes, headers: str) -> Answer:
        self._has_bytes = False
        await self.send(path, body, headers)
        assert self._reader is not None
        try:
            text = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            self._has_bytes = bool(error.partial)
            raise
        self._has_bytes = True
        head = text.decode("latin-1").split("\r\n")
        found = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        answer = await self._reader.readexactly(int(found.get("content-length", "0")))
        self._answers += 1
        self._used = time.perf_counter()
        if found.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), found, answer)

    async def send(self, path: str, body: bytes, headers: str = "") -> None:
        """The request alone; whoever closes the connection then has hung up."""
        if self._writer is None:
            await self.open()
        assert self._writer is not None
        method = "POST" if body else "GET"
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self._writer.write(head.encode("latin-1") + body)
        await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
