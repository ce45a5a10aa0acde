"""How a stream of vectors gets its precision; int8 and uint8 need every vector's range before the first code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from longspan.cli.console.failures import CommandError
from longspan.cli.files.stage import Block

if TYPE_CHECKING:
    from longspan.vectors.quantize import Precision

Ranges = npt.NDArray[np.float32]  # (2, dim): smallest and largest value of each dimension


def needs_ranges(precision: Precision) -> bool:
    """Whether the codes depend on more than the row at hand."""
    return precision in ("int8", "uint8")


def ranges_of(blocks: Iterable[Block]) -> Ranges | None:
    """The ranges over all rows; None where there is no row."""
    low: npt.NDArray[np.float32] | None = None
    high: npt.NDArray[np.float32] | None = None
    for _, vectors, _ in blocks:
        if len(vectors):
            low = vectors.min(axis=0) if low is None else np.minimum(low, vectors.min(axis=0))
            high = vectors.max(axis=0) if high is None else np.maximum(high, vectors.max(axis=0))
    return None if low is None or high is None else np.stack([low, high])


def calibration_ranges(path: str, dim: int) -> Ranges:
    """The ranges over the vectors of a .npy file.

    Raises: CommandError, not a .npy file of floats, (n, dim), n at least 1.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CommandError(f"--calibration: {path} is not a .npy file of vectors: {error}") from error
    if not isinstance(vectors, np.ndarray) or vectors.dtype.kind != "f" or vectors.ndim != 2 or not len(vectors):
        raise CommandError(f"--calibration: {path} must hold a float array (n, {dim}) with n at least 1")
    if vectors.shape[1] != dim:
        raise CommandError(
            f"--calibration: {path} has vectors of {vectors.shape[1]} dimensions, but the run's have {dim}"
        )
    return np.stack([vectors.min(axis=0), vectors.max(axis=0)]).astype(np.float32)
