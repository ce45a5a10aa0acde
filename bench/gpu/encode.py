"""Texts to vectors on a GPU: models of published shapes with random weights; short and ragged texts, one query."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from unittest import mock

import torch

from bench.gpu.clock import OutOfTimeError
from bench.gpu.contest import OURS, Call, Row, Setting, contest
from bench.gpu.padded import BATCH, PaddedModel
from bench.models.random_checkpoints import (
    write_bert_base,
    write_small_decoder,
    write_v2_base,
    write_v3,
    write_v5_small,
)
from bench.models.texts import Lengths, draw_texts
from longspan import Encoder
from longspan.models.engines.torch_engine import TorchEngine
from longspan.pipeline.options import FloatOptions

PEER: Final = "sentence-transformers"
PADDED: Final = "torch, padded"
WITHOUT: Final = "longspan, no graphs"  # of CUDA: each kernel launched by itself
QUERY: Final = "what does a with statement do when it leaves its block"
SEED: Final = 20261123
# As bench.models.texts has them, but enough to fill a large GPU several times over: some 60,000 and 80,000 tokens.
SETS: Final = {"short": Lengths(2048, 6, 32, None), "ragged": Lengths(640, 4, 400, 60)}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the contest: who writes its checkpoint, and whether the peer reads it without code from the hub."""

    name: str
    write: Callable[[Path], Path]
    has_peer: bool


MODELS: Final = (
    Model("BERT base", write_bert_base, True),
    Model("v2-base", write_v2_base, False),
    Model("v3", write_v3, False),
    Model("v5-small", write_v5_small, True),
)
DRY: Final = (Model("small decoder", write_small_decoder, False),)
Make = Callable[[Sequence[str]], Call]  # texts to a contestant


def opened(setting: Setting, folder: Path, dtype: str, cuda_graphs: bool = True) -> Encoder:
    """The model on the device of these benches."""
    if not setting.dry:
        return Encoder(folder, setting.device, dtype, cuda_graphs=cuda_graphs)
    engine = TorchEngine(setting.device, "float32")
    with mock.patch("longspan.pipeline.loaded_model.engine_for", return_value=engine):
        return Encoder(folder)


def ours(encoder: Encoder) -> Make:
    """Unit vectors of the texts; on the host, as users get them."""
    how: FloatOptions = {"normalize_embeddings": True, "on_truncate": "ignore"}
    return lambda texts: lambda: torch.from_numpy(encoder.encode(texts, **how))


def peer(setting: Setting, folder: Path) -> Make:
    """sentence-transformers in bf16 with torch's SDPA, the best attention that it has without further packages.

    Raises: ImportError, it is not installed; what it raises where it cannot read the model.
    """
    from sentence_transformers import SentenceTransformer

    kwargs = {"dtype": torch.bfloat16, "attn_implementation": "sdpa"}
    model = SentenceTransformer(str(folder), device=setting.device, model_kwargs=kwargs)
    how = {"batch_size": BATCH, "normalize_embeddings": True, "show_progress_bar": False}
    return lambda texts: lambda: torch.from_numpy(model.encode(list(texts), **how)).float()


def rows(setting: Setting) -> Iterator[Row]:
    """Each model in bf16. The rate counts the texts' tokens, in thousands a second, special ones included."""
    for model in DRY if setting.dry else MODELS:
        if time.monotonic() > setting.until:  # before gigabytes are written and read
            raise OutOfTimeError(f"encode {model.name}")
        with tempfile.TemporaryDirectory() as folder:
            yield from model_rows(setting, model, model.write(Path(folder) / "model"))


def model_rows(setting: Setting, model: Model, folder: Path) -> Iterator[Row]:
    """One query, short and ragged texts. All are timed on the host's clock, as users wait for vectors of the host."""
    exact = PaddedModel(opened(setting, folder, "float32"))
    encoder, plain = (opened(setting, folder, "bfloat16", cuda_graphs) for cuda_graphs in (True, False))
    padded = PaddedModel(encoder)
    makes: dict[str, Make] = {OURS: ours(encoder), PADDED: lambda texts: lambda: padded.encode(texts)}
    if model.has_peer and not setting.dry:
        try:
            makes[PEER] = peer(setting, folder)
        except Exception as error:  # whatever it raises where it cannot read the model
            print(f"encode {model.name}: {PEER} left out, {type(error).__name__}: {str(error).partition(chr(10))[0]}")
    sets = {"one query": [QUERY], **{name: draw_texts(lengths, [SEED]) for name, lengths in SETS.items()}}
    for name, all_texts in sets.items():
        texts = [text[:20] for text in all_texts[:2]] if setting.dry else all_texts
        alone = name == "one query"
        truth = exact.encode(texts)
        # Twice what the same maths in the same dtype makes; in the dry run all of it is float32.
        limit = 1e-4 if setting.dry else 2 * float((padded.encode(texts) - truth).norm() / truth.norm())
        calls = {who: make(texts) for who, make in makes.items()} | ({WITHOUT: ours(plain)(texts)} if alone else {})
        yield from contest(
            replace(setting, rounds=200 if alone else 9, on_host=True),
            f"encode {model.name}, {name}",
            calls,
            truth,
            work=float(sum(len(text.ids) for text in encoder.tokenize(texts))),
            unit="ktok/s",
            limit=limit,
            target=("base models on an H100: < 1.5 ms" if alone else f">= 1.5x {PEER}"),
        )
