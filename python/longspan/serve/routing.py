"""What a dialect gives to the app: its routes, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from longspan.serve.errors import RequestError
from longspan.serve.fields import Fields
from longspan.serve.http import Request, Response
from longspan.serve.service import Service

Handler = Callable[[Service, Request, Fields], Awaitable[Response]]
ErrorAnswer = Callable[[RequestError, str], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path."""

    method: str
    path: str  # without a slash at the end, but for the root
    handler: Handler
    error: ErrorAnswer
    is_open: bool = False  # answered without a key
    computes: bool = False  # counts among te_request_*


def plain(value: Any, status: int, error: RequestError) -> Response:
    """An error's answer, with its headers."""
    response = Response.json(value, status)
    response.headers += error.headers
    return response
