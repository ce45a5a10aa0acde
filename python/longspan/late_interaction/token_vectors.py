"""From texts and images to token vectors: tokenize by the model's rules, run the encoder, project what is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from longspan.errors import TruncationWarning, warn_caller
from longspan.late_interaction.colbert import ColbertTokenizer, TokenRow
from longspan.late_interaction.colbert_rules import SkipRule
from longspan.late_interaction.token_head import Projection
from longspan.packing.batch import PackedBatch
from longspan.packing.media import MediaRow
from longspan.packing.selection import Selection, select_tokens
from longspan.pipeline.blocks import Block, read_blocks
from longspan.pipeline.inputs import Part
from longspan.pipeline.options import OnTruncate
from longspan.pipeline.pipeline import Pipeline
from longspan.pipeline.vision import Vision
from longspan.text.tasks import Role


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
class TokenInput:
    """A text or an image, and what its task gives it."""

    parts: tuple[Part, ...]
    prompt: str  # texts have it before them
    lora_id: int  # -1: no adapter


def encode_tokens(
    inputs: Sequence[TokenInput],
    job: TokenJob,
    tokenizer: ColbertTokenizer,
    pipeline: Pipeline,
    projection: Projection,
    vision: Vision | None,
    progress: Callable[[int], object],
) -> list[np.ndarray]:
    """For each input (kept_tokens, dim) f32, unit rows; of an image all tokens, those of the text around it too.

    Raises: ValueError, job.on_truncate is "error" and a text is cut; and as `Vision.read`. Warns, once, of cut texts if
        it is "warn".
    """
    found: list[np.ndarray] = []
    num_cut = num_lost = 0
    make = tokenizer.queries if job.role == "query" else tokenizer.documents
    prompts = [one.prompt for one in inputs]
    blocks = read_blocks(
        job.name,
        [one.parts for one in inputs],
        prompts,
        lambda texts, before: make(texts, job.max_length, before),
        vision,
    )
    for block in blocks:
        for place, row in block.texts.items():
            if row.truncated and job.on_truncate == "error":
                raise ValueError(
                    f"{job.name}: texts[{block.start + place}] has {row.truncated} tokens more than {job.max_length}"
                )
            num_cut += row.truncated > 0
            num_lost += row.truncated
        found += _run(
            block, [one.lora_id for one in inputs[block.part]], job, tokenizer, pipeline, projection, vision, progress
        )
    if num_cut and job.on_truncate == "warn":
        cut = f"{num_cut} of {len(inputs)} texts" if len(inputs) > 1 else "the text"
        message = f"{job.name}: {cut} had more than {job.max_length} tokens; {num_lost} tokens were left out"
        warn_caller(message, TruncationWarning)
    return found


@dataclass(frozen=True, slots=True)
class Projected:
    """A tail: the selected tokens' vectors, projected."""

    projection: Projection
    dim: int | None

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        adapters = None if batch.lora_ids is None else batch.lora_ids[selection.tokens]
        return self.projection.project(hidden[selection.tokens], adapters, self.dim)


def _run(
    block: Block[TokenRow],
    lora_ids: Sequence[int],
    job: TokenJob,
    tokenizer: ColbertTokenizer,
    pipeline: Pipeline,
    projection: Projection,
    vision: Vision | None,
    progress: Callable[[int], object],
) -> list[np.ndarray]:
    """The vectors of each input's kept tokens, in order."""
    images: dict[int, MediaRow] = {}
    if block.images and vision is not None:
        at = [block.start + place for place in block.images]
        seen = vision.rows([*block.images.values()], batch_tokens=job.batch_tokens, places=at)
        images = dict(zip(block.images, seen, strict=True))
    read: dict[int, TokenRow | MediaRow] = {**block.texts, **images}
    rows = [read[place] for place in range(block.size)]
    kept = [
        np.ones(len(row.ids), bool) if isinstance(row, MediaRow) else tokenizer.kept(row.ids, job.rule) for row in rows
    ]
    found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
    results = pipeline.results(
        [row.ids for row in rows],
        Projected(projection, job.dim),
        lambda batch: select_tokens(batch, [kept[index] for index in batch.indices]),
        batch_size=job.batch_size,
        batch_tokens=job.batch_tokens,
        lora_ids=lora_ids,
        attach=pipeline.with_media([images.get(place) for place in range(block.size)]),
    )
    with closing(results) as batches:
        for batch, vectors in batches:
            ends = np.cumsum([np.count_nonzero(kept[index]) for index in batch.indices])
            for index, row in zip(batch.indices, np.split(vectors, ends[:-1]), strict=True):
                found[index] = row
            progress(len(batch.indices))
    return found
