"""The same steps on a GPU: torch tensors through the same ops, with a second matrix in place of moving blocks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from longspan.ops import group_sums, retrofit_step
from longspan.relations.solvers import Advance, Solved, check_finite
from longspan.relations.system import System

if TYPE_CHECKING:
    Tensor = Any  # torch's, which is not installed where this is checked


def run_on_device(
    system: System,
    base: np.ndarray,
    absent: np.ndarray,
    steps: int,
    device: str,
    advance: Advance,
    *,
    is_series: bool,
) -> Solved:
    """RN (`is_series`), or steps without normalisation, as `solvers` has them; the vectors come back to the host.

    Memory of the device: base vectors, vectors and the next ones, 3 n d floats, and 8 bytes a non-zero.
    """
    import torch

    def there(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    given = there(base)
    vectors = torch.where(there(absent)[:, None], 0.0, given)
    arrays = {
        "base": given,
        "anchor": there(system.anchor),
        "sum_indptr": there(system.corrections.indptr),
        "sum_indices": there(system.corrections.indices),
        "sum_weights": there(system.corrections.weights),
        "divisor": None if system.divisor is None else there(system.divisor),
    }
    product = [there(x) for x in (system.product.indptr, system.product.indices, system.product.weights)]
    groups = there(system.group_indptr), there(system.group_indices)
    centroids = there(system.centroids)
    scale, change = None, 0.0
    for number in range(steps):
        sums = group_sums(vectors, *groups, scale=scale)
        if len(system.centroids):
            sums = torch.cat([sums, centroids])
        squares = torch.zeros(len(base), dtype=torch.float64, device=vectors.device)
        fresh = retrofit_step(vectors, *product, **arrays, sums=sums, scale=scale, squares=squares)
        check_finite(squares.cpu().numpy(), number)
        unit = torch.where(squares > 0, squares.rsqrt(), 0.0).float() if is_series else None
        if number == steps - 1:
            change = _largest_move(vectors, scale, fresh, unit)
        vectors, scale = fresh, unit
        advance(1)
    if scale is not None:
        vectors = vectors * scale[:, None]
    return Solved(np.ascontiguousarray(vectors.cpu().numpy()), steps, change)


def check_device(device: str, iterations: object) -> None:
    """ValueError where nothing can be computed on the device; ImportError that names the extra."""
    kind = device.partition(":")[0]
    if kind != "cuda":
        raise ValueError(f"retrofit: device must be None or 'cpu', or 'cuda' or 'cuda:N', got {device!r}")
    if iterations == "exact":
        raise ValueError("retrofit: iterations='exact' is computed on the CPU; leave out device")
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"a GPU is an extra: pip install 'longspan[cuda]' ({error})") from error
    if not torch.cuda.is_available():
        raise ValueError(f"retrofit: device is {device!r}, but torch {torch.__version__} finds no CUDA device")


def _largest_move(old: Tensor, old_scale: Tensor | None, new: Tensor, new_scale: Tensor | None) -> float:
    torch, most = sys.modules["torch"], 0.0
    for start in range(0, len(new), 1 << 16):
        part = slice(start, start + (1 << 16))
        before = old[part] if old_scale is None else old[part] * old_scale[part, None]
        after = new[part] if new_scale is None else new[part] * new_scale[part, None]
        most = max(most, float(torch.linalg.vector_norm(after - before, dim=1).max()))
    return most
