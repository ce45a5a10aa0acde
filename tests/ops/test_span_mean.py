"""span_mean against float64, in every instruction set; its gradient against differences."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import BackendError, _core, ops, reference

# Overlapping, nested, unordered, adjacent, equal, one row, the whole pack; lengths around the kernel's blocks of 8.
SPANS = [(5, 12), (0, 8), (8, 15), (3, 100), (40, 41), (0, 300), (299, 300), (40, 41), (100, 163), (100, 164), (7, 72)]


def int32(spans: list[tuple[int, int]]) -> np.ndarray:
    return np.array(spans, np.int32).reshape(-1, 2)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("truncate_dim", [None, 1, 40])
@pytest.mark.parametrize("dim", [63, 64, 384])
@pytest.mark.parametrize("spans", [SPANS, SPANS[:2], []], ids=["many", "two", "none"])
def test_matches_reference(
    isa: str, spans: list[tuple[int, int]], dim: int, truncate_dim: int | None, normalize: bool
) -> None:
    hidden, rows = inputs.normal((300, dim), 1) + 2, int32(spans)
    options = {"truncate_dim": truncate_dim, "normalize": normalize}
    truth = reference.span_mean(hidden.astype(np.float64), rows, **options)
    poisoned = np.full((len(spans), truncate_dim or dim), np.nan, np.float32)
    got = ops.span_mean(hidden, rows, **options, out=poisoned)
    assert got is poisoned
    np.testing.assert_array_equal(ops.span_mean(hidden, rows, **options), got)
    assert_no_worse(got, truth, reference.span_mean(hidden, rows, **options))


def test_a_long_span_stays_exact(isa: str) -> None:
    hidden, rows = inputs.normal((20_000, 5), 2) + 100, int32([(0, 20_000)])
    truth = reference.span_mean(hidden.astype(np.float64), rows)
    assert_no_worse(ops.span_mean(hidden, rows), truth, reference.span_mean(hidden, rows), factor=1)


def test_spans_that_part_the_pack_are_pool_mean() -> None:
    hidden, offsets = inputs.normal((269, 100), 3), inputs.cu_seqlens([3, 200, 1, 65])
    spans = np.stack([offsets[:-1], offsets[1:]], axis=1)
    np.testing.assert_allclose(ops.span_mean(hidden, spans), ops.pool_mean(hidden, offsets), rtol=0, atol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_span_depends_on_its_own_rows_and_columns_alone(isa: str, normalize: bool) -> None:
    hidden, rows = inputs.normal((300, 200), 1), int32(SPANS)
    expected = ops.span_mean(hidden, rows, normalize=normalize)
    for name, odd in inputs.odd_layouts(hidden).items():
        np.testing.assert_array_equal(ops.span_mean(odd, rows, normalize=normalize), expected, name)
    for place in range(len(SPANS)):  # alone, by another route through the threads, elsewhere in memory
        start, end = SPANS[place]
        alone = ops.span_mean(hidden[start:end], int32([(0, end - start)]), normalize=normalize)
        np.testing.assert_array_equal(alone[0], expected[place])
    poisoned = hidden.copy()
    poisoned[200:, :] = np.nan
    poisoned[:, 150:] = np.nan
    got = ops.span_mean(poisoned, rows, truncate_dim=150, normalize=normalize)
    inside = rows[:, 1] <= 200
    np.testing.assert_array_equal(
        got[inside], ops.span_mean(hidden, rows, truncate_dim=150, normalize=normalize)[inside]
    )
    assert np.isnan(got[~inside]).all()


@pytest.mark.parametrize("num_threads", [1, 3])
def test_thread_count_does_not_matter(num_threads: int) -> None:
    hidden, rows = inputs.normal((300, 300), 1), int32(SPANS[:6])
    expected = ops.span_mean(hidden, rows, normalize=True)
    before = _core.set_num_threads(num_threads)
    try:
        np.testing.assert_array_equal(ops.span_mean(hidden, rows, normalize=True), expected)
    finally:
        _core.set_num_threads(before)


def test_zeros_stay_zeros(isa: str) -> None:
    got = ops.span_mean(np.zeros((9, 20), np.float32), int32([(0, 9), (3, 4)]), normalize=True)
    np.testing.assert_array_equal(got, np.zeros((2, 20), np.float32))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("truncate_dim", [None, 3])
def test_gradient(normalize: bool, truncate_dim: int | None) -> None:
    """Central differences of <weights, span_mean(hidden)> in float64, where their own error is about 1e-10."""
    spans = int32([(0, 4), (2, 7), (3, 4), (3, 4)])  # row 7 is in none
    hidden = inputs.normal((8, 5), 4, dtype=np.float64)
    weights = inputs.normal((4, truncate_dim or 5), 5, dtype=np.float64)
    got = reference.span_mean_backward(weights, hidden, spans, normalize=normalize)
    assert got.shape == hidden.shape and (got[7] == 0).all() and (got[:, truncate_dim or 5 :] == 0).all()
    step = 1e-5
    for index in np.ndindex(*hidden.shape):
        losses = []
        for sign in (1, -1):
            moved = hidden.copy()
            moved[index] += sign * step
            pooled = reference.span_mean(moved, spans, truncate_dim=truncate_dim, normalize=normalize)
            losses.append((weights * pooled).sum())
        assert got[index] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-9)


@pytest.mark.parametrize(
    "spans, message",
    [
        ([(0, 2), (3, 3)], r"span_mean: spans\[1\] is empty, \(3, 3\); drop_invalid=True leaves such spans out"),
        ([(4, 2)], r"span_mean: spans\[0\] is empty, \(4, 2\)"),
        ([(0, 2), (1, 2), (3, 6)], r"span_mean: spans\[2\] reaches outside the 5 rows, \(3, 6\); drop_invalid=True"),
        ([(-1, 2)], r"span_mean: spans\[0\] reaches outside the 5 rows, \(-1, 2\)"),
    ],
)
def test_bad_spans_are_named_or_dropped(spans: list[tuple[int, int]], message: str) -> None:
    hidden = inputs.normal((5, 2), 6)
    with pytest.raises(ValueError, match=message):
        ops.span_mean(hidden, int32(spans))
    got = ops.span_mean(hidden, int32([*spans, (0, 5)]), drop_invalid=True)
    np.testing.assert_array_equal(got, ops.span_mean(hidden, int32([*spans[:-1], (0, 5)])))


def test_bad_input() -> None:
    hidden, spans = inputs.normal((5, 2), 6), int32([(0, 5)])
    with pytest.raises(ValueError, match="span_mean: spans must be int32, got int64"):
        ops.span_mean(hidden, spans.astype(np.int64))
    with pytest.raises(ValueError, match=r"span_mean: spans must be \(num_spans, 2\), got \(1, 3\)"):
        ops.span_mean(hidden, np.zeros((1, 3), np.int32))
    with pytest.raises(ValueError, match=r"span_mean: hidden must be \(total_tokens, dim\), got \(5,\)"):
        ops.span_mean(hidden[:, 0], spans)
    with pytest.raises(ValueError, match=r"span_mean: out must be \(1, 2\), got \(2, 2\)"):
        ops.span_mean(hidden, spans, out=np.empty((2, 2), np.float32))
    for truncate_dim in (0, 3):
        with pytest.raises(ValueError, match=f"span_mean: truncate_dim must be from 1 to 2, got {truncate_dim}"):
            ops.span_mean(hidden, spans, truncate_dim=truncate_dim)
    with pytest.raises(
        BackendError,
        match="cpu: dtype must be float32, got float64; cuda: tensors are on cpu; "
        "triton: takes torch tensors only; reference: only on request",
    ):
        ops.span_mean(hidden.astype(np.float64), spans)


def test_the_core_checks_for_itself() -> None:
    hidden, out = inputs.normal((5, 2), 6), np.empty((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"span_mean: spans\[0\] is \(0, 6\); it must hold a row and lie in 0 .. 5"):
        _core.span_mean(hidden, int32([(0, 6)]), False, out)
    with pytest.raises(ValueError, match=r"span_mean: out must be \(2, 2 at most\), got \(1, 2\)"):
        _core.span_mean(hidden, int32([(0, 5), (0, 1)]), False, out)
    with pytest.raises(ValueError, match=r"span_mean: spans must be \(num_spans, 2\), got \(1, 3\)"):
        _core.span_mean(hidden, np.zeros((1, 3), np.int32), False, out)


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    hidden, spans = inputs.normal((300, 20), 1), int32(SPANS)
    got = ops.span_mean(torch.from_numpy(hidden), torch.from_numpy(spans), normalize=True)
    np.testing.assert_array_equal(got.numpy(), ops.span_mean(hidden, spans, normalize=True))
