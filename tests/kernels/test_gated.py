"""The epilogue of matrix products against float64: activations, gated pairs, bias, residual."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_errors import sums_error
from kernel_cases import FLOATS, ROUNDING, assert_within, normal, plain, torch
from longspan.kernels.gated import gated
from longspan.ops.linear import ACTIVATIONS, GATES
from longspan.reference.linear import linear

WIDTHS = (1, 65, 1100)


OVERFLOW = pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # NumPy's, in the interpreter


@OVERFLOW
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("gate", [None, *GATES])
def test_matches_reference(activation: str | None, gate: str | None, dtype: torch.dtype) -> None:
    for width, has_more in zip(WIDTHS, (False, True, True)):
        columns = width if gate is None else 2 * width
        u, residual = 3 * normal((5, columns), 1, dtype=dtype), normal((5, width), 2, dtype=dtype)
        bias = normal((columns,), 3, dtype=dtype) if has_more else None
        residual = residual if has_more else None
        out = torch.full((5, width), torch.nan, dtype=dtype, device=u.device)
        assert gated(u, bias, activation=activation, gate=gate, residual=residual, out=out) is out
        truth, native = (
            linear(
                plain(u, kind),
                np.eye(columns, dtype=kind),
                plain(bias, kind),
                activation=activation,
                gate=gate,
                residual=plain(residual, kind),
            )
            for kind in (np.float64, np.float32)
        )
        # The exponentials and erf of a GPU are good to a few units in the last place, NumPy's to half of one.
        largest = np.abs(plain(u)).max() ** (1 if gate is None else 2)
        allowed = ROUNDING[dtype] * np.abs(truth) * (1 + 2.0**-8) + sums_error(truth, native) + 4 * 2.0**-23 * largest
        assert_within(out, truth, allowed)


@OVERFLOW
def test_far_values_and_layouts() -> None:
    u = torch.tensor([[-1e4, -90.0, 0.0, 90.0, 1e4, torch.nan]], device=normal((1,), 1, dtype=torch.float32).device)
    for activation in ACTIVATIONS:
        got = gated(u, activation=activation)[0]
        expected = {"tanh": [-1, -1, 0, 1, 1], "relu": [0, 0, 0, 90, 1e4]}.get(activation, [0, 0, 0, 90, 1e4])
        assert got[:5].tolist() == expected and got[5].isnan(), activation
    wide = normal((7, 60), 1, dtype=torch.float32)
    expected = gated(wide[:, 10:50].contiguous(), activation="silu", gate="first")
    assert torch.equal(gated(wide[:, 10:50], activation="silu", gate="first"), expected)
    columns = wide[:, 10:50].t().contiguous().t()
    assert torch.equal(
        gated(columns, activation="silu", gate="first", out=torch.empty(20, 7, device=wide.device).t()), expected
    )
    assert gated(wide[:0], activation="gelu").shape == (0, 60)
