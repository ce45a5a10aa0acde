"""Texts to vectors on a GPU beside sentence-transformers: short and ragged batches, and one short query."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from bench.gpu.contest import OURS, Call, Row, Setting, contest
from bench.models.random_checkpoints import write_bert_base, write_v2_base
from bench.models.texts import TEXT_SETS, make_texts
from longspan import Encoder

LIMIT = 3e-2  # of bf16 through 12 layers, relative to float32
PEER = "sentence-transformers"


def ours(encoder: Encoder, texts: Sequence[str]) -> Call:
    """Unit vectors of the texts; on the host, as users get them."""
    return lambda: torch.from_numpy(np.asarray(encoder.encode(texts, normalize_embeddings=True, on_truncate="ignore")))


def peer(setting: Setting, folder: Path) -> Callable[[Sequence[str]], Call]:
    """sentence-transformers in bf16, with torch's SDPA. Raises: ImportError, it is not installed."""
    from sentence_transformers import SentenceTransformer

    kwargs = {"dtype": torch.float32 if setting.dry else torch.bfloat16, "attn_implementation": "sdpa"}
    model = SentenceTransformer(str(folder), device=setting.device, model_kwargs=kwargs)

    def call(texts: Sequence[str]) -> Call:
        how = {"batch_size": 64, "normalize_embeddings": True, "show_progress_bar": False}
        return lambda: torch.from_numpy(model.encode(list(texts), **how)).float()

    return call


def rows(setting: Setting) -> Iterator[Row]:
    """BERT base, which the peer reads too, and v2-base, which it reads as remote code only; random weights.

    The rate counts the texts' tokens, in thousands a second, special ones included.
    """
    for name, write in (("BERT base", write_bert_base), ("v2-base", write_v2_base)):
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder) / "model")
            device = {} if setting.dry else {"device": setting.device, "dtype": "bfloat16"}
            encoder, exact = Encoder(path, **device), Encoder(path)
            calls: dict[str, Callable[[Sequence[str]], Call]] = {OURS: lambda texts, e=encoder: ours(e, texts)}
            if name == "BERT base":
                try:
                    calls[PEER] = peer(setting, path)
                except ImportError as error:
                    print(f"encode: {PEER} left out, {error}")
            sets = {f"{kind} texts": make_texts(kind) for kind in ("short", "ragged") if kind in TEXT_SETS}
            sets["one query"] = ["what does a with statement do when it leaves its block"]
            for kind, all_texts in sets.items():
                texts = all_texts[: setting.size(len(all_texts), 2)]
                tokens = sum(len(text.ids) for text in encoder.tokenize(texts))
                yield from contest(
                    setting,
                    f"encode {name}, {kind}",
                    {who: make(texts) for who, make in calls.items()},
                    ours(exact, texts)(),
                    work=float(tokens),
                    unit="ktok/s",
                    limit=LIMIT,
                    target="H100: < 1.5 ms" if kind == "one query" else f">= 1.5x {PEER}",
                )
