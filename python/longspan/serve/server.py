"""A listening server around the app: uvicorn, its sockets and signals."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from longspan.serve.app import App
from longspan.serve.protocol import our_protocol

log = logging.getLogger("longspan.serve")

BACKLOG: Final = 2048
LOCAL: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Bind:
    """Where the server listens."""

    host: str = "127.0.0.1"
    port: int = 8080  # 0: one that is free
    uds: str | None = None  # a Unix socket's path, in place of both
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def url(self) -> str:
        """What clients are told."""
        if self.uds is not None:
            return f"unix:{self.uds}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_cert else 'http'}://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.uds is not None or self.host in LOCAL


def listen(bind: Bind, *, shared: bool = False) -> socket.socket:
    """A listening socket; with `shared` others may listen at the same port, and the kernel deals connections out.

    Raises: OSError, with the address, if it is taken.
    """
    if bind.uds is not None:
        return _listen_unix(bind.uds)
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it. Without it an answer's body, sent behind its head, waits 40 ms for the client.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((bind.host, bind.port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise OSError(f"cannot listen at {bind.host}:{bind.port}: {error.strerror or error}") from error
    made.set_inheritable(True)
    return made


def _listen_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)  # of a server that was killed; another kind of file stays, and is an error below
        made.bind(path)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise OSError(f"cannot listen at {path}: {error.strerror or error}") from error
    return made


class Server(uvicorn.Server):
    """uvicorn, with our signals: the first one drains, the second ends at once. The exit code of a drain is 0."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app = app
        self._asked = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if self._asked:
            self.should_exit = self.force_exit = True
            return
        self._asked = True
        self._app.service.retire()
        delay = self._app.settings.drain_delay
        if delay:
            asyncio.get_event_loop().call_later(delay, self.leave)
        else:
            self.leave()

    def leave(self) -> None:
        """Finish what is here, and end."""
        self.should_exit = True


def serve(app: App, bind: Bind, sockets: Sequence[socket.socket]) -> None:
    """Serve until a signal, then finish what is here. Raises: RuntimeError, a model cannot be loaded."""
    config = uvicorn.Config(
        app,
        http=our_protocol(AutoHTTPProtocol, app.settings.read_timeout),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=app.settings.keep_alive,  # type: ignore[arg-type]  # it goes to `loop.call_later`
        timeout_graceful_shutdown=max(1, int(app.settings.drain_timeout)),
        backlog=BACKLOG,
        ssl_certfile=bind.tls_cert,
        ssl_keyfile=bind.tls_key,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = Server(config, app)
    app.service.when_failed = server.leave
    server.run(sockets=list(sockets))
    if app.service.failure:
        raise RuntimeError(app.service.failure)


def announce(bind: Bind, app_names: Sequence[str], *, has_keys: bool, workers: int = 1) -> None:
    """Say on stderr where the server is, and who can reach it."""
    many = f", {workers} workers" if workers > 1 else ""
    print(f"longspan: serving {', '.join(app_names)} at {bind.url}{many}", file=sys.stderr, flush=True)
    if not bind.is_local:
        keys = "with a key" if has_keys else "WITHOUT a key; --api-key-file asks for one"
        print(f"longspan: warning: {bind.host} is reachable from other machines {keys}", file=sys.stderr, flush=True)
