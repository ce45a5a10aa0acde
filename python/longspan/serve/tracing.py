"""OpenTelemetry spans of a request's stages, where its API is installed; nothing where it is not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longspan.serve.http import Request


@cache
def _api() -> Any:
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        return None
    return trace.get_tracer("longspan.serve"), propagate


def stage(name: str, request: Request, start: float, end: float) -> None:
    """A span from `start` to `end`, of time.monotonic(), below the trace that the client's traceparent names."""
    if (api := _api()) is None:
        return
    tracer, propagate = api
    headers: Mapping[str, str] = request.headers
    offset = time.time() - time.monotonic()
    span = tracer.start_span(
        name,
        context=propagate.extract(headers),
        start_time=int((start + offset) * 1e9),
        attributes={"longspan.request_id": request.id, "longspan.model": request.notes.model},
    )
    span.end(end_time=int((end + offset) * 1e9))
