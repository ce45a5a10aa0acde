"""Scores and rankings of token vectors, through MultiVectorEncoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from longspan import MultiVectorEncoder, MultiVectorStore


@pytest.fixture(scope="module")
def encoder(golden: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(golden / "jina-colbert-v2")


def test_rank(encoder: MultiVectorEncoder) -> None:
    texts = ["a dog", "late chunking pools each span", "late chunking", "a dog"]
    documents = encoder.encode_documents(texts)
    query = encoder.encode_queries("late chunking")
    scores = encoder.score(query, documents)[0]
    ranked = encoder.rank(query, documents)
    assert [one.document for one in ranked] == np.argsort(-scores, kind="stable").tolist()
    assert [one.score for one in ranked] == sorted(scores.tolist(), reverse=True)
    assert ranked == encoder.rank("late chunking", texts) and ranked[:2] == encoder.rank(query, documents, top_k=2)
    assert encoder.rank(query, []) == []


def test_a_store_gives_what_the_list_gives(encoder: MultiVectorEncoder) -> None:
    """But for what float16 rounds away, at most 2^-11 of a unit vector's products."""
    texts = ["a dog", "late chunking pools each span", "late chunking", "a cat"]
    documents, query = encoder.encode_documents(texts), encoder.encode_queries("late chunking")
    store = MultiVectorStore(encoder.dim)
    ids = store.add(documents, np.array([40, 30, 20, 10]))
    scores = encoder.score(query, documents)
    np.testing.assert_allclose(encoder.score(query, store), scores, rtol=0, atol=len(query) * 2.0**-11)
    order = np.argsort(-scores[0], kind="stable")
    assert [hit.document for hit in encoder.rank("late chunking", store)] == ids[order].tolist()
    assert [hit.document for hit in encoder.rank(query, store, 2, candidates=ids[2:])] == [
        ids[i] for i in order if i >= 2
    ]


def test_scores_of_nothing(encoder: MultiVectorEncoder) -> None:
    vectors = encoder.encode_documents(["a", "b"])
    assert encoder.score([], vectors).shape == (0, 2) and encoder.score(vectors, []).shape == (2, 0)


UNIT = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (
            lambda e: e.score("text", [UNIT]),
            TypeError,
            r"queries must be a list of \(tokens, dim\) arrays, got one str",
        ),
        (
            lambda e: e.score([UNIT], [UNIT[0]]),
            ValueError,
            r"documents\[0\] must be \(tokens, dim\) of floats, got \(4,",
        ),
        (
            lambda e: e.score([UNIT], ["text"]),
            ValueError,
            r"documents\[0\] must be \(tokens, dim\) of floats, got \(\)",
        ),
        (lambda e: e.score([UNIT], [UNIT, UNIT[:0]]), ValueError, r"documents\[1\] has no token; leave it out"),
        (lambda e: e.score([UNIT], [UNIT[:, :3]]), ValueError, "must have one dim, got 4 and 3; encode both with one"),
        (lambda e: e.rank(UNIT, [UNIT], 0), ValueError, "top_k must be 1 or more, got 0"),
        (lambda e: e.rank(UNIT, [UNIT], 1.5), TypeError, "top_k must be an int, got float"),
        (lambda e: e.rank(UNIT, [UNIT], candidates=[0]), ValueError, "candidates are ids of a MultiVectorStore; leave"),
        (lambda e: e.rank(UNIT, [UNIT, "text"]), TypeError, "all texts or images, or all arrays of vectors, got both"),
    ],
)
def test_wrong_arguments(
    call: Callable[[MultiVectorEncoder], object], kind: type[Exception], message: str, encoder: MultiVectorEncoder
) -> None:
    with pytest.raises(kind, match=message):
        call(encoder)
