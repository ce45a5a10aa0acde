"""Similarity against float64, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from longspan.vectors.similarity import SIMILARITIES, similarity


def exact(a: np.ndarray, b: np.ndarray, name: str) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if name in ("cosine", "dot"):
        lengths = [np.linalg.norm(side, axis=1, keepdims=True) if name == "cosine" else 1 for side in (a, b)]
        return (a / lengths[0]) @ (b / lengths[1]).T
    apart = a[:, None] - b[None]
    return -np.abs(apart).sum(2) if name == "manhattan" else -np.sqrt(np.square(apart).sum(2))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", SIMILARITIES)
def test_near_vectors_keep_their_digits(name: str, scale: float) -> None:
    a = (scale * inputs.normal((30, 384), 1)).astype(np.float32)
    b = np.concatenate(
        [a[:20] + np.float32(1e-3 * scale) * inputs.normal((20, 384), 2), inputs.normal((5000, 384), 3)]
    ).astype(np.float32)
    truth = exact(a, b, name)
    got = similarity(a, b, name)
    assert got.dtype == np.float32
    error = np.abs(got - truth)
    largest = {"cosine": 1.0, "dot": np.linalg.norm(a, axis=1).max() * np.linalg.norm(b, axis=1).max()}
    assert (error <= 4e-6 * (largest[name] if name in largest else np.abs(truth))).all()


def test_sizes_that_float32_cannot_square() -> None:
    row = np.array([[3.0, -4.0, 0.0]], np.float32)
    other = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    for scale in (1e-30, 1e25):
        got = similarity(row * np.float32(scale), other * np.float32(1 / scale), "cosine")
        np.testing.assert_allclose(got, [[-0.28, 0.0]], atol=1e-6)
    np.testing.assert_allclose(similarity(row * np.float32(1e25), other, "euclidean"), [[-5e25, -5e25]], rtol=1e-6)


@pytest.mark.parametrize(
    "given, kind, message",
    [
        ("ab", TypeError, r"a must be \(n, dim\) numbers, got <U2"),
        (None, TypeError, r"a must be \(n, dim\) numbers, got NoneType"),
        (np.ones((2, 3), complex), TypeError, r"a must be \(n, dim\) numbers, got complex128"),
        ([[1.0, 2.0], [3.0]], ValueError, r"a must be \(n, dim\), got rows of several lengths"),
        (np.full((1, 3), 1e300), ValueError, "a has a number beyond float32; scale it down"),
        (np.ones((2, 2, 3)), ValueError, r"a and b must be \(n, dim\) with one dim, got \(2, 2, 3\) and \(1, 3\)"),
        (np.ones((2, 4)), ValueError, r"a and b must be \(n, dim\) with one dim, got \(2, 4\) and \(1, 3\)"),
    ],
)
def test_what_is_no_matrix(given: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^similarity: {message}$"):
        similarity(given, np.ones((1, 3)))
    with pytest.raises(ValueError, match="with one dim"):
        similarity([], [])


@pytest.mark.parametrize("name", SIMILARITIES)
def test_no_vectors(name: str) -> None:
    none, some = np.zeros((0, 3), np.float32), np.ones((2, 3), np.float32)
    assert similarity(none, some, name).shape == (0, 2) and similarity(some, none, name).shape == (2, 0)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    rows = inputs.normal((3, 8), 1)
    want = similarity(rows, rows)
    np.testing.assert_array_equal(similarity(torch.from_numpy(rows).requires_grad_(), rows), want)
    np.testing.assert_allclose(similarity(torch.from_numpy(rows).bfloat16(), torch.from_numpy(rows)), want, atol=0.01)
