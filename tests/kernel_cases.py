"""What the kernels' tests share: the device, its dtypes, inputs on it, and how far a result may be from the truth."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from gpu_errors import sums_error
from gpu_process import MARGINS

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

torch.set_float32_matmul_precision("highest")
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
# The interpreter multiplies bfloat16 matrices wrongly (it hands their bit patterns to NumPy), so only a GPU has it.
HALVES = [torch.float16, torch.bfloat16] if ON_GPU else [torch.float16]
FLOATS = [torch.float32, *HALVES]
# Half a unit in the last place of 1: the largest relative error of rounding once.
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
# Half the distance between the smallest numbers: the largest absolute error of rounding what is next to nothing.
UNDERFLOW = {torch.float32: 2.0**-150, torch.float16: 2.0**-25, torch.bfloat16: 2.0**-134}


def tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The values on the device, rounded to `dtype`."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=DEVICE, dtype=dtype)


def normal(shape: tuple[int, ...], *seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Standard normal values, of `dtype`, on the device."""
    return tensor(inputs.normal(shape, *seed), dtype)


def cu_seqlens(lengths: tuple[int, ...]) -> torch.Tensor:
    """Offsets of packed sequences, on the device."""
    return tensor(inputs.cu_seqlens(list(lengths)))


def plain(value: object, dtype: type = np.float64) -> object:
    """A tensor as a NumPy array for the reference, floats as `dtype`; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    return value.to(torch.float64).numpy().astype(dtype) if value.is_floating_point() else value.numpy()


def assert_within(got: torch.Tensor, truth: np.ndarray, allowed: np.ndarray) -> None:
    """Each value of `got` differs from `truth` (float64) by at most its own `allowed`, and by what underflows."""
    values = plain(got)
    assert values.shape == truth.shape
    bound = allowed + UNDERFLOW[got.dtype]
    excess = np.abs(values - truth) - bound
    if excess.size:
        MARGINS.append(float(np.nanmax(np.abs(values - truth) / bound)))
    assert not (excess > 0).any() and not np.isnan(excess).any(), f"{np.nanmax(excess):.3g} beyond the bound"


def assert_rounded_once(got: torch.Tensor, truth: np.ndarray, native: np.ndarray, more: float = 0.0) -> None:
    """`got` is what f32 arithmetic gives (`native` is the reference's), off by at most `more`, rounded to its dtype."""
    assert_within(got, truth, ROUNDING[got.dtype] * np.abs(truth) * (1 + 2.0**-8) + sums_error(truth, native) + more)
