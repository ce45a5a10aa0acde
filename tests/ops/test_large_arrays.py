"""Arrays of more than 2^31 values: offsets have 64 bits everywhere. LONGSPAN_LONG_TESTS=1 runs it: a minute, on files
with holes of 9 GB that take no room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longspan import ops

pytestmark = [
    pytest.mark.large,
    pytest.mark.skipif(os.environ.get("LONGSPAN_LONG_TESTS") != "1", reason="LONGSPAN_LONG_TESTS=1 runs it"),
]
DIM = 256
ROWS = (1 << 31) // DIM + 16
LAST = 8  # rows that hold something


def sparse(path: Path, shape: tuple[int, int], dtype: str) -> np.ndarray:
    with open(path, "wb") as file:
        file.truncate(shape[0] * shape[1] * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[np.ndarray]:
    """(ROWS, DIM) f32, zeros but for the last rows, whose values are 1, 2, ..."""
    path = tmp_path_factory.mktemp("large") / "rows.bin"
    array = sparse(path, (ROWS, DIM), "f4")
    array[-LAST:] = np.arange(1, LAST + 1)[:, None]
    yield array
    path.unlink()


def test_binarize(rows: np.ndarray) -> None:
    codes = np.asarray(ops.binarize(rows))
    assert codes.shape == (ROWS, DIM // 8) and (codes[-LAST:] == 255).all() and not codes[:-LAST].any()


def test_means(rows: np.ndarray) -> None:
    pooled = np.asarray(ops.pool_mean(rows, np.array([0, ROWS - LAST, ROWS], np.int32)))
    np.testing.assert_array_equal(pooled, np.array([[0.0], [4.5]]) * np.ones((1, DIM)))
    spans = np.array([[ROWS - LAST, ROWS], [ROWS - 1, ROWS], [0, 1]], np.int32)
    means = np.asarray(ops.span_mean(rows, spans))
    np.testing.assert_array_equal(means, np.array([[4.5], [8.0], [0.0]]) * np.ones((1, DIM)))


def test_linear(rows: np.ndarray) -> None:
    out = np.asarray(ops.linear(rows, np.ones((1, DIM), np.float32)))
    np.testing.assert_array_equal(out[-LAST:, 0], DIM * np.arange(1, LAST + 1))
    assert not out[:-LAST].any()


def test_search(rows: np.ndarray, tmp_path: Path) -> None:
    codes = sparse(tmp_path / "codes.bin", ((1 << 28) + 16, 8), "u1")
    codes[-3:] = 255
    _, found = ops.hamming_topk(np.full((1, 8), 255, np.uint8), codes, 3)
    np.testing.assert_array_equal(np.asarray(found)[0], len(codes) - np.array([3, 2, 1]))
    query = np.ones((1, DIM), np.float32)
    scores, best = ops.rescore(query, np.array([[0, ROWS - 1, ROWS - 2]]), rows, k=2)
    np.testing.assert_array_equal(np.asarray(best)[0], [ROWS - 1, ROWS - 2])
    np.testing.assert_array_equal(np.asarray(scores)[0], [DIM * 8, DIM * 7])


def test_maxsim(rows: np.ndarray) -> None:
    offsets = np.array([0, ROWS - LAST, ROWS], np.int32)
    scores = ops.maxsim(np.ones((1, DIM), np.float32), rows, np.array([0, 1], np.int32), offsets)
    np.testing.assert_array_equal(np.asarray(scores), [[0, DIM * 8]])


def test_attention(rows: np.ndarray) -> None:
    """Two queries, of which one sees what lies beyond 2^31 alone."""
    heads = rows.reshape(ROWS, 4, 64)
    q = np.zeros((2, 4, 64), np.float32)  # all keys count the same
    offsets = np.array([0, ROWS - LAST, ROWS], np.int32)
    out = np.asarray(ops.attention_varlen(q, heads, heads, np.array([0, 1, 2], np.int32), offsets))
    np.testing.assert_allclose(out, np.array([0.0, 4.5])[:, None, None] * np.ones((2, 4, 64)), rtol=1e-5)
