"""A server in a process of its own: ours, or a peer's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .client import Connection

READY_SECONDS = 120.0


class ServerProcess:
    """It is ready when `GET /ready` says so."""

    def __init__(self, command: Sequence[str], port: int | None = None) -> None:
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.port = port or self._read_port()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        asyncio.run(self._until_ready())

    def _read_port(self) -> int:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.lines.append(line)
            if found := re.search(r" at http://[^:]+:(\d+)", line):
                return int(found[1])
        raise OSError(f"the server did not start: {''.join(self.lines[-3:])}")

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.lines = [*self.lines[-50:], line]

    async def _until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.popen.poll() is None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                connection = Connection(self.port)
                answer = await connection.ask("/ready")
                connection.close()
                if answer.status == 200:
                    return
            await asyncio.sleep(0.05)
        raise OSError(f"the server is not ready: {''.join(self.lines[-3:])}")

    @property
    def resident_mb(self) -> float:
        """Memory of the process, in MB of 1e6 bytes; 0 where the system does not tell."""
        try:
            pages = int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1])
        except OSError:
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def processor_seconds(self) -> float:
        """What the process has computed, all threads together; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Let go of a process that has ended."""
        self._reader.join(10)
        if self.popen.stderr is not None:
            self.popen.stderr.close()


@contextlib.contextmanager
def our_server(model: str, threads: int, *options: str) -> Iterator[ServerProcess]:
    """`longspan serve MODEL`, until the end of the block."""
    command = [sys.executable, "-m", "longspan", "serve", model, "--port", "0", "--no-log", "--threads", str(threads)]
    with running(ServerProcess([*command, *options])) as server:
        yield server


@contextlib.contextmanager
def running(server: ServerProcess) -> Iterator[ServerProcess]:
    """Ends it, if it has not ended."""
    try:
        yield server
    finally:
        if server.popen.poll() is None:
            server.popen.kill()
            server.popen.wait(10)
        server.close()
