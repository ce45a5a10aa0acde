"""pool_mean against float64, in every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import ops, reference


@pytest.mark.parametrize("lengths", [*inputs.RAGGED, [1000, 5], []], ids=str)
@pytest.mark.parametrize("dim", [1, 63, 384])
def test_matches_reference(isa: str, lengths: list[int], dim: int) -> None:
    hidden, offsets = inputs.normal((sum(lengths), dim), 1) + 2, inputs.cu_seqlens(lengths)
    truth, native = reference.pool_mean(hidden.astype(np.float64), offsets), reference.pool_mean(hidden, offsets)
    assert_no_worse(ops.pool_mean(hidden, offsets), truth, native)


def test_a_sequence_depends_on_itself_alone(isa: str) -> None:
    hidden, offsets = inputs.normal((269, 100), 1), inputs.cu_seqlens([3, 0, 200, 1, 65])
    hidden[204] = np.nan  # in the last sequence
    got = ops.pool_mean(hidden, offsets)
    assert np.isnan(got[4]).all() and np.isfinite(got[:4]).all() and (got[1] == 0).all()
    np.testing.assert_array_equal(ops.pool_mean(hidden[3:203], inputs.cu_seqlens([200]))[0], got[2])
    for name, odd in inputs.odd_layouts(hidden).items():
        np.testing.assert_array_equal(ops.pool_mean(odd, offsets), got, name)


@pytest.mark.parametrize(
    "offsets, message",
    [
        ([0, 3, 2, 5], r"pool_mean: cu_seqlens must never fall, cu_seqlens\[1\] is 3, then 2"),
        ([1, 5], r"pool_mean: cu_seqlens must start with 0, got \[1\]"),
        ([0, 4], "pool_mean: cu_seqlens must end at the number of rows, 5, got 4"),
        ([], r"pool_mean: cu_seqlens must start with 0, got \[\]"),
    ],
)
def test_bad_offsets(offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.pool_mean(np.ones((5, 2), np.float32), np.array(offsets, np.int32))


def test_bad_types() -> None:
    with pytest.raises(ValueError, match="pool_mean: cu_seqlens must be int32, got int64"):
        ops.pool_mean(np.ones((5, 2), np.float32), np.array([0, 5]))
    with pytest.raises(TypeError, match="pool_mean: cu_seqlens must be a NumPy array or a torch tensor, got list"):
        ops.pool_mean(np.ones((5, 2), np.float32), [0, 5])  # type: ignore[arg-type]
