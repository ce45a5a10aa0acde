"""A server in this process, on a real socket, and a client that hides nothing."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from longspan.serve.app import App
from longspan.serve.protocol import our_protocol
from longspan.serve.server import Bind, Server, listen

GOLDEN = Path(__file__).parent / "golden"


def golden(family: str) -> str:
    """The folder of a golden model."""
    folder = GOLDEN / family
    return str(folder if (folder / "config.json").exists() else folder / "model")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Live:
    """A running server."""

    def __init__(self, app: App, port: int) -> None:
        self.app, self.port = app, port
        self.url = f"http://127.0.0.1:{port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 60
    ) -> Answer:
        """One request on a connection of its own. A body that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.ask("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, {name.replace("_", "-"): value for name, value in headers.items()})

    def wait_until_ready(self) -> None:
        for _ in range(600):
            if self.get("/ready").status == 200:
                return
            threading.Event().wait(0.05)
        raise AssertionError(self.get("/ready").body)


@contextmanager
def serving(app: App, *, is_ready: bool = True) -> Iterator[Live]:
    """The app on a free port, in a thread, until the end of the block."""
    socket = listen(Bind(port=0))
    protocol = our_protocol(AutoHTTPProtocol, app.settings.read_timeout)
    config = uvicorn.Config(app, http=protocol, lifespan="on", log_config=None, ws="none")
    server = Server(config, app)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])), daemon=True)
    thread.start()
    live = Live(app, socket.getsockname()[1])
    try:
        if is_ready:
            live.wait_until_ready()
        yield live
    finally:
        server.should_exit = True
        thread.join(30)
        socket.close()
