"""Tokens a second of SPLADE documents, from text to sparse vectors, and how much memory that takes.

    python -m bench.models.bench_sparse_encode [--model FOLDER] [--dtype D] [--full] [--json FILE]

The shape of a 6 x 384 BERT with its masked-language-model head over 30522 words and random weights, whose bias leaves a
few hundred entries a document; or `--model`. The first texts' vectors are held against float64. FLOPs are those of the
encoder and of the head, whose product with the vocabulary is most of it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from longspan import SparseEncoder
from longspan.models.encoder import TextEncoder
from longspan.models.engines.workspace import Workspace
from longspan.models.weights import load_weights
from longspan.packing.batch import pack
from longspan.packing.selection import Selection
from longspan.pipeline.loaded_model import open_model
from longspan.sparse.mlm_head import PooledLogits
from longspan.sparse.open_head import open_head
from longspan.text.tokenizer import TextTokenizer

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..truth import ReferenceEngine, limits_of
from .encoding import encoder_flops, model_folder
from .random_splade import splade_folder
from .texts import make_texts

BUDGET: Final = 20  # seconds of the short form, about
CHECKED: Final = 3  # texts held against float64; the references are slow
FLOAT32_LIMIT: Final = 1e-4
COARSER: Final[tuple[Numerics, ...]] = ("bfloat16", "int8")
TEXT_SETS: Final = ("short", "passage", "ragged")
SHORT_SETS: Final = ("passage",)


def cases(setting: Setting) -> Iterator[Case]:
    """One a set of texts."""
    folder = splade_folder() if setting.model is None else model_folder(setting.model)
    for name in SHORT_SETS if setting.is_short else TEXT_SETS:
        texts = make_texts(name)
        texts = texts[::8] if setting.is_short else texts
        encoder = _ours(folder, setting.dtypes[0], setting.threads)
        lengths = [len(text.ids) for text in encoder.tokenize(texts)]
        head = 2 * sum(lengths) * encoder.spec.hidden_size * (encoder.dim + encoder.spec.hidden_size)
        work = Work(encoder_flops(encoder.spec, lengths) + head, items=sum(lengths), item="tokens")
        yield Case("sparse_encode", {"texts": name}, work, partial(_contest, folder, texts), "sparse_encode")


@cache
def _ours(folder: Path, dtype: ComputeType, threads: int) -> SparseEncoder:
    return SparseEncoder(folder, dtype=dtype, num_threads=threads)


def _contest(folder: Path, texts: list[str], setting: Setting) -> Contest:
    encoder = _ours(folder, setting.dtypes[0], setting.threads)
    checked = sorted(range(len(texts)), key=lambda place: len(texts[place]))[:CHECKED]
    truth, limits = _truth(
        folder, tuple(text.ids.tobytes() for text in encoder.tokenize([texts[at] for at in checked]))
    )

    def ours(dtype: ComputeType) -> Contestant:
        own = _ours(folder, dtype, setting.threads)
        run = partial(own.encode_document, texts, on_truncate="ignore", show_progress_bar=False)
        return Contestant(our_name(dtype), run, dtype, lambda out: out.take(np.array(checked)).to_dense())

    entered, absent = enter("sparse_encode", setting, folder, encoder.max_length, texts, checked)
    return Contest((*map(ours, setting.dtypes), *entered), truth, limits, absent)


@cache
def _truth(folder: Path, rows: tuple[bytes, ...]) -> tuple[np.ndarray, dict[Numerics, float]]:
    """(texts, vocabulary) f64, and how far each numerics may be from it."""
    ids = [np.frombuffer(row, np.int32) for row in rows]
    truth = _vectors(folder, "float32", ids)
    return truth, limits_of(truth, {numerics: _vectors(folder, numerics, ids) for numerics in COARSER}, FLOAT32_LIMIT)


def _vectors(folder: Path, numerics: Numerics, ids: Sequence[np.ndarray]) -> np.ndarray:
    engine = ReferenceEngine(numerics)
    opened = replace(open_model("bench", folder, None, "float32"), engine=engine)
    tokenizer = TextTokenizer.load(opened.checkpoint, max_length=512, vocab_size=opened.spec.vocab_size)
    encoder = TextEncoder(opened.spec, load_weights(opened.checkpoint, opened.spec, opened.names, engine), engine)
    _, head, _ = open_head(opened, tokenizer)
    assert isinstance(head, PooledLogits)
    vectors = np.empty((len(ids), opened.spec.vocab_size))
    for batch in pack(ids, batch_tokens=2048):
        hidden = encoder.forward(batch, Workspace(engine.empty))
        vectors[batch.indices] = head(hidden, batch, Selection(len(batch.indices)))
    return vectors


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_sparse_encode", __doc__, cases))
