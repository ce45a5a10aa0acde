"""sentence-transformers on torch: what most embeddings are made with. It sorts by length and pads itself."""

from __future__ import annotations

from functools import cache

import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from ..case import Contestant, Setting
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


@cache
def _model(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
