"""A whole model on texts: ours in every dtype asked for, and the runtimes beside it, held against float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work
from ..contest import our_name
from ..peers import enter
from ..peers.subject import Subject
from ..truth import limits_of, truth_encoder, truth_vectors

if TYPE_CHECKING:
    from longspan import Encoder
    from longspan.models.encoder import TextEncoder
    from longspan.models.spec import ModelSpec

CHECKED_TOKENS: Final = 300  # of the first texts; the references are slow
COARSER: Final[tuple[Numerics, ...]] = ("bfloat16", "int8")


@cache
def model_folder(model: str | None) -> Path:
    """The model's files; the demo's if none is named. Raises: FileNotFoundError, there are none."""
    from longspan.checkpoint import hub
    from longspan.demo import find_demo_model

    if model is None:
        return find_demo_model()
    return hub.resolve(model, revision=None, token=None, cache_dir=None, local_files_only=False)


@cache
def load_ours(model: str | None, dtype: ComputeType, threads: int) -> Encoder:
    """Our encoder, loaded once a process."""
    from longspan import Encoder

    return Encoder(model_folder(model), dtype=dtype, num_threads=threads)


def encode_case(
    bench: str, labels: dict[str, str | int], texts: Sequence[str], setting: Setting, plot: str | None = None
) -> Case:
    """All contestants embed the same texts, from str to vectors."""
    encoder = load_ours(setting.model, setting.dtypes[0], setting.threads)
    lengths = [len(text.ids) for text in encoder.tokenize(list(texts))]
    work = Work(encoder_flops(encoder.spec, lengths), items=sum(lengths), item="tokens")

    def build(setting: Setting) -> Contest:
        return _contest(setting, list(texts))

    return Case(bench, labels, work, build, "encode", plot)


def encoder_flops(spec: ModelSpec, lengths: Sequence[int]) -> float:
    """Multiply-adds of all products and of attention, counted twice each; norms, softmax and pooling are not."""
    up = spec.intermediate_size * (1 if spec.gate is None else 2)
    weights = spec.hidden_size * (2 * spec.q_width + 2 * spec.kv_width + up + spec.intermediate_size)
    tokens, pairs = float(sum(lengths)), float(sum(length**2 for length in lengths))
    return 2 * spec.num_layers * (weights * tokens + 2 * spec.q_width * pairs)


def _contest(setting: Setting, texts: list[str]) -> Contest:
    encoder = load_ours(setting.model, setting.dtypes[0], setting.threads)
    ids = [np.asarray(text.ids) for text in encoder.tokenize(texts)]
    checked = max(1, int(np.searchsorted(np.cumsum([len(row) for row in ids]), CHECKED_TOKENS)))
    truth, limits = _truth(setting.model, tuple(tuple(map(int, row)) for row in ids[:checked]), encoder.pooling)
    contestants = [
        Contestant(our_name(dtype), partial(_vectors, load_ours(setting.model, dtype, setting.threads), texts), dtype)
        for dtype in setting.dtypes
    ]
    if not isinstance(encoder.pooling, str):
        raise ValueError(f"{setting.model}: the peers pool in one way, and this model joins {len(encoder.pooling)}")
    subject = Subject.of(model_folder(setting.model), encoder.pooling, encoder.max_length)
    entered, absent = enter("encode", setting, subject, texts)
    everyone = tuple(replace(each, read=lambda out: np.asarray(out)[:checked]) for each in [*contestants, *entered])
    return Contest(everyone, truth, limits, absent)


def _vectors(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encoder.encode(texts, normalize_embeddings=True, on_truncate="ignore")


@cache
def _truth(
    model: str | None, ids: tuple[tuple[int, ...], ...], pooling: str
) -> tuple[np.ndarray, dict[Numerics, float]]:
    rows = [np.asarray(row, np.int32) for row in ids]
    truth = truth_vectors(_truth_encoder(model, "float32"), rows, pooling)
    coarser = {numerics: truth_vectors(_truth_encoder(model, numerics), rows, pooling) for numerics in COARSER}
    return truth, limits_of(truth, coarser)


@cache
def _truth_encoder(model: str | None, numerics: Numerics) -> TextEncoder:
    return truth_encoder(model_folder(model), numerics)
