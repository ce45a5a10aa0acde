"""From texts to token vectors: tokenize by the model's rules, run the encoder, project what is kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.errors import TruncationWarning
from longspan.late_interaction.colbert import ColbertTokenizer, TokenRow
from longspan.late_interaction.colbert_rules import SkipRule
from longspan.late_interaction.token_head import Projection
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection, select_tokens
from longspan.pipeline.ahead import ahead
from longspan.pipeline.options import OnTruncate
from longspan.pipeline.pipeline import Pipeline
from longspan.text.tasks import Role

# Texts that are tokenized together: it bounds memory, and gives the packing enough texts of like length.
TEXTS_PER_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class TokenJob:
    """What one call wants of its texts."""

    name: str  # of the method, for messages
    role: Role
    max_length: int
    dim: int | None
    rule: SkipRule | None  # whose tokens get no vector
    batch_size: int | None
    batch_tokens: int | None
    on_truncate: OnTruncate


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text, and what its task gives it."""

    text: str
    prompt: str
    lora_id: int  # -1: no adapter


def encode_tokens(
    texts: Sequence[TextInput],
    job: TokenJob,
    tokenizer: ColbertTokenizer,
    pipeline: Pipeline,
    projection: Projection,
    progress: Callable[[int], object],
) -> list[np.ndarray]:
    """For each text (kept_tokens, dim) f32, unit rows.

    Raises: ValueError, job.on_truncate is "error" and a text is cut. Warns, once, if it is "warn".
    """
    found: list[np.ndarray] = []
    num_cut = num_lost = 0
    starts = range(0, max(1, len(texts)), TEXTS_PER_BLOCK)  # no texts: a block that checks the options
    blocks = (texts[start : start + TEXTS_PER_BLOCK] for start in starts)
    tokenized = ((block, _tokenize(block, job, tokenizer)) for block in blocks)
    for start, (block, rows) in zip(starts, ahead(tokenized) if len(starts) > 1 else tokenized):
        for place, row in enumerate(rows, start):
            if row.truncated and job.on_truncate == "error":
                raise ValueError(f"{job.name}: texts[{place}] has {row.truncated} tokens more than {job.max_length}")
            num_cut += row.truncated > 0
            num_lost += row.truncated
        kept = [tokenizer.kept(row.ids, job.rule) for row in rows]
        found += _run(rows, kept, [one.lora_id for one in block], job, pipeline, projection, progress)
    if num_cut and job.on_truncate == "warn":
        cut = f"{num_cut} of {len(texts)} texts" if len(texts) > 1 else "the text"
        message = f"{job.name}: {cut} had more than {job.max_length} tokens; {num_lost} tokens were left out"
        warnings.warn(message, TruncationWarning, stacklevel=4)
    return found


@dataclass(frozen=True, slots=True)
class Projected:
    """A tail: the selected tokens' vectors, projected."""

    projection: Projection
    dim: int | None

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        adapters = None if batch.lora_ids is None else batch.lora_ids[selection.tokens]
        return self.projection.project(hidden[selection.tokens], adapters, self.dim)


def _tokenize(block: Sequence[TextInput], job: TokenJob, tokenizer: ColbertTokenizer) -> list[TokenRow]:
    make = tokenizer.queries if job.role == "query" else tokenizer.documents
    return make([one.text for one in block], job.max_length, [one.prompt for one in block])


def _run(
    rows: Sequence[TokenRow],
    kept: Sequence[np.ndarray],
    lora_ids: Sequence[int],
    job: TokenJob,
    pipeline: Pipeline,
    projection: Projection,
    progress: Callable[[int], object],
) -> list[np.ndarray]:
    """The vectors of each row's kept tokens, in order."""
    found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
    results = pipeline.results(
        [row.ids for row in rows],
        Projected(projection, job.dim),
        lambda batch: select_tokens(batch, [kept[index] for index in batch.indices]),
        batch_size=job.batch_size,
        batch_tokens=job.batch_tokens,
        lora_ids=lora_ids,
    )
    with closing(results) as batches:
        for batch, vectors in batches:
            ends = np.cumsum([np.count_nonzero(kept[index]) for index in batch.indices])
            for index, row in zip(batch.indices, np.split(vectors, ends[:-1]), strict=True):
                found[index] = row
            progress(len(batch.indices))
    return found
