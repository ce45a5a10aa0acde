"""What is ours of an HTTP connection, over uvicorn's protocol: heads come in time, an answer goes out in one write."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from longspan.serve.upgrades import without_upgrades

MOST_GATHERED: Final = 64 << 10  # bytes that are copied to be sent together; more goes out as it comes


class GatheringTransport:
    """A transport that sends together what is written within one turn of the event loop.

    uvicorn writes an answer's head, its body and its end one after the other. Each write is a system call, and wakes a
    client that then waits for the rest. What is written here waits for `flush`, which the protocol calls at an answer's
    end; for the end of the turn, so that nothing waits for what may never come; or for `close`. Everything else is the
    transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0  # bytes of them
        self._is_due = False  # at the end of this turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it, together with what else is written in this turn."""
        if not data:
            return
        if self._size + len(data) > MOST_GATHERED:
            self.flush()
            self._transport.write(data)
            return
        self._held.append(bytes(data))  # of bytes no copy
        self._size += len(data)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._end_of_turn)

    def writelines(self, parts: Any) -> None:
        """Each of them."""
        for part in parts:
            self.write(part)

    def flush(self) -> None:
        """Send what waits, now."""
        if self._held:
            held, self._held, self._size = self._held, [], 0
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def _end_of_turn(self) -> None:
        self._is_due = False
        self.flush()

    def write_eof(self) -> None:
        """No more will be written."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what waits, and close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close now; what waits is lost, as what the transport holds is."""
        self._held, self._size = [], 0
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Bytes that are not sent yet."""
        return self._size + self._transport.get_write_buffer_size()


def our_protocol(protocol: type[Any], seconds: float) -> type[Any]:
    """uvicorn's protocol, of either parser, that gathers what it writes, and closes connections on which no request's
    head is whole within `seconds`. Wishes for other protocols are left alone."""
    if hasattr(protocol, "on_headers_complete"):  # over httptools
        protocol = without_upgrades(protocol)

    class OurProtocol(protocol):  # type: ignore[misc]
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(GatheringTransport(transport, self.loop))
            self._wait_for_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._in_request():
                self._head_is_here()
            elif self._head_timer is None:
                self._wait_for_head()

        def eof_received(self) -> bool | None:
            self.transport.flush()  # before the transport closes itself
            kept: bool | None = super().eof_received()
            return kept

        def connection_lost(self, error: Exception | None) -> None:
            self._head_is_here()
            super().connection_lost(error)

        def on_response_complete(self) -> None:
            self.transport.flush()
            super().on_response_complete()

        def _unsupported_upgrade_warning(self) -> None:
            """Nothing: whoever wishes for HTTP/2 gets an answer without it, and an operator can do nothing."""

        def _in_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _wait_for_head(self) -> None:
            self._head_timer = self.loop.call_later(seconds, self._close)

        def _head_is_here(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _close(self) -> None:
            self._head_timer = None
            if not self._in_request() and not self.transport.is_closing():
                self.transport.close()

    return OurProtocol
