"""sentence-transformers on torch: what most embeddings are made with. It sorts by length and pads itself."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from transformers.utils import logging

from ..case import Contestant, Setting
from .pairs import PairSubject, Score, quickest
from .subject import BATCH_SIZES, Embed, Subject, fastest

logging.disable_progress_bar()


def encode(setting: Setting, subject: Subject, texts: list[str]) -> list[Contestant]:
    """float32, in the best of a few batch sizes."""
    torch.set_num_threads(setting.threads)
    model = _model(str(subject.folder))

    def embed(size: int) -> Embed:
        return lambda some: model.encode(
            list(some), batch_size=size, normalize_embeddings=True, show_progress_bar=False
        )

    note, best = fastest({f"batches of {size}": embed(size) for size in BATCH_SIZES}, texts)
    return [Contestant("sentence-transformers", lambda: best(texts), note=note)]


def rerank(setting: Setting, subject: PairSubject, pairs: list[tuple[str, str]]) -> list[Contestant]:
    """The CrossEncoder in float32, in the best of a few batch sizes."""
    torch.set_num_threads(setting.threads)
    model = _cross_encoder(str(subject.folder), subject.max_length)

    def score(size: int) -> Score:
        return lambda some: model.predict(
            list(some), batch_size=size, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )

    note, best = quickest({f"batches of {size}": score(size) for size in BATCH_SIZES}, pairs)
    return [Contestant("sentence-transformers", lambda: best(pairs), note=note)]


def sparse_encode(
    setting: Setting, folder: Path, max_length: int, texts: list[str], checked: list[int]
) -> list[Contestant]:
    """The SparseEncoder in float32, in the best of a few batch sizes."""
    torch.set_num_threads(setting.threads)
    model = _sparse_encoder(str(folder), max_length)

    def embed(size: int) -> Embed:
        return lambda some: model.encode_document(list(some), batch_size=size, show_progress_bar=False)

    note, best = fastest({f"batches of {size}": embed(size) for size in BATCH_SIZES}, texts)

    def read(out: torch.Tensor) -> np.ndarray:
        return out.to_dense()[checked].numpy()

    return [Contestant("sentence-transformers", partial(best, texts), read=read, note=note)]


@cache
def _sparse_encoder(folder: str, max_length: int) -> SparseEncoder:
    model = SparseEncoder(folder, device="cpu", model_kwargs={"dtype": torch.float32})
    model.max_seq_length = max_length
    return model


@cache
def _cross_encoder(folder: str, max_length: int) -> CrossEncoder:
    return CrossEncoder(folder, device="cpu", max_length=max_length, model_kwargs={"dtype": torch.float32})


@cache
def _model(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
