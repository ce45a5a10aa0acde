"""Names for arrays by what they hold, so that a type checker can tell them; any number of axes."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

FloatArray: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"
HalfArray: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float16]]"
SignedArray: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.int8]]"
IntArray: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"
Int32Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.int32]]"
UnsignedArray: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
# What `encode` may give, by its precision.
VectorArray: TypeAlias = "FloatArray | HalfArray | SignedArray | UnsignedArray"
