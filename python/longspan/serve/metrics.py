"""Prometheus metrics: text-embeddings-inference's names, so that dashboards made for it work, and some of our own."""

from __future__ import annotations

import os
import re
import resource
import sys
from bisect import bisect_left
from collections import Counter as Counts
from typing import Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from longspan import __version__
from longspan.serve.http import Notes

M = TypeVar("M", Counter, "Buckets")
SECONDS: Final = tuple(15e-6 * 1.5**step for step in range(35))
LENGTHS: Final = tuple(float(2**step) for step in range(18))
SIZES: Final = tuple(float(2**step) for step in range(12))
MOST_FIELDS: Final = 64  # names of fields that nobody reads, which are counted one by one
MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"
# The library ends a counter's name in _total; the names that dashboards ask for have no such ending.
WITHOUT_TOTAL: Final = re.compile(
    rb"^((?:# (?:HELP|TYPE) )?te_(?:request|embed)_(?:count|success|failure))_total", re.M
)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Buckets(Histogram):
    """A histogram that takes a value many times at once: `observe` for each of 2048 items would hold the event loop for
    12 ms, and for twice that with the workers' shared files."""

    def observe_many(self, amount: float, count: int) -> None:
        """The same as `observe(amount)`, `count` times."""
        self._sum.inc(amount * count)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(count)


class Metrics:
    """What is counted and measured. Threads may share it.

    With PROMETHEUS_MULTIPROC_DIR set, as `longspan serve --workers` does, the text is that of all workers together.
    """

    def __init__(self) -> None:
        self._is_shared = MULTIPROCESS in os.environ
        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def seconds(name: str, text: str) -> Buckets:
            return Buckets(name, text, ["model"], buckets=SECONDS, registry=registry)

        def gauge(name: str, text: str, mode: str = "livesum") -> Gauge:
            return Gauge(name, text, multiprocess_mode=mode, registry=registry)  # type: ignore[arg-type]

        self.request_count = counter("te_request_count", "requests that ask for a computation", "method", "model")
        self.request_success = counter("te_request_success", "those that were answered", "method", "model")
        self.request_failure = counter("te_request_failure", "those that were not, by what failed", "err", "model")
        self.embed_count = counter("te_embed_count", "items: texts, images, pairs", "model")
        self.embed_success = counter("te_embed_success", "items that were answered", "model")
        stages = {"": "all of", "tokenization_": "tokenizing", "queue_": "waiting", "inference_": "computing"}
        self.durations = {
            (scope, stage): seconds(f"te_{scope}_{stage}duration", f"seconds of {text} {scope}")
            for scope in ("request", "embed")
            for stage, text in stages.items()
        }
        self.input_length = Buckets(
            "te_request_input_length", "tokens of an item", ["model"], buckets=LENGTHS, registry=registry
        )
        self.batch_size = Histogram("te_batch_next_size", "items of a batch", buckets=SIZES, registry=registry)
        self.batch_tokens = Histogram("te_batch_next_tokens", "tokens of a batch", buckets=LENGTHS, registry=registry)
        self.queue_size = gauge("te_queue_size", "items that wait")
        self.queue_tokens = gauge("longspan_queue_tokens", "tokens that wait")
        self.jobs = gauge("longspan_requests_in_flight", "requests that wait or are computed")
        self.truncated = counter("longspan_truncated_texts", "texts that were cut", "model")
        self.tokens = counter("longspan_tokens", "tokens that were computed")
        self.busy = counter("longspan_busy_seconds", "for which the computing thread computed")
        self.unknown = counter("longspan_ignored_fields", "fields of requests that nothing reads, by name", "field")
        self.surrogates = counter("longspan_replaced_surrogates", "lone surrogates that became U+FFFD")
        self.cache_hits = gauge("longspan_cache_hits", "texts whose vectors were there already")
        self.memory = gauge("longspan_memory_bytes", "resident memory of the process")
        self.peak = gauge("longspan_peak_memory_bytes", "the most that it was", "livemax")
        info = Gauge("longspan_build_info", "1", ["version"], multiprocess_mode="livemax", registry=registry)
        info.labels(__version__).set(1)
        self._fields: set[str] = set()
        self._children: dict[tuple[Counter | Buckets, tuple[str, ...]], Counter | Buckets] = {}

    def _labelled(self, metric: M, *labels: str) -> M:
        """A metric's values with these labels, found once: the library's own look-up takes a lock and checks them."""
        found = self._children.get((metric, labels))
        if found is None:
            found = self._children[metric, labels] = metric.labels(*labels)
        return cast(M, found)

    def answered(self, notes: Notes, seconds: float) -> None:
        """A request that asks for a computation is over; `notes.error` says what failed, if anything did."""
        model, method = notes.model, "single" if notes.items <= 1 else "batch"
        labelled = self._labelled
        labelled(self.request_count, method, model).inc()
        labelled(self.embed_count, model).inc(notes.items)
        if notes.error:
            labelled(self.request_failure, notes.error, model).inc()
            return
        labelled(self.request_success, method, model).inc()
        labelled(self.embed_success, model).inc(notes.items)
        stages = {"": seconds, "tokenization_": notes.tokenize, "queue_": notes.queue, "inference_": notes.compute}
        for stage, value in stages.items():
            labelled(self.durations["request", stage], model).observe_many(value, 1)
            labelled(self.durations["embed", stage], model).observe_many(value, notes.items)
        if notes.num_cut:
            self.truncated.labels(model).inc(notes.num_cut)

    def lengths(self, model: str, tokens: list[int]) -> None:
        """Of the items of a request."""
        length = self._labelled(self.input_length, model)
        for number, count in Counts(tokens).items():
            length.observe_many(number, count)

    def batch(self, runner: object, items: int, tokens: int, seconds: float) -> None:
        """See `scheduler.Watcher`."""
        self.batch_size.observe(items)
        self.batch_tokens.observe(tokens)
        self.tokens.inc(tokens)
        self.busy.inc(seconds)

    def ignored(self, field: str) -> None:
        """A field that nothing reads; only so many names are kept."""
        if field not in self._fields:
            if len(self._fields) >= MOST_FIELDS or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}", field):
                field = "other"
            self._fields.add(field)
        self.unknown.labels(field).inc()

    def text(self) -> bytes:
        """The exposition, in Prometheus' text format."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.peak.set(peak * (1 if sys.platform == "darwin" else 1024))
        self.memory.set(_resident_bytes())
        registry = self._registry
        if self._is_shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return WITHOUT_TOTAL.sub(rb"\1", generate_latest(registry))


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
