"""Every option of the public names that is a whole number: what is none is refused by name, NumPy's are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import inputs
from longspan import BinaryIndex, Encoder, MultiVectorEncoder, MultiVectorStore, ops
from longspan.integers import checked_int
from longspan.late_chunking.chunking import pack_spans, split_document
from longspan.packing.batch import pack

GOLDEN = Path(__file__).parent / "golden"
TEXT = "Words of one sentence. And some words more of another one."


@dataclass(frozen=True, slots=True)
class Things:
    """What the options are options of."""

    folder: Path
    colbert_folder: Path
    encoder: Encoder
    colbert: MultiVectorEncoder
    index: BinaryIndex
    store: MultiVectorStore


@pytest.fixture(scope="module")
def things() -> Things:
    folder, colbert_folder = GOLDEN / "bert-minilm", GOLDEN / "jina-colbert-v2"
    encoder, colbert = Encoder(folder), MultiVectorEncoder(colbert_folder)
    index, store = BinaryIndex(64, store="int8"), MultiVectorStore(colbert.dim)
    index.add(VECTORS)
    store.add([inputs.normal((4, colbert.dim), place) for place in range(12)])
    return Things(folder, colbert_folder, encoder, colbert, index, store)


VECTORS = inputs.normal((40, 64), 1)
CODES = ops.binarize(VECTORS)
OFFSETS = np.int32([0, 10, 40]), np.int32([*range(0, 41, 4)])
SPANS = np.int32([[0, 3], [3, 40]])
IDS = [np.int32([1, 2]), np.int32([3])]


def queries(colbert: MultiVectorEncoder) -> list[np.ndarray]:
    return [inputs.normal((3, colbert.dim), 2)]


# The option's name first, as its error has it. 8 is good for all.
CALLS: dict[str, Callable[[Things, int], object]] = {
    "Encoder: num_threads": lambda t, n: Encoder(t.folder, num_threads=n),
    "MultiVectorEncoder: num_threads": lambda t, n: MultiVectorEncoder(t.colbert_folder, num_threads=n),
    "MultiVectorEncoder: query_maxlen": lambda t, n: MultiVectorEncoder(t.colbert_folder, query_maxlen=n),
    "MultiVectorEncoder: doc_maxlen": lambda t, n: MultiVectorEncoder(t.colbert_folder, doc_maxlen=n),
    "encode: truncate_dim": lambda t, n: t.encoder.encode(TEXT, truncate_dim=n),
    "encode: max_length": lambda t, n: t.encoder.encode(TEXT, max_length=n, on_truncate="ignore"),
    "batch_size": lambda t, n: t.encoder.encode(TEXT, batch_size=n),
    "batch_tokens": lambda t, n: t.encoder.encode(TEXT, batch_tokens=n),
    "truncate_dim": lambda t, n: t.encoder.encode_ids(IDS, truncate_dim=n),
    "max_length": lambda t, n: t.encoder.tokenize([TEXT], max_length=n),
    "chunk_tokens": lambda t, n: t.encoder.encode_chunks(TEXT, chunk_tokens=n),
    "chunk_overlap": lambda t, n: t.encoder.encode_chunks(TEXT, chunks="tokens", chunk_overlap=n),
    "encode: window": lambda t, n: t.encoder.encode_chunks(TEXT, window=n),
    "encode_chunks: overlap": lambda t, n: t.encoder.encode_chunks(TEXT, overlap=n),
    "max_length ": lambda t, n: t.encoder.encode_chunks(TEXT, max_length=n),
    "truncate_dim ": lambda t, n: t.encoder.encode_chunks(TEXT, truncate_dim=n),
    "batch_tokens ": lambda t, n: t.encoder.encode_chunks(TEXT, batch_tokens=n),
    "chunk_tokens ": lambda t, n: split_document(TEXT, t.encoder.tokenizer, n),
    "chunk_tokens  ": lambda t, n: pack_spans([(0, 1), (1, 2)], [1, 1], n),
    "pack: batch_tokens": lambda t, n: list(pack(IDS, batch_tokens=n)),
    "encode_queries: dim": lambda t, n: t.colbert.encode_queries([TEXT], dim=n),
    "encode_queries: max_length": lambda t, n: t.colbert.encode_queries([TEXT], max_length=n, on_truncate="ignore"),
    "encode_documents: max_length": lambda t, n: t.colbert.encode_documents([TEXT], max_length=n, on_truncate="ignore"),
    "rank: top_k": lambda t, n: t.colbert.rank(TEXT, [TEXT], n),
    "MultiVectorStore.rank: top_k": lambda t, n: t.store.rank(queries(t.colbert)[0], top_k=n),
    "MultiVectorStore.search: k": lambda t, n: t.store.search(queries(t.colbert), n),
    "MultiVectorStore: dim": lambda t, n: MultiVectorStore(n),
    "BinaryIndex: dim": lambda t, n: BinaryIndex(n),
    "BinaryIndex.search: k": lambda t, n: t.index.search(VECTORS[:2], n),
    "BinaryIndex.search: oversample": lambda t, n: t.index.search(VECTORS[:2], 3, oversample=n),
    "hamming_topk: k": lambda t, n: ops.hamming_topk(CODES[:2], CODES, n),
    "maxsim_topk: k": lambda t, n: ops.maxsim_topk(VECTORS, VECTORS, *OFFSETS, n),
    "span_mean: truncate_dim": lambda t, n: ops.span_mean(VECTORS, SPANS, truncate_dim=n),
}


@pytest.mark.parametrize("name", CALLS)
def test_integers_alone_are_taken(things: Things, name: str) -> None:
    call = CALLS[name]
    for good in (8, np.int64(8), np.uint8(8)):
        call(things, good)
    for bad in (8.0, 1.5, True, "8"):
        with pytest.raises((TypeError, ValueError), match=f"{name.strip()} must be (an int|from 1 to)") as error:
            call(things, bad)
        assert type(bad).__name__ in str(error.value) or repr(bad) in str(error.value)


def test_the_sentence() -> None:
    with pytest.raises(TypeError, match=r"^here: size must be an int, got float$"):
        checked_int("here: size", 2.0)
    assert type(checked_int("size", np.int32(3))) is int
