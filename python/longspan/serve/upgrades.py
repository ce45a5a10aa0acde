"""Requests that wish for another protocol beside HTTP/1.1, which RFC 9110 section 7.8 lets a server leave alone.

Java's HttpClient asks so for HTTP/2 with every request. httptools takes what follows such a head for the other
protocol, and uvicorn then answers a request without a body. So the head is read once more, without the wish.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

WISHES: Final = (b"upgrade", b"http2-settings")
TUNNEL: Final = b"CONNECT"  # which is none of ours, however often it is read


def without_upgrades(protocol: type[Any]) -> type[Any]:
    """uvicorn's protocol over httptools that reads requests as if they wished for no other."""

    class WithoutUpgrades(protocol):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.parser = _Parser(self)

        def on_headers_complete(self) -> None:
            if not self._is_read_again():
                super().on_headers_complete()

        def on_message_complete(self) -> None:
            if not self._is_read_again():
                super().on_message_complete()

        def _is_read_again(self) -> bool:
            return self.parser.should_upgrade() and self.parser.get_method() != TUNNEL

        def plain_head(self) -> bytes:
            """The request's head as it came, but for the wish."""
            method, version = self.parser.get_method(), self.parser.get_http_version().encode()
            lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
            for name, value in self.headers:
                words = value.split(b",") if name == b"connection" else [value]
                kept = [word for word in words if name != b"connection" or word.strip().lower() not in WISHES]
                if name not in WISHES:
                    lines.append(b"%b: %b" % (name, b",".join(kept)))
            return b"\r\n".join([*lines, b"", b""])

    return WithoutUpgrades


class _Parser:
    """httptools' parser, begun anew behind each wish."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._parser = protocol.parser
        self._upgrade: type[Exception] = importlib.import_module("httptools").HttpParserUpgrade

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        """See httptools."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except self._upgrade as upgrade:
                if self._parser.get_method() == TUNNEL:
                    raise
                data = self._protocol.plain_head() + data[upgrade.args[0] :]
