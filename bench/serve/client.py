"""A small HTTP/1.1 client on asyncio streams: what a load generator needs, and little processor time beside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect. Raises: OSError."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 26)

    async def ask(self, path: str, body: bytes = b"", headers: str = "") -> Answer:
        """POST `body`, or GET without one. Raises: OSError or asyncio.IncompleteReadError, the connection ended."""
        if self._writer is None:
            await self.open()
        await self.send(path, body, headers)
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        answer = await self._reader.readexactly(int(found.get("content-length", "0")))
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
