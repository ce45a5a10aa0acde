"""maxsim, maxsim_pairs and maxsim_topk against float64, in every format of documents and every instruction set."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
from errors import assert_no_worse
from longspan import _core, ops, reference
from longspan.ops.maxsim_tokens import Tokens, plain_operands

FORMATS = ("float32", "float16", "bfloat16", "int8", "codes", "sign codes")
DIMS = (1, 7, 8, 64, 96, 128, 200)
# Many scores each, so that the largest error of a correct sum is not a matter of luck.
LENGTHS = (([0, 5, 0], [1] * 60), ([32], [180, 12, 13] * 12), ([1, 16, 17, 33, 0, 40], [1, 2, 3, 11, 24, 25, 70] * 2))


def unit_rows(rows: int, dim: int, *seed: int) -> np.ndarray:
    """Rows of about unit length."""
    return inputs.normal((rows, dim), *seed) / np.float32(np.sqrt(dim))


def as_format(name: str, q: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, Tokens]:
    """Queries and documents as an op takes them in this format."""
    encoders = {
        "float32": lambda: d,
        "float16": lambda: d.astype(np.float16),
        "bfloat16": lambda: ops.to_bfloat16(d),
        "int8": lambda: ops.to_int8(d),
        "codes": lambda: np.packbits(d > 0, axis=1),
        "sign codes": lambda: np.packbits(d > 0, axis=1),
    }
    return (np.packbits(q > 0, axis=1) if name == "sign codes" else q), encoders[name]()


Case = tuple[np.ndarray, Tokens, np.ndarray, np.ndarray]


def case(name: str, lengths_q: list[int], lengths_d: list[int], dim: int) -> Case:
    """q, d and their offsets; skips dims that sign codes cannot have."""
    if "codes" in name and dim % 8:
        pytest.skip("codes have dims by eight")
    q, d = as_format(name, unit_rows(sum(lengths_q), dim, 1), unit_rows(sum(lengths_d), dim, 2))
    return q, d, inputs.cu_seqlens(lengths_q), inputs.cu_seqlens(lengths_d)


def doubles(q: np.ndarray, d: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """What is multiplied, in float64."""
    q, d = plain_operands("test", q if q.dtype == np.uint8 else q.astype(np.float64), d)
    return q.astype(np.float64), d.astype(np.float64)


def rows_of(d: Tokens, start: int, end: int) -> Tokens:
    """Some of the tokens."""
    if isinstance(d, ops.Bfloat16Tokens):
        return ops.Bfloat16Tokens(d.bits[start:end])
    if isinstance(d, ops.Int8Tokens):
        return ops.Int8Tokens(d.values[start:end], d.scales[start:end])
    return d[start:end]


@pytest.fixture
def all_cores() -> Iterator[None]:
    """Lifts the limit of threads again that a test has set."""
    yield
    _core.set_num_threads(0)


@pytest.mark.parametrize("lengths", LENGTHS, ids=("one token", "one query", "ragged"))
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", FORMATS)
def test_matches_reference(isa: str, name: str, dim: int, lengths: tuple[list[int], list[int]]) -> None:
    q, d, *offsets = case(name, *lengths, dim)
    truth = reference.maxsim(*doubles(q, d), *offsets)
    got = ops.maxsim(q, d, *offsets)
    if name == "sign codes":
        np.testing.assert_array_equal(got, truth)
    else:
        assert_no_worse(got, truth, native_maxsim(q, d, offsets, truth))


def native_maxsim(q: np.ndarray, d: Tokens, offsets: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """The same maths in float32. NumPy's order of sums differs from machine to machine, and so do its errors, which for
    few scores are a matter of luck: of some orders of the dims, the one that is farthest off."""
    q, d = plain_operands("test", q, d)
    orders = [np.random.default_rng(seed).permutation(q.shape[1]) for seed in range(3)]
    natives = [reference.maxsim(q[:, order], d[:, order], *offsets) for order in (slice(None), *orders)]
    return max(natives, key=lambda native: float(np.abs(native - truth).max()))


@pytest.mark.large
@pytest.mark.parametrize("name", FORMATS)
def test_long_rows_and_long_queries(isa: str, name: str) -> None:
    """Tokens of 8 KB, a query of more tokens than one group of lanes holds, and queries around it."""
    for lengths_q, lengths_d, dim in (([3, 9], [30, 5] * 9, 2048), ([3, 700, 600, 1, 20], [14, 1] * 5, 128)):
        q, d, *offsets = case(name, lengths_q, lengths_d, dim)
        truth = reference.maxsim(*doubles(q, d), *offsets)
        native = reference.maxsim(*plain_operands("test", q, d), *offsets)
        assert_no_worse(ops.maxsim(q, d, *offsets), truth, native)


def test_rounding_of_queries_is_as_documented() -> None:
    """Against the true products with the true queries: each format's own error, no more."""
    q, d = unit_rows(32, 128, 1), unit_rows(180, 128, 2)
    offsets = inputs.cu_seqlens([32]), inputs.cu_seqlens([180])
    # Roundings of q: none; half a unit of 8 bits; half a unit of 16 bits of the largest value. 128 of them add up as
    # their root mean square, 32 tokens at the most as their number; 6 standard deviations.
    for name, rounding in (("float32", 0.0), ("bfloat16", 2.0**-9), ("int8", 2.0**-16), ("codes", 2.0**-16)):
        query, docs = as_format(name, q, d)
        decoded = doubles(query, docs)[1]
        truth = reference.maxsim(q.astype(np.float64), decoded, *offsets)
        spread = rounding * np.abs(q).max() * np.sqrt(np.square(decoded).sum(axis=1).max())
        assert np.abs(ops.maxsim(query, docs, *offsets) - truth).max() <= 32 * 6 * spread + 1e-5


@pytest.mark.parametrize("name", FORMATS)
def test_a_score_depends_on_its_pair_alone(isa: str, name: str, all_cores: None) -> None:
    lengths_q, lengths_d = [1, 32, 0, 17, 40, 5], [1, 180, 13, 64, 25]
    q, d, cu_q, cu_d = case(name, lengths_q, lengths_d, 72)
    expected = ops.maxsim(q, d, cu_q, cu_d)
    for a in range(len(lengths_q)):
        for b in range(len(lengths_d)):
            doc = rows_of(d, cu_d[b], cu_d[b + 1])
            ends = inputs.cu_seqlens([lengths_q[a]]), inputs.cu_seqlens([lengths_d[b]])
            np.testing.assert_array_equal(ops.maxsim(q[cu_q[a] : cu_q[a + 1]], doc, *ends), expected[a, b])
    pairs = np.array([(a, b) for a in (3, 0, 5, 2) for b in (4, 1, 4)], np.int32)
    for threads in (1, 2, 5):
        _core.set_num_threads(threads)
        np.testing.assert_array_equal(ops.maxsim(q, d, cu_q, cu_d), expected)
        np.testing.assert_array_equal(ops.maxsim_pairs(q, d, cu_q, cu_d, pairs), expected[pairs[:, 0], pairs[:, 1]])
        scores, rows = ops.maxsim_topk(q, d, cu_q, cu_d, 3)
        np.testing.assert_array_equal(scores, np.take_along_axis(expected, rows, axis=1))


def test_many_documents_on_many_threads(all_cores: None) -> None:
    """Enough work for several tasks, in calls that run at the same time."""
    lengths = inputs.rng(7).integers(1, 40, 3000).tolist()
    q, d, cu_q, cu_d = case("float32", [32] * 20, lengths, 64)
    _core.set_num_threads(1)
    expected = ops.maxsim(q, d, cu_q, cu_d)
    _core.set_num_threads(4)
    pairs = np.stack([inputs.rng(8).integers(0, n, 5000, dtype=np.int32) for n in expected.shape], axis=1)
    with ThreadPoolExecutor(3) as pool:
        matrices = [pool.submit(ops.maxsim, q, d, cu_q, cu_d) for _ in range(3)]
        of_pairs = pool.submit(ops.maxsim_pairs, q, d, cu_q, cu_d, pairs)
        best = pool.submit(ops.maxsim_topk, q, d, cu_q, cu_d, 100)
    for matrix in matrices:
        np.testing.assert_array_equal(matrix.result(), expected)
    np.testing.assert_array_equal(of_pairs.result(), expected[pairs[:, 0], pairs[:, 1]])
    rows = np.argsort(-expected, axis=1, kind="stable")[:, :100]
    np.testing.assert_array_equal(best.result()[1], rows)
    np.testing.assert_array_equal(best.result()[0], np.take_along_axis(expected, rows, axis=1))


@pytest.mark.parametrize("name", FORMATS)
def test_layouts(isa: str, name: str) -> None:
    q, d, *offsets = case(name, [9, 20], [13, 30], 48)
    expected = ops.maxsim(q, d, *offsets)
    array = d.bits if isinstance(d, ops.Bfloat16Tokens) else d.values if isinstance(d, ops.Int8Tokens) else d
    with np.errstate(invalid="ignore"):  # NaN between whole numbers is just any number
        odd_queries, odd_docs = inputs.odd_layouts(q), inputs.odd_layouts(array)
    for layout, odd in odd_queries.items():
        np.testing.assert_array_equal(ops.maxsim(odd, d, *offsets), expected, layout)
    for layout, odd in odd_docs.items():
        tokens = odd if array is d else ops.Bfloat16Tokens(odd) if name == "bfloat16" else ops.Int8Tokens(odd, d.scales)
        np.testing.assert_array_equal(ops.maxsim(q, tokens, *offsets), expected, layout)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int8", "codes"])
@pytest.mark.parametrize("lengths_q", [[5, 1, 40, 0], [16]], ids=str)
def test_nan_stays_with_its_query_and_its_document(isa: str, name: str, lengths_q: list[int]) -> None:
    lengths_d, dim = [13, 1, 26, 5], 72
    q, d, cu_q, cu_d = case(name, lengths_q, lengths_d, dim)
    clean = ops.maxsim(q, d, cu_q, cu_d)
    for token in range(sum(lengths_q)):
        spoilt = q.copy()
        spoilt[token, token % dim] = np.nan
        query = np.searchsorted(cu_q, token, side="right") - 1
        expected = clean.copy()
        expected[query] = np.nan
        np.testing.assert_array_equal(ops.maxsim(spoilt, d, cu_q, cu_d), expected)
    if name == "codes":  # cannot hold NaN
        return
    floats = d.to_float32() if isinstance(d, ops.Bfloat16Tokens | ops.Int8Tokens) else d.astype(np.float32)
    for token in range(sum(lengths_d)):
        spoilt = floats.copy()
        spoilt[token, -1 - token % dim] = np.nan
        expected = clean.copy()
        expected[np.array(lengths_q) > 0, np.searchsorted(cu_d, token, side="right") - 1] = np.nan
        got = ops.maxsim(q, as_format(name, q, spoilt)[1], cu_q, cu_d)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
        others = ~np.isnan(expected)
        if name != "int8":  # whose values were rounded a second time
            np.testing.assert_array_equal(got[others], clean[others])


def test_infinite_products(isa: str) -> None:
    q, d, *offsets = case("float32", [3, 2], [13, 4], 24)
    q, d = np.abs(q) + 1, np.abs(d)
    d[5, 3], d[14, 2] = np.inf, -np.inf
    np.testing.assert_array_equal(ops.maxsim(q, d, *offsets)[:, 0], [np.inf, np.inf])
    assert np.isfinite(ops.maxsim(q, d, *offsets)[:, 1]).all()
    assert np.isnan(ops.maxsim(q - np.inf, ops.to_int8(d), *offsets)).all()


@pytest.mark.parametrize("name", FORMATS)
def test_empty(isa: str, name: str) -> None:
    q, d, cu_q, cu_d = case(name, [0, 4, 0], [3, 8], 16)
    assert (ops.maxsim(q, d, cu_q, cu_d)[[0, 2]] == 0).all()
    none = np.zeros(1, np.int32)
    assert ops.maxsim(q[:0], d, none, cu_d).shape == (0, 2)
    assert ops.maxsim(q, rows_of(d, 0, 0), cu_q, none).shape == (3, 0)
    assert ops.maxsim(q[:0], rows_of(d, 0, 0), none, none).shape == (0, 0)
    assert ops.maxsim_pairs(q, d, cu_q, cu_d, np.empty((0, 2), np.int32)).shape == (0,)
    scores, rows = ops.maxsim_topk(q, d, cu_q, cu_d, 2)
    np.testing.assert_array_equal(rows[0], [0, 1])
    np.testing.assert_array_equal(scores[0], [0, 0])


def test_topk_order(isa: str, all_cores: None) -> None:
    """Ties go to the lower document, NaN comes last; k up to the number of documents."""
    few = unit_rows(7, 32, 3)  # every document is one of seven: many ties
    choice = inputs.rng(9).integers(0, 7, 2000)
    d = few[choice].copy()
    d[[5, 700, 1999]] = np.nan
    q, cu_q, cu_d = unit_rows(12, 32, 4), inputs.cu_seqlens([4, 8]), np.arange(2001, dtype=np.int32)
    scores = ops.maxsim(q, d, cu_q, cu_d)
    for threads in (1, 3):
        _core.set_num_threads(threads)
        for k in (1, 2, 100, 1999, 2000):
            got, rows = ops.maxsim_topk(q, d, cu_q, cu_d, k)
            expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            np.testing.assert_array_equal(rows, expected)
            np.testing.assert_array_equal(got, np.take_along_axis(scores, expected, axis=1))
    assert rows[0, -3:].tolist() == [5, 700, 1999]


@settings(max_examples=60, deadline=None)
@given(
    lengths_q=st.lists(st.integers(0, 40), max_size=6),
    lengths_d=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    dim=st.integers(1, 20).map(lambda eighth: 8 * eighth),
    name=st.sampled_from(FORMATS),
)
def test_any_shape(lengths_q: list[int], lengths_d: list[int], dim: int, name: str) -> None:
    q, d, *offsets = case(name, lengths_q, lengths_d, dim)
    truth = reference.maxsim(*doubles(q, d), *offsets)
    # 64 tokens, whose best products of unit vectors in dim steps are off by eps at the very most each
    limit = 0 if name == "sign codes" else 64 * dim * np.finfo(np.float32).eps * (dim if name == "codes" else 1)
    np.testing.assert_allclose(ops.maxsim(q, d, *offsets), truth, rtol=0, atol=limit)


def test_golden(golden: Path, isa: str) -> None:
    """Vectors, keep masks and scores of the original model's own tools."""
    with np.load(golden / "jina-colbert-v2" / "expected.npz") as arrays:
        for name in ("basic", "exact_lengths"):
            queries, docs = arrays[f"{name}/query_vectors"], arrays[f"{name}/doc_vectors_unmasked"]
            q, cu_q = np.concatenate(list(queries)), inputs.cu_seqlens([len(query) for query in queries])
            for mask, scores in (("doc_keep_mask", "maxsim"), ("doc_keep_mask_pylate", "maxsim_pylate_skiplist")):
                kept = [doc[keep] for doc, keep in zip(docs, arrays[f"{name}/{mask}"])]
                cu_d = inputs.cu_seqlens([len(doc) for doc in kept])
                got = ops.maxsim(q.astype(np.float32), np.concatenate(kept).astype(np.float32), cu_q, cu_d)
                np.testing.assert_allclose(got, arrays[f"{name}/{scores}"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_reference_backend(name: str) -> None:
    q, d, *offsets = case(name, [3, 0, 4], [5, 1, 9], 24)
    pairs = np.array([[0, 2], [2, 1]], np.int32)
    plain = plain_operands("test", q, d)
    expected = reference.maxsim(*plain, *offsets)
    np.testing.assert_array_equal(ops.maxsim(q, d, *offsets, backend="reference"), expected)
    of_pairs = ops.maxsim_pairs(q, d, *offsets, pairs, backend="reference")
    np.testing.assert_array_equal(of_pairs, expected[[0, 2], [2, 1]])
    scores, rows = ops.maxsim_topk(q, d, *offsets, 2, backend="reference")
    np.testing.assert_array_equal(scores, np.take_along_axis(expected, rows, axis=1))


def test_torch_tensors_come_back_as_tensors() -> None:
    torch = pytest.importorskip("torch")
    q, d, *offsets = case("float32", [3, 4], [5, 9], 24)
    tensors = [torch.from_numpy(array) for array in (q, d, *offsets)]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        docs = tensors[1].to(dtype)
        numpy_docs = ops.to_bfloat16(d) if dtype == torch.bfloat16 else docs.numpy()
        expected = ops.maxsim(q, numpy_docs, *offsets)
        got = ops.maxsim(tensors[0], docs, *tensors[2:])
        assert isinstance(got, torch.Tensor)
        np.testing.assert_array_equal(got.numpy(), expected)
        strided = torch.cat([docs, docs], dim=1)[:, :24]
        np.testing.assert_array_equal(ops.maxsim(tensors[0], strided, *tensors[2:]).numpy(), expected)
    scores, rows = ops.maxsim_topk(*tensors, 2)
    assert scores.dtype == torch.float32 and rows.dtype == torch.int64
