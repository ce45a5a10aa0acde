"""CTranslate2: its conversion of BERT checkpoints, in float32, bfloat16 and int8."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Final

import ctranslate2
import numpy as np
import transformers
from ctranslate2.converters import TransformersConverter

from ..cache import kept
from ..case import Contestant, Numerics, Setting
from . import AbsentError
from .subject import Forward, Subject, batched, fastest, pooled

KINDS: Final[tuple[tuple[str, Numerics, str], ...]] = (
    ("ctranslate2", "float32", "float32"),
    ("ctranslate2 bfloat16", "bfloat16", "bfloat16"),
    ("ctranslate2 int8", "int8", "int8_float32"),
)


def encode(setting: Setting, subject: Subject, texts: list[str]) -> list[Contestant]:
    """Every compute type that it has on this processor, in the best of a few batch sizes."""
    if subject.config.get("model_type") != "bert":
        raise AbsentError(f"it converts no {subject.config.get('model_type')} encoders")
    folder = _converted(subject)
    known = ctranslate2.get_supported_compute_types("cpu")
    contestants = []
    for name, numerics, compute_type in KINDS:
        if compute_type in known:
            forward = _forward(folder, compute_type, setting.threads, subject.pooling)
            note, embed = fastest(batched(subject, {"": forward}), texts)
            contestants.append(Contestant(name, partial(embed, texts), numerics, note=note))
    return contestants


@cache
def _forward(folder: Path, compute_type: str, threads: int, pooling: str) -> Forward:
    encoder = ctranslate2.Encoder(str(folder), "cpu", compute_type=compute_type, intra_threads=threads)

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        lengths = ctranslate2.StorageView.from_array(mask.sum(1).astype(np.int32))
        found = encoder.forward_batch(ctranslate2.StorageView.from_array(ids.astype(np.int32)), lengths)
        return pooled(np.asarray(found.last_hidden_state.to(ctranslate2.DataType.float32)), mask, pooling)

    return forward


def _converted(subject: Subject) -> Path:
    def make(folder: Path) -> None:
        TransformersConverter(str(subject.folder)).convert(str(folder / "model"))

    parts = (*subject.key, ctranslate2.__version__, transformers.__version__, Path(__file__).read_text("utf-8"))
    return kept("ctranslate2", parts, make) / "model"
