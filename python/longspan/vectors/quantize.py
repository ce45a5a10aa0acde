"""Embeddings in fewer bits, by the rules of sentence-transformers' `quantize_embeddings`, to the bit."""

from __future__ import annotations

from typing import Final, Literal, get_args, overload

import numpy as np

from longspan.errors import warn_caller
from longspan.vectors.arrays import FloatArray, HalfArray, SignedArray, UnsignedArray, VectorArray

Precision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)

FEW_EMBEDDINGS: Final = 100  # ranges taken from fewer than these are poor ones


@overload
def quantize_embeddings(
    embeddings: np.ndarray,
    precision: Literal["float32"],
    *,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
) -> FloatArray: ...


@overload
def quantize_embeddings(
    embeddings: np.ndarray,
    precision: Literal["float16"],
    *,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
) -> HalfArray: ...


@overload
def quantize_embeddings(
    embeddings: np.ndarray,
    precision: Literal["int8", "binary"],
    *,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
) -> SignedArray: ...


@overload
def quantize_embeddings(
    embeddings: np.ndarray,
    precision: Literal["uint8", "ubinary"],
    *,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
) -> UnsignedArray: ...


@overload
def quantize_embeddings(
    embeddings: np.ndarray,
    precision: Precision,
    *,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
) -> VectorArray: ...


def quantize_embeddings(
    embeddings: np.ndarray,
    precision: Precision,
    *,
    ranges: np.ndarray | None = None,
    calibration_embeddings: np.ndarray | None = None,
) -> VectorArray:
    """`embeddings` in `precision`.

    float32, float16: the nearest value.
    uint8: floor((x - low) / ((high - low) / 255)), clipped to 0 .. 255, where low and high are the dimension's range;
        a range without width counts as 255 wide, so that a constant dimension becomes 0. int8: the same minus 128.
    ubinary: one bit a dimension, set where x > 0, most significant bit first; the last byte is filled up with zeros.
        binary: the same bytes minus 128, as int8.

    Args:
        embeddings: (n, dim) or (dim,) of floats, finite.
        precision: "float32", "float16", "int8", "uint8", "binary" or "ubinary".
        ranges: (2, dim), the least and the greatest value of each dimension, for int8 and uint8.
        calibration_embeddings: (m, dim), at least one, to take the ranges from where `ranges` is None. Where both are,
            `embeddings` themselves serve, if there are two at least.
    Returns: (n, dim) of the precision, (n, ceil(dim / 8)) int8 | uint8 for the binary two; one axis if one was given.
    Raises: TypeError, no array of floats; ValueError, an argument breaks a line above, or float16 overflows.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    embeddings = _checked("embeddings", embeddings, (1, 2))
    if precision in ("float32", "float16"):
        return _rounded(embeddings, precision)
    if precision in ("binary", "ubinary"):
        codes = np.packbits(embeddings > 0, axis=-1)
        return codes if precision == "ubinary" else _minus_128(codes)
    if len(embeddings) == 0:
        return np.zeros(embeddings.shape, precision)
    levels = _levels(embeddings, _ranges(embeddings, precision, ranges, calibration_embeddings))
    return levels if precision == "uint8" else _minus_128(levels)


def _rounded(embeddings: np.ndarray, precision: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = embeddings.astype(precision)
    if not np.isfinite(rounded).all():
        limit = np.finfo(precision).max
        raise ValueError(
            f"embeddings must lie within +-{limit:g} for {precision}, got {np.abs(embeddings).max():g}; normalise them"
        )
    return rounded


def _minus_128(codes: np.ndarray) -> np.ndarray:
    """uint8 to int8, each less 128: modulo 256 that is the top bit turned over."""
    signed: np.ndarray = (codes ^ np.uint8(128)).view(np.int8)
    return signed


def _ranges(
    embeddings: np.ndarray, precision: str, ranges: np.ndarray | None, calibration_embeddings: np.ndarray | None
) -> np.ndarray:
    """(2, dim) float32, the first of: what was given, the calibration's, the embeddings' own."""
    dim = embeddings.shape[-1]
    if ranges is not None:
        ranges = _checked("ranges", ranges, (2,), dim)
        if len(ranges) != 2 or (ranges[1] < ranges[0]).any():
            raise ValueError(f"ranges must be (2, {dim}), least values first, got {ranges.shape} or a range that falls")
        return ranges.astype(np.float32)
    if calibration_embeddings is not None:
        sample = _checked("calibration_embeddings", calibration_embeddings, (2,), dim)
        if not len(sample):
            raise ValueError("calibration_embeddings must have at least one row, got none")
    elif embeddings.ndim == 1 or len(embeddings) == 1:
        raise ValueError(f"{precision} cannot take ranges from one embedding; give ranges or calibration_embeddings")
    else:
        sample = embeddings
        if len(sample) < FEW_EMBEDDINGS:
            warn_caller(
                f"{precision} ranges come from {len(sample)} embeddings only, and other calls will have others; "
                f"give ranges or calibration_embeddings"
            )
    return np.stack([sample.min(axis=0), sample.max(axis=0)]).astype(np.float32)


def _levels(embeddings: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """(n, dim) uint8: in which of its range's 255 steps each value lies."""
    low, high = ranges
    with np.errstate(over="ignore"):  # a quotient beyond all floats is clipped like any other
        steps = (high - low) / 255
        steps = np.where(steps == 0, 1, steps)
        if not np.isfinite(steps).all():
            raise ValueError(f"ranges must each span at most {np.finfo(np.float32).max:g}; normalise the embeddings")
        levels: np.ndarray = np.clip(np.floor((embeddings - low) / steps), 0, 255).astype(np.uint8)
    return levels


def _checked(name: str, array: np.ndarray, ndims: tuple[int, ...], dim: int | None = None) -> np.ndarray:
    """`array` if it holds finite floats and has one of `ndims` axes, the last of them `dim` long."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{name} must be a NumPy array of floats, got {got}")
    array = np.asarray(array)  # of a masked array the values, of a memory map the array
    if array.ndim not in ndims or (dim is not None and array.shape[-1] != dim):
        raise ValueError(f"{name} must be (rows, {'dim' if dim is None else dim}), got {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(axis[0]) for axis in np.nonzero(~finite))
        raise ValueError(f"{name} must be finite, got {array[where]} at {list(where)}")
    return array
