"""From documents to chunks with vectors: what `Encoder.encode_chunks` does."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypedDict, cast, get_args

import numpy as np

from longspan.late_chunking.chunking import (
    ChunkUnit,
    Span,
    check_chunk_size,
    split_tokens,
    token_spans,
    token_starts,
)
from longspan.late_chunking.windows import (
    STRATEGIES,
    Chunks,
    Plan,
    Strategy,
    late_means,
    plan_windows,
    with_special_tokens,
)
from longspan.pipeline.options import check_choice
from longspan.pipeline.pipeline import Finish, Pipeline
from longspan.text.tokenizer import UNCUT, TextTokenizer, TokenizedText

ChunkMode = Literal["late", "naive", "whole"]
MODES: Final[tuple[ChunkMode, ...]] = get_args(ChunkMode)
# A unit, or one of each document; or what gives a document's spans; or the spans: of the one document, or of each.
ChunkRule = (
    ChunkUnit | Sequence[ChunkUnit] | Callable[[str], Sequence[Span]] | Sequence[Span] | Sequence[Sequence[Span]]
)


class ChunkOptions(TypedDict, total=False):
    """What `Encoder.encode_chunks` takes by keyword, and says what it means."""

    chunks: ChunkRule
    chunk_tokens: int | None
    chunk_overlap: int
    window: int | None
    overlap: int | None
    task: str | None
    mode: ChunkMode
    strategy: Strategy
    special_tokens: bool
    prompt_name: str | None
    prompt: str | None
    truncate_dim: int | None
    normalize_embeddings: bool | None
    max_length: int | None
    drop_empty: bool
    batch_tokens: int | None
    show_progress_bar: bool | None


# Characters of documents that are planned together: enough windows of like length to fill batches, in bounded memory.
CHARS_PER_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How documents are cut and run; `Encoder.encode_chunks` says what each means.

    Raises: ValueError, a setting is not one of those that there are, or no number that it may be.
    """

    chunks: ChunkRule
    chunk_tokens: int | None
    chunk_overlap: int
    window: int
    overlap: int
    mode: ChunkMode
    strategy: Strategy
    special_tokens: bool
    max_length: int | None
    drop_empty: bool

    def __post_init__(self) -> None:
        check_choice("encode_chunks", "mode", self.mode, MODES)
        check_choice("encode_chunks", "strategy", self.strategy, STRATEGIES)
        if not 0 <= self.overlap < self.window:
            raise ValueError(
                f"encode_chunks: overlap must be from 0 to {self.window - 1} in a window of {self.window}, "
                f"got {self.overlap}"
            )
        for unit in _units_in(self.chunks):
            check_chunk_size(unit, self.chunk_tokens, self.chunk_overlap)


@dataclass(frozen=True, slots=True)
class ChunkEncoder:
    """What runs documents.

    Attributes:
        tokenizer: the model's.
        pipeline: the model's.
        settings: how to cut and run.
        wanted: truncation and normalisation of the vectors.
        prompt: before every document.
        pools_prompt: whether the model's own mean counts the prompt's tokens.
        encode: texts to vectors (n, dim) f32, each by itself, for the other modes.
        batch_tokens: tokens that run together at most; None for a number that runs well.
    """

    tokenizer: TextTokenizer
    pipeline: Pipeline
    settings: ChunkSettings
    wanted: Finish
    prompt: str
    pools_prompt: bool
    encode: Callable[[list[str]], np.ndarray]
    batch_tokens: int | None

    def run(
        self,
        documents: Sequence[str],
        spans: Sequence[Sequence[Span] | ChunkUnit],
        progress: Callable[[int], object],
    ) -> Iterator[Chunks]:
        """The chunks of each document, in order.

        Args:
            documents: any str.
            spans: of each document the caller's own, or the unit to cut it into.
            progress: called with the number of characters that are done.
        Raises: ValueError, a span is none of its document, or holds no token.
        """
        limit = UNCUT if self.settings.max_length is None else self.settings.max_length
        for block in _blocks([len(document) for document in documents]):
            texts = documents[block]
            tokens = self.tokenizer.encode(texts, prompt=self.prompt, max_length=limit, truncation_side="right")
            cuts = [
                self._cut(document, text, given, f"documents[{place}]")
                for place, (document, text, given) in enumerate(zip(texts, tokens, spans[block]), block.start)
            ]
            if self.settings.mode == "late":
                vectors = self._late(tokens, cuts, sum(map(len, texts)), progress)
            else:
                vectors = self._alone(texts, cuts)
                progress(sum(map(len, texts)))
            for document, (chars, of_tokens), rows in zip(texts, cuts, vectors, strict=True):
                yield Chunks(document, rows, chars, of_tokens)

    def _cut(
        self, document: str, tokens: TokenizedText, given: Sequence[Span] | ChunkUnit, name: str
    ) -> tuple[list[Span], np.ndarray]:
        """The document's chunks, in characters and in tokens."""
        if self.settings.mode == "whole":
            return [(0, len(document))], np.array([[0, len(tokens.ids)]], np.int32)
        head, tail = _around(tokens)
        offsets = tokens.offsets[head : len(tokens.ids) - tail]
        text = document[: int(offsets[:, 1].max(initial=0))] if tokens.truncated else document
        if isinstance(given, str):
            size, overlap = self.settings.chunk_tokens, self.settings.chunk_overlap
            spans = split_tokens(text, token_starts(tokens), given, size, overlap)
        else:
            checked = _checked_spans(given, len(document), name)
            spans = [(start, min(end, len(text))) for start, end in checked if start < len(text)]
        found = token_spans(text, offsets, spans)
        empty = np.flatnonzero(found[:, 0] == found[:, 1])
        if len(empty) and isinstance(given, str):
            spans = _joined(spans, found)
            found = token_spans(text, offsets, spans)
            empty = np.flatnonzero(found[:, 0] == found[:, 1])
        elif len(empty) and not self.settings.drop_empty:
            which = f"{name}: no token lies in chunk {spans[empty[0]]}"
            raise ValueError(f"encode_chunks: {which}; drop_empty=True leaves such chunks out")
        kept = [span for span, (first, last) in zip(spans, found.tolist()) if first < last]
        return kept, self._with_special_tokens(np.delete(found, empty, axis=0) + np.int32(head), tokens)

    def _with_special_tokens(self, spans: np.ndarray, tokens: TokenizedText) -> np.ndarray:
        """Spans of the document's tokens with the special ones and the prompt's, as far as they are pooled."""
        if not self.settings.special_tokens:
            return spans
        head, tail = _around(tokens)
        length = len(tokens.ids)
        if self.prompt and not self.pools_prompt:
            head = 0
        # A document that was cut has its end elsewhere; the published rule takes one that just fits for cut, too.
        if tokens.truncated or (self.settings.strategy == "reference" and length == self.settings.max_length):
            tail = 0
        return with_special_tokens(spans, length, head, tail)

    def _late(
        self,
        tokens: Sequence[TokenizedText],
        cuts: Sequence[tuple[list[Span], np.ndarray]],
        num_chars: int,
        progress: Callable[[int], object],
    ) -> list[np.ndarray]:
        rule = self.settings
        plans: list[Plan] = []
        for text, (_, spans) in zip(tokens, cuts, strict=True):
            head, tail = _around(text)
            sizes = {"window": rule.window, "overlap": rule.overlap}
            windows = plan_windows(text.ids, head, tail, **sizes, strategy=rule.strategy) if len(spans) else []
            plans.append(Plan(windows, spans))
        num_windows = max(1, sum(len(plan.windows) for plan in plans))
        done = 0

        def advance(windows: int) -> None:
            nonlocal done
            before, done = done, done + windows
            progress(num_chars * done // num_windows - num_chars * before // num_windows)

        vectors = late_means(self.pipeline, plans, self.wanted, batch_tokens=self.batch_tokens, progress=advance)
        advance(num_windows - done)  # those that did not have to run
        return vectors

    def _alone(self, documents: Sequence[str], cuts: Sequence[tuple[list[Span], np.ndarray]]) -> list[np.ndarray]:
        """Vectors of the chunks' own texts."""
        texts = [document[start:end] for document, (spans, _) in zip(documents, cuts) for start, end in spans]
        ends = np.cumsum([0, *(len(spans) for spans, _ in cuts)])
        vectors = self.encode(texts)
        return [vectors[start:end] for start, end in itertools.pairwise(ends.tolist())]


def spans_by_document(chunks: ChunkRule, documents: Sequence[str], *, alone: bool) -> list[Sequence[Span] | ChunkUnit]:
    """Each document's own spans, or its unit.

    Args:
        chunks: the caller's rule.
        documents: the documents.
        alone: whether the caller gave one str, so that `chunks` may hold its spans.
    Raises: TypeError, `chunks` is nothing of what it may be; ValueError, it has not one list a document.
    """
    if isinstance(chunks, str):
        return [chunks] * len(documents)
    if callable(chunks):
        return [_spans_given(chunks(document), place) for place, document in enumerate(documents)]
    if not isinstance(chunks, (Sequence, np.ndarray)):
        known = "a unit, a function from a text to spans, or lists of spans"
        raise TypeError(f"encode_chunks: chunks must be {known}, got {type(chunks).__name__}")
    is_one = alone and not (len(chunks) == 1 and isinstance(chunks[0], str))
    given = cast("list[Sequence[Span] | ChunkUnit]", [chunks] if is_one else list(chunks))
    if len(given) != len(documents):
        raise ValueError(
            f"encode_chunks: chunks must hold a list of spans, or a unit, for each of {len(documents)} documents, "
            f"got {len(given)}"
        )
    return given


def _spans_given(spans: object, place: int) -> Sequence[Span] | ChunkUnit:
    """What a caller's function made of a document."""
    if isinstance(spans, Iterator):
        spans = list(spans)
    if not isinstance(spans, (Sequence, np.ndarray)) or isinstance(spans, bytes):
        got = type(spans).__name__
        raise TypeError(f"encode_chunks: chunks must give a list of (start, end), gave {got} for documents[{place}]")
    return cast("Sequence[Span] | ChunkUnit", spans)


def _units_in(chunks: ChunkRule) -> list[str]:
    """The units that a rule names."""
    if isinstance(chunks, str):
        return [chunks]
    if callable(chunks) or not isinstance(chunks, Sequence):
        return []
    return sorted({one for one in chunks if isinstance(one, str)})


def _around(tokens: TokenizedText) -> tuple[int, int]:
    """How many tokens stand before the text's own, the prompt's among them, and how many behind."""
    own = np.flatnonzero(~tokens.special_mask)[tokens.num_prompt_tokens :]
    if not len(own):
        return len(tokens.ids), 0
    return int(own[0]), len(tokens.ids) - 1 - int(own[-1])


def _joined(spans: list[Span], found: np.ndarray) -> list[Span]:
    """`spans` where each without a token has joined its neighbour, the one before if there is one."""
    joined: list[Span] = []
    start = None
    for (first, end), (token, last) in zip(spans, found.tolist(), strict=True):
        if token < last:
            joined.append((first if start is None else start, end))
            start = None
        elif joined:
            joined[-1] = (joined[-1][0], end)
        elif start is None:
            start = first
    return joined


def _checked_spans(spans: Sequence[Span], size: int, name: str) -> list[Span]:
    """Spans as pairs of int within a document of `size` characters."""
    checked: list[Span] = []
    for place, span in enumerate(spans):
        try:
            start, end = map(operator.index, span)
        except (TypeError, ValueError):
            raise TypeError(f"encode_chunks: {name}: chunk {place} must be (start, end), got {span!r}") from None
        if not 0 <= start < end <= size:
            inside = f"characters from 0 to {size}, start below end"
            raise ValueError(f"encode_chunks: {name}: chunk {place} must be {inside}, got ({start}, {end})")
        checked.append((start, end))
    return checked


def _blocks(lengths: Sequence[int]) -> Iterator[slice]:
    """Neighbouring ranges of `lengths` that each sum to CHARS_PER_BLOCK at most, or hold one document; one, if there is
    none, so that the options are checked."""
    start = total = 0
    for place, length in enumerate(lengths):
        if place > start and total + length > CHARS_PER_BLOCK:
            yield slice(start, place)
            start, total = place, 0
        total += length
    yield slice(start, len(lengths))
