"""Pairs a second of cross-encoders: one query and many documents, many queries at once, and the wait for one query.

    python -m bench.models.bench_rerank [--dtype D] [--full] [--json FILE]

Shapes of ms-marco-MiniLM-L6 and bge-reranker-base with random weights; documents of 20 to 400 words. The first pairs'
logits are held against float64 before anything is timed. `--model` names a cross-encoder to measure instead.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np

from longspan import Reranker
from longspan.models.encoder import TextEncoder
from longspan.models.engines.workspace import Workspace
from longspan.models.weights import load_weights
from longspan.packing.batch import PackedBatch, pack
from longspan.pipeline.loaded_model import open_model
from longspan.pipeline.pooling import select_pooled
from longspan.reranker import RerankOptions
from longspan.reranking.formats import Cut
from longspan.reranking.head import Head
from longspan.reranking.scoring import read_scoring
from longspan.text.tokenizer import TextTokenizer

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..peers.pairs import PairSubject
from ..truth import ReferenceEngine, limits_of
from .encoding import encoder_flops, model_folder
from .random_rerankers import SHAPES, reranker_folder
from .texts import SEED, Lengths, draw_texts

BUDGET: Final = 40  # seconds of the short form, about; what begins later is left out by name
CHECKED: Final = 6  # pairs held against float64; the references are slow
FLOAT32_LIMIT: Final = 1e-4  # of logits
COARSER: Final[tuple[Numerics, ...]] = ("bfloat16", "int8")
QUERY_WORDS: Final = 8
# Of each shape: queries, documents a query, and the words that a document has; short form, then all.
SHORT: Final = {
    "MiniLM-L6": ((1, 10, (20, 100)), (1, 24, (20, 400)), (8, 4, (20, 400))),
    "bge-base": ((1, 6, (20, 400)),),
}
FULL: Final = {
    "MiniLM-L6": ((1, 100, (20, 400)), (32, 4, (20, 400)), (1, 10, (20, 100))),
    "bge-base": ((1, 100, (20, 400)), (32, 2, (20, 400)), (1, 10, (20, 100))),
}


def cases(setting: Setting) -> Iterator[Case]:
    """One a shape, a number of queries and of documents."""
    table = SHORT if setting.is_short else FULL
    for name in SHAPES if setting.model is None else (setting.model,):
        folder = reranker_folder(name) if setting.model is None else model_folder(setting.model)
        for queries, documents, (least, most) in table.get(name, SHORT["MiniLM-L6"]):
            pairs = _pairs(queries, documents, least, most)
            reranker = _ours(folder, setting.dtypes[0], setting.threads)
            lengths = [len(row.ids) for row in _rows(reranker, pairs)]
            work = Work(encoder_flops(reranker.spec, lengths), items=len(pairs), item="pairs")
            labels: dict[str, str | int] = {"model": Path(name).name, "queries": queries, "documents": documents}
            labels["words"] = f"{least} to {most}"
            yield Case("rerank", labels, work, partial(_contest, folder, pairs), "rerank")


def _pairs(queries: int, documents: int, least: int, most: int) -> list[tuple[str, str]]:
    asked = draw_texts(Lengths(queries, QUERY_WORDS, QUERY_WORDS, None), [SEED, 31, queries])
    texts = draw_texts(Lengths(queries * documents, least, most, None), [SEED, 32, queries, documents])
    return [(query, texts[place * documents + at]) for place, query in enumerate(asked) for at in range(documents)]


@cache
def _ours(folder: Path, dtype: ComputeType, threads: int) -> Reranker:
    return Reranker(folder, dtype=dtype, num_threads=threads)


def _rows(reranker: Reranker, pairs: list[tuple[str, str]]):  # type: ignore[no-untyped-def]
    return reranker._scorer._format.rows(pairs, Cut(reranker.max_length), None)  # type: ignore[attr-defined]


def _contest(folder: Path, pairs: list[tuple[str, str]], setting: Setting) -> Contest:
    reranker = _ours(folder, setting.dtypes[0], setting.threads)
    checked = sorted(range(len(pairs)), key=lambda place: len(pairs[place][1]))[:CHECKED]
    rows = _rows(reranker, [pairs[place] for place in checked])
    key = tuple((row.ids.tobytes(), b"" if row.types is None else row.types.tobytes()) for row in rows)
    truth, limits = _truth(folder, key)

    def run(dtype: ComputeType) -> Contestant:
        ours = _ours(folder, dtype, setting.threads)
        options: RerankOptions = {"activation_fn": "identity", "on_truncate": "ignore"}
        return Contestant(our_name(dtype), lambda: ours.predict(pairs, **options), dtype)

    entered, absent = enter("rerank", setting, PairSubject.of(folder, reranker.max_length), pairs)
    everyone = tuple(
        replace(each, read=lambda out: np.asarray(out)[checked]) for each in [*map(run, setting.dtypes), *entered]
    )
    return Contest(everyone, truth, limits, absent)


@cache
def _truth(folder: Path, rows: tuple[tuple[bytes, bytes], ...]) -> tuple[np.ndarray, dict[Numerics, float]]:
    """(pairs,) f64 logits, and how far each numerics may be from them."""
    ids = [np.frombuffer(own, np.int32) for own, _ in rows]
    types = [np.frombuffer(own, np.int32) for _, own in rows] if rows[0][1] else None
    truth = _logits(folder, "float32", ids, types)
    coarser = {numerics: _logits(folder, numerics, ids, types) for numerics in COARSER}
    return truth, limits_of(truth, coarser, FLOAT32_LIMIT)


def _logits(folder: Path, numerics: Numerics, ids: list[np.ndarray], types: list[np.ndarray] | None) -> np.ndarray:
    opened = open_model("bench", folder, None, "float32")
    engine = ReferenceEngine(numerics)
    opened = replace(opened, engine=engine)
    tokenizer = TextTokenizer.load(opened.checkpoint, max_length=512, vocab_size=opened.spec.vocab_size)
    scoring = read_scoring(opened, tokenizer, None)
    weights = load_weights(opened.checkpoint, opened.spec, opened.names, engine, beside=scoring.tensors)
    encoder, head = TextEncoder(opened.spec, weights, engine), scoring.head
    assert isinstance(head, Head)
    logits = np.empty(len(ids))
    for batch in pack(ids, batch_tokens=2048, types=types):
        assert isinstance(batch, PackedBatch)
        hidden = encoder.forward(batch, Workspace(engine.empty))
        logits[batch.indices] = head(hidden, batch, select_pooled(batch, head.pooling, None))[:, 0]
    return logits


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_rerank", __doc__, cases))
