"""From texts to what a sparse head makes of them: tokenize ahead, run the encoder, split the batches' results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from longspan.errors import TruncationWarning, warn_caller
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection, select_tokens
from longspan.pipeline.ahead import ahead
from longspan.pipeline.options import OnTruncate
from longspan.pipeline.pipeline import Pipeline
from longspan.progress import progress_bar
from longspan.sparse.mlm_head import PooledLogits
from longspan.sparse.token_weights import TextOutputs, TokenOutputs, text_outputs
from longspan.text.tokenizer import TextTokenizer, TokenizedText
from longspan.vectors.results import truncation_text
from longspan.vectors.sparse import SparseVectors

SparseTail: TypeAlias = PooledLogits | TokenOutputs

# Texts that are tokenized together: it bounds memory, and gives the packing enough texts of like length.
TEXTS_PER_BLOCK: Final = 4096
# Of the weights of all vocabulary entries, which a batch has for each of its texts before the zeros are left out.
MAX_WEIGHT_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class SparseJob:
    """What one call wants of its texts."""

    prompts: Sequence[str]  # of each text
    lora_ids: Sequence[int]  # of each text its adapter, -1 for none
    batch_size: int | None
    batch_tokens: int | None
    show_progress_bar: bool | None
    limit: int  # tokens of a text at most
    on_truncate: OnTruncate


def run_texts(
    texts: Sequence[str],
    job: SparseJob,
    tokenizer: TextTokenizer,
    pipeline: Pipeline,
    tail: SparseTail,
    *,
    vectors: bool = False,
) -> list[TextOutputs]:
    """What the tail makes of each text, in their order; `vectors`: with those of tokens, where it has them.

    Raises: ValueError, job.on_truncate is "error" and a text is cut. Warns, once, if it is "warn".
    """
    found: list[TextOutputs] = []
    lost: list[int] = []
    with progress_bar(len(texts), "text", job.show_progress_bar) as progress:
        for part, block in _tokenized(texts, job, tokenizer):
            lost += [text.truncated for text in block]
            if job.on_truncate == "error":
                say_cut(lost, job.limit, len(texts), "error")
            ids = [text.ids for text in block]
            found += run_ids(ids, replace(job, lora_ids=job.lora_ids[part]), pipeline, tail, progress, vectors=vectors)
    say_cut(lost, job.limit, len(texts), job.on_truncate)
    return found


def run_ids(
    ids: Sequence[np.ndarray],
    job: SparseJob,
    pipeline: Pipeline,
    tail: SparseTail,
    progress: Callable[[int], object] = lambda _texts: None,
    *,
    vectors: bool = False,
) -> list[TextOutputs]:
    """The same of token ids, (tokens,) int32 a text."""
    size = job.batch_size
    if isinstance(tail, PooledLogits):
        most = max(1, MAX_WEIGHT_BYTES // (4 * tail.head.dim))
        size = most if size is None else min(most, size)
    results = pipeline.results(
        ids,
        tail,
        _by_row if isinstance(tail, PooledLogits) else select_tokens,
        batch_size=size,
        batch_tokens=job.batch_tokens,
        lora_ids=job.lora_ids,
    )
    found: dict[int, TextOutputs] = {}
    with closing(results) as batches:
        for batch, values in batches:
            found |= zip(batch.indices.tolist(), _split(tail, batch, values, vectors), strict=True)
            progress(len(batch.indices))
    return [found[place] for place in range(len(ids))]


def say_cut(lost: Sequence[int], limit: int, num_texts: int, on_truncate: OnTruncate) -> None:
    """Warn of texts that lost tokens, or refuse the first of them, as the caller wants.

    Args: lost: tokens that each text lost, from the first text on; num_texts: texts of the call.
    """
    place = next((place for place, tokens in enumerate(lost) if tokens), None)
    if place is None or on_truncate == "ignore":
        return
    if on_truncate == "error":
        raise ValueError(f"encode: texts[{place}] has {lost[place]} tokens more than {limit}")
    text = truncation_text(sum(tokens > 0 for tokens in lost), sum(lost), num_texts, limit)
    warn_caller(text, TruncationWarning)


def _tokenized(
    texts: Sequence[str], job: SparseJob, tokenizer: TextTokenizer
) -> Iterator[tuple[slice, list[TokenizedText]]]:
    """Blocks of texts, each tokenized while the one before is computed; without texts one, to check the options."""
    parts = [slice(start, start + TEXTS_PER_BLOCK) for start in range(0, max(1, len(texts)), TEXTS_PER_BLOCK)]
    blocks = ((part, tokenizer.encode(texts[part], prompt=job.prompts[part], max_length=job.limit)) for part in parts)
    return ahead(blocks) if len(parts) > 1 else blocks


def _by_row(batch: PackedBatch) -> Selection:
    return Selection(len(batch.indices))


def _split(tail: SparseTail, batch: PackedBatch, values: np.ndarray, vectors: bool) -> Iterator[TextOutputs]:
    """What each row of a batch makes of `values`, the tail's result."""
    if isinstance(tail, PooledLogits):
        for row in values:
            indices = np.flatnonzero(~(row <= 0)).astype(np.int32)  # NaN shows
            yield TextOutputs(SparseVectors(np.array([0, len(indices)]), indices, row[indices], len(row)), None, None)
        return
    bounds = batch.cu_seqlens[1:-1]
    for ids, part in zip(np.split(batch.ids, bounds), np.split(values, bounds), strict=True):
        yield text_outputs(tail.heads, ids, part, vectors=vectors)
