"""Every warning names the line of the caller's code, whichever method it came through."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from checkpoints import spoilt
from longspan import (
    BinaryIndex,
    Encoder,
    MultiVectorEncoder,
    MultiVectorStore,
    Origin,
    OriginWarning,
    Reranker,
    SparseEncoder,
    SparseIndex,
    TruncationWarning,
    quantize_embeddings,
)

LONG = "one long text of many words " * 40
PAIR = ("words", LONG)
OTHER = Origin("0" * 32, "float32")
ROWS = np.eye(8, dtype=np.float32)


def line_of(call: Callable[[], object], category: type[Warning]) -> None:
    """`call` is a lambda; each of its warnings must be at its line."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    found = [(Path(one.filename), one.lineno) for one in seen if issubclass(one.category, category)]
    assert found, "nothing was warned of"
    source, first = inspect.getsourcelines(call)
    lines = {(Path(__file__), first + place) for place in range(len(source))}
    assert set(found) <= lines, found


def test_cut_texts(golden: Path) -> None:
    encoder = Encoder(golden / "bert-minilm")
    short = {"max_length": 8}
    for call in (
        lambda: encoder.encode(LONG, **short),
        lambda: encoder.encode([LONG, "a"], **short),
        lambda: encoder.encode_query(LONG, **short),
        lambda: encoder.encode_document([LONG], **short),
    ):
        line_of(call, TruncationWarning)


def test_cut_texts_of_token_vectors(golden: Path) -> None:
    encoder = MultiVectorEncoder(golden / "jina-colbert-v2")
    for call in (
        lambda: encoder.encode_queries(LONG),
        lambda: encoder.encode_documents([LONG], max_length=16),
        lambda: encoder.rank(LONG, ["a"]),
    ):
        line_of(call, TruncationWarning)


def test_cut_pairs(golden: Path) -> None:
    reranker = Reranker(golden / "rerank-bert" / "model")
    line_of(lambda: reranker.predict([PAIR], max_length=16), TruncationWarning)
    line_of(lambda: reranker.rank("words", [LONG], max_length=16), TruncationWarning)


def test_cut_texts_of_words(golden: Path) -> None:
    encoder = SparseEncoder(golden / "splade-bert" / "model")
    line_of(lambda: encoder.encode(LONG, max_length=16), TruncationWarning)
    line_of(lambda: encoder.encode_query([LONG], max_length=16), TruncationWarning)
    line_of(lambda: encoder.encode_document(LONG, max_length=16), TruncationWarning)
    static = SparseEncoder(golden / "splade-doc" / "model")
    line_of(lambda: static.encode_query(LONG, max_length=4), TruncationWarning)


def test_ranges_of_few_vectors(golden: Path) -> None:
    encoder = Encoder(golden / "bert-minilm")
    line_of(lambda: quantize_embeddings(ROWS, "int8"), UserWarning)
    line_of(lambda: encoder.encode(["a", "b"], precision="int8"), UserWarning)
    line_of(lambda: encoder.encode_query(["a", "b"], precision="uint8"), UserWarning)


def test_vectors_of_another_model() -> None:
    index, store, sparse = BinaryIndex(8), MultiVectorStore(8), SparseIndex(8)
    for one, rows in ((index, ROWS), (store, [ROWS]), (sparse, [{1: 1.0}])):
        one.add(rows, origin=Origin("1" * 32, "float32"))
    for call in (
        lambda: index.search(ROWS, 1, origin=OTHER),
        lambda: store.search([ROWS], 1, origin=OTHER),
        lambda: store.rank(ROWS, origin=OTHER),
        lambda: store.score([ROWS], origin=OTHER),
        lambda: sparse.search([{1: 1.0}], 1, origin=OTHER),
        lambda: index.add(ROWS, origin=Origin("1" * 32, "int8")),
        lambda: index.search(ROWS, 1, origin=Origin("1" * 32, "int8")),
    ):
        line_of(call, OriginWarning)


def test_opening(golden: Path, tmp_path: Path) -> None:
    model = golden / "bert-minilm"
    for call in (
        lambda: Encoder(model, trust_remote_code=True),
        lambda: MultiVectorEncoder(golden / "jina-colbert-v2", trust_remote_code=True),
        lambda: Reranker(golden / "rerank-bert" / "model", trust_remote_code=True),
        lambda: SparseEncoder(golden / "splade-bert" / "model", trust_remote_code=True),
    ):
        line_of(call, UserWarning)
    head = {"classifier.weight": np.zeros((2, 64), np.float32)}
    spare = spoilt(model, tmp_path / "spare", lambda tensors: tensors.update(head))
    line_of(lambda: Encoder(spare), UserWarning)
