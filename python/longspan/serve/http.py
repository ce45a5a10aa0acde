"""Requests and answers over ASGI: bodies within bounds, JSON from strangers, answers in pieces."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from longspan.serve.errors import RequestError
from longspan.serve.interruption import Interruption

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PIECE_BYTES: Final = 256 << 10  # of an answer that is sent at once
REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
SURROGATE: Final = re.compile("[\ud800-\udfff]")
REPLACEMENT: Final = "\ufffd"
JSON: Final = "application/json"


class Request:
    """What a client sent, and what is noted of it on the way."""

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = self.headers.get("x-request-id", "")
        self.id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        trace = TRACEPARENT.fullmatch(self.headers.get("traceparent", ""))
        self.trace_id = trace[1] if trace else None
        self.started = time.monotonic()
        self.body = b""
        self.notes = Notes()
        self.speaks_tei = False  # of a route that two dialects share
        self.is_alone = False  # no other was here lately, but on its own connection

    def number(self, header: str) -> float | None:
        """A header that holds a number of 0 or more; None where it is absent or no such number."""
        try:
            value = float(self.headers.get(header, ""))
        except ValueError:
            return None
        return value if 0 <= value < 1e9 else None


@dataclass(slots=True)
class Notes:
    """What the log line, the metrics and the answer's headers say of a request."""

    model: str = ""
    fingerprint: str = ""
    device: str = ""
    items: int = 0
    tokens: int = 0
    characters: int = 0
    truncated: list[int] = field(default_factory=list)  # indices of items that were cut
    query_is_cut: bool = False
    surrogates: int = 0  # characters that were none
    tokenize: float = 0.0  # seconds
    queue: float = 0.0
    compute: float = 0.0
    encode: float = 0.0
    error: str = ""

    @property
    def num_cut(self) -> int:
        """Texts that were cut."""
        return len(self.truncated) + self.query_is_cut


@dataclass(slots=True)
class Response:
    """Status, body and headers of an answer."""

    body: bytes | Sequence[bytes] = b""
    status: int = 200
    type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else sum(map(len, self.body))

    @classmethod
    def json(cls, value: object, status: int = 200) -> Response:
        """An answer of plain values."""
        return cls(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status)


def check_coding(request: Request) -> None:
    """Raises: RequestError, the body is compressed, or a form: it could only be broken JSON; or where it ends is
    said twice, and someone before us may have read it otherwise."""
    if "transfer-encoding" in request.headers and "content-length" in request.headers:  # RFC 9112 section 6.3
        message = "a request must have one of content-length and transfer-encoding, got both; send one of them"
        error = RequestError("validation", message, status=400, field="body")
        error.headers.append(("connection", "close"))
        raise error
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        message = f"the body must not be compressed, got content-encoding: {coding[:40]}; send it as it is"
        raise RequestError("validation", message, status=415, field="body")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        message = f"the body must be a JSON object, got content-type: {kind[:40]}; send files as base64 in its fields"
        raise RequestError("validation", message, status=415, field="body")


async def read_body(request: Request, receive: Receive, *, limit: int, timeout: float) -> None:
    """Read the body into the request. Raises: RequestError, it is too large or too slow, or the client hung up."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = f"the body did not arrive within {timeout:g} s"
    late = RequestError("validation", message, status=408, code="request_timeout")
    with Interruption(late) as interrupt:
        timer = asyncio.get_running_loop().call_later(timeout, interrupt)
        try:
            request.body = await _received(receive, limit)
        finally:
            timer.cancel()


async def _received(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("dropped", "the client hung up before the end of its request")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> RequestError:
    return RequestError("body_size", f"the body must have at most {limit} bytes; send fewer items a request")


def parse_object(body: bytes) -> tuple[dict[str, Any], int]:
    """The JSON object of a body, and how many lone surrogates became U+FFFD.

    Raises: RequestError, it is not UTF-8, no JSON, or no object.
    """
    try:
        value, replaced = orjson.loads(body), 0
    except orjson.JSONDecodeError as error:
        value, replaced = _with_surrogates(body, str(error))
    if not isinstance(value, dict):
        what = {list: "a list", str: "a string", type(None): "null"}.get(type(value), type(value).__name__)
        raise RequestError("validation", f"the body must be a JSON object, got {what}", status=400, field="body")
    return value, replaced


def _with_surrogates(body: bytes, why: str) -> tuple[object, int]:
    """What orjson refuses for a lone surrogate alone: those become U+FFFD."""
    broken = RequestError("validation", f"the body is not usable JSON: {why}", status=400, field="body")
    if not body.strip():
        raise RequestError("validation", "the body is empty; it must be a JSON object", status=400, field="body")
    if b"\\ud" not in body and b"\\uD" not in body:
        raise broken
    count = 0

    def replaced(text: str) -> str:
        nonlocal count
        if text.isascii() or not SURROGATE.search(text):
            return text
        text, number = SURROGATE.subn(REPLACEMENT, text)
        count += number
        return text

    def repaired(value: Any) -> Any:
        if isinstance(value, str):
            return replaced(value)
        if isinstance(value, list):
            return [repaired(item) for item in value]
        if isinstance(value, dict):
            return {replaced(key): repaired(item) for key, item in value.items()}
        return value

    try:
        value = repaired(json.loads(body.decode("utf-8"), parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        raise broken from None
    if not count:
        raise broken
    return value, count


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


async def send_response(send: Send, response: Response, *, head_only: bool = False) -> None:
    """Send it, a large body in pieces."""
    names = {name for name, _ in response.headers}
    headers = [(name.encode("latin-1"), _header_bytes(value)) for name, value in response.headers]
    if "content-length" not in names:
        headers.append((b"content-length", str(response.length).encode()))
    if response.status == 204:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    elif response.length or head_only:
        headers.append((b"content-type", response.type.encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    if head_only:
        await send({"type": "http.response.body", "body": b""})
        return
    pieces = [response.body] if isinstance(response.body, bytes) else _pieces(response.body)
    for place, piece in enumerate(pieces):
        more = place + 1 < len(pieces)
        await send({"type": "http.response.body", "body": piece, "more_body": more})
        if more:
            await asyncio.sleep(0)
    if not pieces:
        await send({"type": "http.response.body", "body": b""})


def _header_bytes(value: str) -> bytes:
    text = value if value.isascii() and value.isprintable() else re.sub(r"[^\x20-\x7e]", "?", value)
    return text.encode("latin-1")


def _pieces(parts: Sequence[bytes]) -> list[bytes]:
    """The parts joined up to PIECE_BYTES."""
    pieces: list[bytes] = []
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            pieces.append(b"".join(waiting))
            waiting, size = [], 0
    if waiting:
        pieces.append(b"".join(waiting))
    return pieces
