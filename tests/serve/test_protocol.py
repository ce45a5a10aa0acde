"""What goes out on a connection, write by write, with each of uvicorn's parsers."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from longspan.serve.protocol import MOST_GATHERED, GatheringTransport, our_protocol

ASK = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
LARGE = b"x" * (MOST_GATHERED + 1)


class Sent(asyncio.Transport):
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.ends: list[str] = []

    def write(self, data: Any) -> None:
        assert not self.ends, "written after the end"
        self.writes.append(data)

    def write_eof(self) -> None:
        self.ends.append("eof")

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def is_closing(self) -> bool:
        return bool(self.ends)

    def get_write_buffer_size(self) -> int:
        return 7

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the path as the body; `/echo` with what came; `/pieces` in three, one large and a turn later."""
    came, has_more = b"", True
    while has_more:
        message = await receive()
        came, has_more = came + message.get("body", b""), message.get("more_body", False)
    path = scope["path"].encode()
    body = {b"/pieces": b"a" + LARGE + b"z", b"/echo": came}.get(path, path)
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    await send(head)
    if path == b"/pieces":
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": LARGE, "more_body": True})
        body = b"z"
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=["h11", "httptools"])
def parser(request: pytest.FixtureRequest) -> type[Any]:
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    name = {"h11": "H11Protocol", "httptools": "HttpToolsProtocol"}[request.param]
    found: type[Any] = getattr(importlib.import_module(f"uvicorn.protocols.http.{request.param}_impl"), name)
    return found


def converse(parser: type[Any], talk: Callable[[Any, Sent], Awaitable[None]]) -> Sent:
    """What a connection sent on which `talk` was held with the protocol."""

    async def run() -> Sent:
        config = uvicorn.Config(app, log_config=None, ws="none", lifespan="off", date_header=False, access_log=False)
        config.load()
        protocol = our_protocol(parser, 30)(config, ServerState(), {})
        sent = Sent()
        protocol.connection_made(sent)
        await talk(protocol, sent)
        protocol.connection_lost(None)
        await asyncio.sleep(0)
        return sent

    return asyncio.run(run())


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_an_answer_is_one_write(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        for number in (1, 2):
            protocol.data_received(ASK.replace(b"/ ", b"/%d " % number))
            await turns()
            assert len(sent.writes) == number and not sent.ends

    sent = converse(parser, talk)
    assert [write[-2:] for write in sent.writes] == [b"/1", b"/2"]
    assert all(write.startswith(b"HTTP/1.1 200") for write in sent.writes)


def test_an_answer_goes_out_before_its_connection_is_closed(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        protocol.data_received(ASK.replace(b"host: x", b"connection: close"))
        await turns()
        assert len(sent.writes) == 1 and sent.ends[0] == "close"

    converse(parser, talk)


def test_an_answer_is_out_before_the_turn_in_which_the_client_half_closes(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        protocol.transport.write(b"half")
        protocol.eof_received()
        assert sent.writes == [b"half"]

    converse(parser, talk)


def test_pipelined_requests_are_answered_in_order(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        protocol.data_received(b"".join(ASK.replace(b"/ ", b"/%d " % number) for number in range(5)))
        await turns(30)

    sent = converse(parser, talk)
    assert [write[-2:] for write in sent.writes] == [b"/0", b"/1", b"/2", b"/3", b"/4"]


def test_a_client_that_waits_for_100_continue_gets_it(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        protocol.data_received(ASK[:-2].replace(b"host: x", b"host: x\r\nexpect: 100-continue"))
        await turns()
        assert b"".join(sent.writes).startswith(b"HTTP/1.1 100 ") and sent.writes[-1].endswith(b"\r\n\r\n")
        protocol.data_received(b"{}")
        await turns()
        assert len(sent.writes) == 2 and sent.writes[1].startswith(b"HTTP/1.1 200")

    converse(parser, talk)


def test_pieces_go_out_as_they_come_and_large_ones_are_not_copied(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        protocol.data_received(ASK.replace(b"/ ", b"/pieces "))
        await turns()

    first, large, last = converse(parser, talk).writes
    assert first.startswith(b"HTTP/1.1 200") and first.endswith(b"\r\n\r\na") and last == b"z"
    assert large is LARGE


WISH = b"connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAEA\r\nupgrade: h2c\r\nhost: x"


@pytest.mark.parametrize("pieces", [1, 2, 3, 1000])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_wishes_for_other_protocols_are_left_alone(
    parser: type[Any], pieces: int, is_chunked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As Java's HttpClient sends them, with every request: its body is the request's."""
    ask = ASK.replace(b"POST / ", b"POST /echo ").replace(b"host: x", WISH)
    if is_chunked:
        ask = ask.replace(b"content-length: 2", b"transfer-encoding: chunked").replace(b"{}", b"2\r\n{}\r\n0\r\n\r\n")
    asks = ask + ask + ASK.replace(b"POST /", b"GET /plain").replace(b"host: x", WISH)
    step = -(-len(asks) // pieces)

    async def talk(protocol: Any, sent: Sent) -> None:
        for start in range(0, len(asks), step):
            protocol.data_received(asks[start : start + step])
            await turns()

    sent = b"".join(converse(parser, talk).writes)
    answers = sent.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200"] * 3
    assert [answer.rpartition(b"\r\n\r\n")[2] for answer in answers] == [b"{}", b"{}", b"/plain"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_tunnels_are_refused(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        protocol.data_received(b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example\r\n\r\n")
        await turns()

    sent = b"".join(converse(parser, talk).writes)
    assert sent.startswith(b"HTTP/1.1 ")


def test_what_is_no_http_is_refused_in_one_write(parser: type[Any]) -> None:
    async def talk(protocol: Any, sent: Sent) -> None:
        protocol.data_received(b"hello there\r\n\r\n")
        await turns()
        assert sent.ends

    sent = converse(parser, talk)
    assert len(sent.writes) == 1 and sent.writes[0].startswith(b"HTTP/1.1 400")


def test_the_transport() -> None:
    async def run() -> None:
        real = Sent()
        transport: Any = GatheringTransport(real, asyncio.get_running_loop())
        transport.writelines([b"a", bytearray(b"b"), b"", memoryview(b"c")])
        assert real.writes == [] and transport.get_write_buffer_size() == 3 + 7
        await turns(1)
        assert real.writes == [b"abc"]  # at the end of the turn
        await turns(1)
        transport.write(b"d")
        transport.write(LARGE)
        assert real.writes[1:] == [b"d", LARGE]  # in order
        transport.write(b"e")
        transport.write_eof()
        assert real.writes[-1] == b"e" and real.ends == ["eof"]
        real.ends.clear()
        transport.write(b"f")
        transport.abort()
        await turns(2)
        assert real.writes[-1] == b"e" and real.ends == ["abort"]
        assert transport.is_closing()  # all else is the transport's own

    asyncio.run(run())
