"""pool_logits against float64, in every instruction set and compute type."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

import inputs
from longspan import _core, ops, reference
from longspan.ops.linear import COMPUTE_TYPES, ComputeType
from longspan.ops.pool_logits import LOGIT_POOLINGS, SATURATIONS, LogitPooling, Saturation
from longspan.reference.linear import round_bfloat16

HALF_ULP = 2.0**-24  # of float32, relative
LENGTHS = ([0], [65, 1, 63], [3, 0, 200, 0, 1], [13, 14, 15, 28, 29])


@pytest.fixture(params=COMPUTE_TYPES)
def dtype(request: pytest.FixtureRequest) -> ComputeType:
    """Each of what products are made in."""
    return request.param


@pytest.fixture
def threads() -> Iterator[None]:
    """The thread limit, put back."""
    before = _core.set_num_threads(0)
    yield
    _core.set_num_threads(before)


def case(lengths: list[int], out_features: int, in_features: int) -> tuple[np.ndarray, ...]:
    """Tokens, weights, bias, offsets: logits of about 1, of either sign."""
    x = inputs.normal((sum(lengths), in_features), 1)
    weight = inputs.normal((out_features, in_features), 2) / np.float32(np.sqrt(in_features))
    return x, weight, inputs.normal((out_features,), 3), inputs.cu_seqlens(lengths)


def bound(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, offsets: np.ndarray, pooling: str) -> np.ndarray:
    """What float32 may be off by, for operands as they are multiplied: a sum of n terms, in any order, n - 1 half ulps
    of their sizes; f moves nothing further apart, and is itself off by 7 half ulps at most."""
    sizes = np.abs(x) @ np.abs(weight).T + np.abs(bias)
    each = HALF_ULP * 1.01 * ((x.shape[1] + 8) * sizes)
    parts = [(each[first:end], sizes[first:end]) for first, end in pairwise(offsets)]
    if pooling == "max":
        return np.stack([part.max(axis=0, initial=0) for part, _ in parts])
    return np.stack([part.sum(axis=0) + HALF_ULP * len(part) * size.sum(axis=0) for part, size in parts])


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (70, 300)], ids=str)
@pytest.mark.parametrize("saturation", SATURATIONS)
@pytest.mark.parametrize("pooling", LOGIT_POOLINGS)
def test_matches_reference(
    isa: str,
    dtype: ComputeType,
    lengths: list[int],
    shape: tuple[int, int],
    pooling: LogitPooling,
    saturation: Saturation | None,
) -> None:
    x, weight, bias, offsets = case(lengths, *shape)
    packed = ops.pack_linear([weight], [bias], dtype=dtype)
    got = np.asarray(ops.pool_logits(x, packed, offsets, pooling=pooling, saturation=saturation))
    how = {"pooling": pooling, "saturation": saturation}
    if dtype == "int8":  # whole numbers, then the same operations up to f
        want = reference.pool_logits(x, weight, bias, offsets, dtype=dtype, **how)  # type: ignore[arg-type]
        if saturation is None:
            np.testing.assert_array_equal(got, want)
        np.testing.assert_allclose(got, want, rtol=16 * HALF_ULP * max(1, *lengths), atol=0)
        return
    if dtype == "bfloat16":
        x, weight = round_bfloat16(x), round_bfloat16(weight)
    wide = [part.astype(np.float64) for part in (x, weight, bias)]
    truth = reference.pool_logits(*wide, offsets, **how)  # type: ignore[arg-type]
    limit = bound(*wide, offsets, pooling)
    empty = np.isneginf(truth)
    assert (np.isneginf(got) == empty).all()
    assert (np.abs(np.where(empty, 0, got) - np.where(empty, 0, truth)) <= limit).all()


@pytest.mark.parametrize("pooling", LOGIT_POOLINGS)
def test_a_sequence_has_the_same_bits_anywhere(
    isa: str, dtype: ComputeType, pooling: LogitPooling, threads: None
) -> None:
    """Alone, at any place of a batch that takes several turns, on any number of threads."""
    lengths = [5, 700, 1, 64, 0, 600, 33]
    x, weight, bias, offsets = case(lengths, 270, 40)
    packed = ops.pack_linear([weight], [bias], dtype=dtype)

    def run(x: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        return np.asarray(ops.pool_logits(x, packed, offsets, pooling=pooling, saturation="log1p"))

    whole = run(x, offsets)
    for row, (first, end) in enumerate(pairwise(offsets)):
        np.testing.assert_array_equal(run(x[first:end], np.array([0, end - first], np.int32))[0], whole[row])
    _core.set_num_threads(3)
    np.testing.assert_array_equal(run(x, offsets), whole)
    for name, odd in inputs.odd_layouts(x).items():
        np.testing.assert_array_equal(run(odd, offsets), whole, name)


def test_the_largest_is_that_of_linear(isa: str, dtype: ComputeType) -> None:
    """The logits are linear's, bit for bit."""
    x, weight, bias, offsets = case([3, 40, 200], 131, 90)
    packed = ops.pack_linear([weight], [bias], dtype=dtype)
    logits = np.asarray(ops.linear(x, packed))
    want = np.stack([logits[first:end].max(axis=0) for first, end in pairwise(offsets)])
    np.testing.assert_array_equal(ops.pool_logits(x, packed, offsets), want)


def test_log1p_over_the_whole_range(isa: str) -> None:
    """Relative error of log1p itself, from the smallest numbers to the largest."""
    values = np.concatenate([np.logspace(-37, 37, 4001), np.linspace(0, 40, 4001)]).astype(np.float32)[None]
    weight = np.ones((1, 1), np.float32)
    tokens = np.ascontiguousarray(values.T)
    each = np.arange(tokens.size + 1, dtype=np.int32)
    for saturation in ("log1p", "log1p_twice"):
        got = np.asarray(ops.pool_logits(tokens, weight, each, saturation=saturation))[:, 0]
        want = reference.pool_logits(
            tokens.astype(np.float64), weight.astype(np.float64), None, each, saturation=saturation
        )[:, 0]
        error = np.abs(got - want) / np.maximum(want, 1e-38)
        assert error.max() < 3.5 * 2**-24, saturation
    largest = ops.pool_logits(np.array([[3e38]], np.float32), weight, each[:2], saturation="log1p")
    np.testing.assert_allclose(largest, 125 * np.log(2), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pooling", LOGIT_POOLINGS)
def test_what_is_not_finite_shows(isa: str, dtype: ComputeType, pooling: LogitPooling, bad: float) -> None:
    """In its own sequence, and in no other; whatever comes before and behind it."""
    x, weight, bias, offsets = case([20, 20, 20], 40, 30)
    packed = ops.pack_linear([weight], [bias], dtype=dtype)
    good = np.asarray(ops.pool_logits(x, packed, offsets, pooling=pooling, saturation="log1p"))
    for at in (20, 27, 39):
        spoilt = x.copy()
        spoilt[at] = bad
        got = np.asarray(ops.pool_logits(spoilt, packed, offsets, pooling=pooling, saturation="log1p"))
        if pooling == "max":
            assert np.isnan(got[1]).all()
        np.testing.assert_array_equal(got[[0, 2]], good[[0, 2]])


def test_backends_agree() -> None:
    x, weight, bias, offsets = case([3, 9], 20, 12)
    want = ops.pool_logits(x, weight, offsets, bias, saturation="log1p")
    plain = ops.pool_logits(x, weight, offsets, bias, saturation="log1p", backend="reference")
    np.testing.assert_allclose(want, plain, rtol=0, atol=1e-6)
    out = np.full((2, 20), np.nan, np.float32)
    assert ops.pool_logits(x, weight, offsets, bias, saturation="log1p", out=out) is out
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pooling": "mean"}, "pool_logits: pooling must be max or sum, got 'mean'"),
        ({"saturation": "relu"}, "pool_logits: saturation must be None, log1p or log1p_twice, got 'relu'"),
        ({"x": np.ones((4, 3), np.float32)}, r"pool_logits: x must be \(total_tokens, 2\), got \(4, 3\)"),
        (
            {"cu_seqlens": np.array([0, 3], np.int32)},
            "pool_logits: cu_seqlens must end at the number of rows, 4, got 3",
        ),
        ({"bias": np.ones(2, np.float32)}, r"pool_logits: bias must be \(3,\), got \(2,\)"),
        ({"out": np.ones((1, 3), np.float32)}, r"pool_logits: out must be \(2, 3\), got \(1, 3\)"),
        (
            {"weight": ops.pack_linear([np.ones((3, 2), np.float32)]), "bias": np.ones(3, np.float32)},
            "pool_logits: bias must be None with a PackedLinear",
        ),
        (
            {"weight": ops.pack_linear([np.ones((4, 2), np.float32)], gate="first")},
            "pool_logits: weight's gate must be None with a PackedLinear",
        ),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "x": np.ones((4, 2), np.float32),
        "weight": np.ones((3, 2), np.float32),
        "cu_seqlens": np.array([0, 1, 4], np.int32),
    }
    with pytest.raises(ValueError, match=message):
        ops.pool_logits(**{**arguments, **change})  # type: ignore[arg-type]


def test_the_core_guards_itself() -> None:
    weight, x = ops.pack_linear([np.ones((3, 2), np.float32)]), np.ones((4, 2), np.float32)
    out = np.empty((2, 3), np.float32)
    for offsets, message in (([0, 5, 4], "must not fall"), ([0, 1, 5], "must go from 0 to 4"), ([], "from 0 to 4")):
        with pytest.raises(ValueError, match=message):
            _core.pool_logits(x, weight, np.array(offsets, np.int32), False, 0, out)
    offsets = np.array([0, 1, 4], np.int32)
    with pytest.raises(ValueError, match="saturation must be 0, 1 or 2, got 3"):
        _core.pool_logits(x, weight, offsets, False, 3, out)
    both = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="out must not share memory with x"):
        _core.pool_logits(both[:, :2], weight, offsets, False, 0, both[:2])
