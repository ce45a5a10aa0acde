"""Late chunking (arXiv:2409.04701): run the encoder over a whole document, then average token vectors chunk by chunk.

A document that is longer than the window runs as overlapping windows, and each token's vector is taken from one of
them. Windows are pooled as they leave the encoder, so that no document's token vectors are ever held together.

Where one window ends and the next begins, vectors do jump, as a token's two vectors differ. With all-MiniLM-L6-v2 and
windows of 256 that share 64 tokens their median cosine is 0.78 at the seam, and 0.68 at the edge of what they share,
where the other strategies change over; with 128 shared it is 0.88 (`python -m bench.models.bench_late_chunking --full`,
which tells 1 minus these). A longer `overlap` makes seams smoother and costs more; a `window` that holds the document
has none.

Chunk vectors are means of token vectors, whatever the model's own pooling is. That suits models whose own pooling is
the mean. One that takes the first or the last token never had the means of its tokens compared; and in a causal model a
token has seen what stands before it only, so that a chunk knows the document up to its own end. Measure before you rely
on it: `bench/quality/late_chunking.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from longspan.late_chunking.chunking import Span
from longspan.models.engines.engine import OpsEngine
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection
from longspan.pipeline.pipeline import Finish, Pipeline
from longspan.vectors.arrays import FloatArray, Int32Array
from longspan.vectors.tables import SHOWN, Tabular, clipped

# How neighbouring windows share their document; `plan_windows` says what each means.
Strategy = Literal["context", "earlier", "reference"]
STRATEGIES: Final[tuple[Strategy, ...]] = ("context", "earlier", "reference")
LARGEST_DEFAULT_OVERLAP: Final = 512  # as published


@dataclass(frozen=True, slots=True, eq=False)
class Chunks(Tabular):
    """The chunks of one document.

    Attributes:
        document: its text.
        embeddings: (n, dim) f32, one row a chunk.
        spans: n half-open character spans of the document.
        token_spans: (n, 2) int32, the tokens that each chunk averages, half-open: rows of the whole document's tokens,
            special ones and the prompt included.

    As a table, with the names that `longspan chunk` writes: chunk, start, end, token_start, token_end, text, embedding.
    """

    document: str
    embeddings: FloatArray
    spans: list[Span]
    token_spans: Int32Array

    @property
    def texts(self) -> list[str]:
        """The chunks' own texts."""
        return [self.document[start:end] for start, end in self.spans]

    def __len__(self) -> int:
        return len(self.spans)

    def __repr__(self) -> str:
        texts = [clipped(self.document[start:end]) for start, end in self.spans[:SHOWN]]
        listed = ", ".join([*texts, *(["..."] if len(self) > SHOWN else [])])
        about = f"{len(self):,} of {len(self.document):,} characters, dim={self.embeddings.shape[1]}"
        return f"Chunks({about}: {listed})" if texts else f"Chunks({about})"

    def _columns(self) -> dict[str, np.ndarray | list[str]]:
        spans = np.array(self.spans, np.int64).reshape(-1, 2)
        return {
            "chunk": np.arange(len(self)),
            "start": spans[:, 0],
            "end": spans[:, 1],
            "token_start": self.token_spans[:, 0],
            "token_end": self.token_spans[:, 1],
            "text": self.texts,
            "embedding": self.embeddings,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A run of the encoder, and the tokens whose vectors come from it.

    Attributes:
        ids: (length,) int32, what runs.
        start: first of the document's tokens that it supplies; row `start - shift` of the run is its vector.
        end: after the last of them.
        shift: the difference between a token's place in the document and its row.
    """

    ids: np.ndarray
    start: int
    end: int
    shift: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a document needs: (n, 2) int32 spans of its tokens, none of them empty, and windows that supply them all."""

    windows: list[Window]
    token_spans: np.ndarray


def default_overlap(window: int) -> int:
    """Tokens that windows share where the caller does not say: a quarter of the window, and not too many."""
    return min(LARGEST_DEFAULT_OVERLAP, window // 4)


def plan_windows(
    ids: np.ndarray, head: int, tail: int, *, window: int, overlap: int, strategy: Strategy
) -> list[Window]:
    """Windows that supply every token of a document once, in order; one, if the document fits.

    "context": each window is an input as the model knows it: the document's first `head` and last `tail` tokens around
    a stretch of its text. Neighbours share `overlap` tokens of text; the last window is moved back until it is full. A
    token's vector comes from the window where it has most text on its poorer side (the document's own ends count as no
    lack), of two alike from the earlier.
    "earlier": as before, but the last window may be short, and what two share comes from the earlier.
    "reference": what the authors' code does. Windows are slices of `ids` as they are, special tokens where they happen
    to be, `overlap` tokens of everything shared; what two share comes from the earlier, and a last window that would
    supply nothing is not run.

    Args:
        ids: (tokens,) int32, special tokens and prompt included.
        head: special tokens and those of the prompt before the text.
        tail: special tokens behind it.
        window: tokens of a window at most.
        overlap: tokens that neighbours share.
    Raises: ValueError, a window has no room for a token of the text beside `overlap`.
    """
    around = 0 if strategy == "reference" else head + tail
    room = window - around
    if room < 1:
        raise ValueError(
            f"encode_chunks: window must be more than the {around} special tokens and prompt, got {window}"
        )
    if not 0 <= overlap < room:
        raise ValueError(f"encode_chunks: overlap must be from 0 to {room - 1} in a window of {window}, got {overlap}")
    if len(ids) <= window:
        return [Window(ids, 0, len(ids), 0)]
    if strategy == "reference":
        return list(_slices(ids, window, overlap))
    size = len(ids) - around
    starts = np.arange(0, size - overlap, room - overlap)
    if strategy == "context":
        starts[-1] = size - room
        seams = (starts[1:] + starts[:-1] + room + 1) // 2
    else:
        seams = starts[1:] + overlap
    edges = [0, *(seams + head).tolist(), len(ids)]
    text = ids[head : len(ids) - tail]
    return [
        Window(np.concatenate([ids[:head], text[start : start + room], ids[len(ids) - tail :]]), first, last, start)
        for start, first, last in zip(starts.tolist(), edges[:-1], edges[1:], strict=True)
    ]


def _slices(ids: np.ndarray, window: int, overlap: int) -> Iterator[Window]:
    for start in range(0, len(ids), window - overlap):
        first, last = start + (overlap if start else 0), min(start + window, len(ids))
        if first < last:
            yield Window(ids[start:last], first, last, start)


def with_special_tokens(token_spans: np.ndarray, num_tokens: int, head: int, tail: int) -> np.ndarray:
    """Spans that also hold what stands around the text, as published: `head` tokens join the chunks that start with the
    first of the text, `tail` those that end with its last. Pass 0 to leave either out.

    Args:
        token_spans: (n, 2) int32, of tokens of the whole document.
        num_tokens: tokens of the whole document.
        head: tokens before the text.
        tail: tokens behind it.
    """
    starts, ends = token_spans[:, 0], token_spans[:, 1]
    starts = np.where(starts == head, 0, starts)
    ends = np.where(ends == num_tokens - tail, num_tokens, ends)
    return np.stack([starts, ends], axis=1).astype(np.int32)


def late_means(
    pipeline: Pipeline,
    plans: Sequence[Plan],
    wanted: Finish,
    *,
    batch_tokens: int | None = None,
    progress: Callable[[int], object] = lambda _windows: None,
) -> list[np.ndarray]:
    """The chunk vectors of each document, (n, dim) f32. They do not depend on the other documents, bit for bit.

    Args:
        pipeline: runs the encoder, and what follows pooling.
        plans: one a document.
        wanted: truncation and normalisation.
        batch_tokens: tokens that run together at most; None for a number that runs well.
        progress: called with the number of windows of each batch when it is done; those that no span needs do not run.
    """
    sums = [np.zeros((len(plan.token_spans), pipeline.token_dim), np.float32) for plan in plans]
    runs = [_Run(place, window, *_parts(plan, window)) for place, plan in enumerate(plans) for window in plan.windows]
    runs = [run for run in runs if len(run.chunks)]  # the caller's spans may leave whole windows out
    ids = [run.window.ids for run in runs]

    def select(batch: PackedBatch) -> Selection:
        rows = zip((runs[index] for index in batch.indices), batch.cu_seqlens[:-1], strict=True)
        spans = np.concatenate([run.parts + first for run, first in rows])
        return Selection(len(spans), spans=spans)

    results = pipeline.results(ids, SpanMeans(pipeline.engine), select, batch_tokens=batch_tokens)
    with closing(results) as batches:
        for batch, means in batches:
            rows = [runs[index] for index in batch.indices]
            ends = np.cumsum([len(run.parts) for run in rows])
            for run, mean in zip(rows, np.split(means, ends[:-1]), strict=True):
                sums[run.document][run.chunks] += mean * run.shares[:, None]
            progress(len(rows))
    return [pipeline.finish(vectors, wanted) for vectors in sums]


@dataclass(frozen=True, slots=True)
class SpanMeans:
    """A tail: the mean of each selected span."""

    engine: OpsEngine

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        assert selection.spans is not None
        return self.engine.span_mean(hidden, selection.spans)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One window of one of the documents, and what its rows give to that document's chunks."""

    document: int
    window: Window
    chunks: np.ndarray  # (parts,) int64, which of the document's chunks
    parts: np.ndarray  # (parts, 2) int32, the run's rows that belong to each
    shares: np.ndarray  # (parts,) f32, how much of the chunk they are


def _parts(plan: Plan, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chunks, parts and shares of a run."""
    starts = np.maximum(plan.token_spans[:, 0], window.start)
    ends = np.minimum(plan.token_spans[:, 1], window.end)
    chunks = np.flatnonzero(starts < ends)
    rows = np.stack([starts, ends], axis=1)[chunks]
    lengths = np.diff(plan.token_spans[chunks], axis=1)[:, 0]
    shares = (np.diff(rows, axis=1)[:, 0] / lengths).astype(np.float32)
    return chunks, (rows - window.shift).astype(np.int32), shares
