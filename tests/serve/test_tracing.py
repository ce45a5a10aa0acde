"""Spans of a request's stages, with a stand-in for OpenTelemetry's API."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

from live_server import Live
from longspan.serve import tracing


class Span:
    def __init__(self, spans: list[Any], name: str, context: object, start: int) -> None:
        self._spans, self.name, self.context, self.start = spans, name, context, start

    def end(self, end_time: int) -> None:
        self._spans.append((self.name, self.context, self.start, end_time))


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    class Tracer:
        def start_span(self, name: str, context: object, start_time: int, attributes: Mapping[str, str]) -> Span:
            assert attributes["longspan.request_id"]
            return Span(found, name, context, start_time)

    package, trace, propagate = (ModuleType(f"opentelemetry{end}") for end in ("", ".trace", ".propagate"))
    trace.get_tracer = lambda name: Tracer()  # type: ignore[attr-defined]
    propagate.extract = lambda headers: headers.get("traceparent")  # type: ignore[attr-defined]
    package.trace, package.propagate = trace, propagate  # type: ignore[attr-defined]
    for module in (package, trace, propagate):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    tracing._api.cache_clear()
    yield found  # type: ignore[misc]
    tracing._api.cache_clear()


def test_each_stage_is_a_span_of_the_clients_trace(live: Live, spans: list[Any]) -> None:
    parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    live.post("/v1/embeddings", {"model": "minilm", "input": "a text"}, traceparent=parent)
    assert [span[0] for span in spans] == ["tokenize", "queue", "compute", "encode"]
    assert all(context == parent and start <= end for _, context, start, end in spans)
    starts = [span[2] for span in spans]
    assert starts == sorted(starts)
