"""What type checkers must see of the public classes: read by mypy --strict and pyright, never run.

`.ci/check_types.py` has them read it. torch is not installed where this is checked, and its tensors count as Any there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from typing_extensions import assert_type

from longspan import (
    BinaryIndex,
    Changes,
    Chunks,
    DocumentIndex,
    Encoder,
    MultiVectorEncoder,
    MultiVectorStore,
    Ranked,
    RankedDocument,
    RankedText,
    Reranker,
    RescoredResult,
    SearchResult,
    SparseEncoder,
    SparseIndex,
    SparseResult,
    SparseVectors,
    StoreResult,
    quantize_embeddings,
)
from longspan.vectors.arrays import FloatArray, HalfArray, IntArray, SignedArray, UnsignedArray, VectorArray
from longspan.vectors.quantize import Precision
from longspan.vectors.results import Result


def encodes(encoder: Encoder, texts: Sequence[str], chosen: bool, precision: Precision) -> None:
    """Each kind of result has its type, for one input and for several, by each of the three methods."""
    assert_type(encoder.encode("a"), FloatArray)
    assert_type(encoder.encode(["a", "b"]), FloatArray)
    assert_type(encoder.encode(texts, normalize_embeddings=True, task="base", truncate_dim=64), FloatArray)
    assert_type(encoder.encode({"text": "a", "image": Path("a.png")}), FloatArray)
    assert_type(encoder.encode([np.zeros((8, 8, 3), np.uint8), "a", {"image": "a.png"}]), FloatArray)
    assert_type(encoder.encode(text for text in texts), FloatArray)
    assert_type(encoder.encode("a", precision="float16"), HalfArray)
    assert_type(encoder.encode(texts, precision="int8"), SignedArray)
    assert_type(encoder.encode(texts, precision="binary"), SignedArray)
    assert_type(encoder.encode(texts, precision="ubinary"), UnsignedArray)
    assert_type(encoder.encode(texts, precision=precision), VectorArray)
    assert_type(encoder.encode("a", output_value="token_embeddings"), FloatArray)
    assert_type(encoder.encode(["a"], output_value="token_embeddings"), list[FloatArray])
    assert_type(encoder.encode(texts, convert_to_tensor=True), torch.Tensor)
    assert_type(encoder.encode(["a"], output_value="token_embeddings", convert_to_tensor=True), list[torch.Tensor])
    assert_type(encoder.encode(texts, convert_to_tensor=chosen), Result)
    assert_type(encoder.encode(texts, convert_to_numpy=True, device="cpu", batch_size=32), FloatArray)
    assert_type(encoder.encode_query("a", prompt_name="query"), FloatArray)
    assert_type(encoder.encode_query(texts, precision="ubinary"), UnsignedArray)
    assert_type(encoder.encode_document(texts, output_value="token_embeddings"), list[FloatArray])
    assert_type(encoder.encode_document("a", prompt="passage: "), FloatArray)
    assert_type(encoder.encode_ids([[1, 2]]), FloatArray)
    assert_type(encoder.encode_ids([[1, 2]], output_value="token_embeddings"), list[FloatArray])
    assert_type(encoder.similarity(encoder.encode("a"), encoder.encode(texts)), FloatArray)
    encoder.encode(texts, normalise=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def quantised(vectors: FloatArray, precision: Precision) -> None:
    """By the precision."""
    assert_type(quantize_embeddings(vectors, "float16"), HalfArray)
    assert_type(quantize_embeddings(vectors, "ubinary"), UnsignedArray)
    assert_type(quantize_embeddings(vectors, "int8"), SignedArray)
    assert_type(quantize_embeddings(vectors, precision), VectorArray)


def chunks(encoder: Encoder, texts: Sequence[str]) -> None:
    """A document gives its chunks, several give a list."""
    assert_type(encoder.encode_chunks("a text", chunk_tokens=64), Chunks)
    assert_type(encoder.encode_chunks(texts, mode="naive"), list[Chunks])
    assert_type(encoder.encode_chunks("a text").embeddings, FloatArray)
    assert_type(encoder.encode_chunks("a text").texts, list[str])


def late_interaction(encoder: MultiVectorEncoder, store: MultiVectorStore, texts: Sequence[str]) -> None:
    """Token vectors."""
    assert_type(encoder.encode_queries("a"), FloatArray)
    assert_type(encoder.encode_queries(texts, dim=64), list[FloatArray])
    assert_type(encoder.encode_documents("a", skip_list=None), FloatArray)
    assert_type(encoder.encode_documents(texts), list[FloatArray])
    assert_type(encoder.score(encoder.encode_queries(texts), store), FloatArray)
    assert_type(encoder.rank("a", texts), list[Ranked])
    assert_type(store.add(encoder.encode_documents(texts)), IntArray)
    assert_type(store.search(encoder.encode_queries(texts), 3), StoreResult)


def reranking(reranker: Reranker, texts: Sequence[str]) -> None:
    """Scores and rankings."""
    assert_type(reranker.predict([("a", "b")]), FloatArray)
    assert_type(reranker.predict([("a", "b")], convert_to_tensor=True), torch.Tensor)
    assert_type(reranker.rank("a", texts), list[RankedDocument])
    assert_type(reranker.rank("a", texts, top_k=3, return_documents=True), list[RankedText])
    assert_type(reranker.rank(["a", "b"], texts), list[list[RankedDocument]])
    assert_type(reranker.rank(["a", "b"], texts, return_documents=True), list[list[RankedText]])
    assert_type(reranker.rank("a", texts, return_documents=True)[0]["text"], str)


def searching(index: BinaryIndex, sparse: SparseIndex, encoder: SparseEncoder, vectors: FloatArray) -> None:
    """Results of the indexes; what was rescored has scores."""
    assert_type(index.search(vectors, 3), RescoredResult)
    assert_type(index.search(vectors, 3).scores, FloatArray)
    assert_type(index.search(vectors, 3, rescore=False), SearchResult)
    assert_type(index.search(vectors, 3, rescore=False).scores, FloatArray | None)
    assert_type(index.ids, IntArray)
    assert_type(encoder.encode("a"), SparseVectors)
    assert_type(encoder.encode_query(["a"], max_active_dims=8), SparseVectors)
    assert_type(sparse.search(encoder.encode_query("a"), 3), SparseResult)


def documents(index: DocumentIndex) -> None:
    """Texts by key, bare or with fields, or pairs of both."""
    assert_type(index.sync({"a": "words", "b": {"text": "words", "year": 1990}}), Changes)
    assert_type(index.add(("a", text) for text in ("words", "more")), Changes)
