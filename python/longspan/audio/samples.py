"""Samples in memory, as mono float32: channels averaged, integers scaled, what is no number silent."""

from __future__ import annotations

from typing import Final

import numpy as np

MAX_CHANNELS: Final = 64
INTEGERS: Final = ("uint8", "int8", "uint16", "int16", "int32", "uint32")


def check_samples(samples: np.ndarray, name: str) -> None:
    """ValueError unless it is (samples,) or (channels, samples), not empty, of floats or of integers up to 32 bits."""
    kind = samples.dtype
    if kind.kind != "f" and kind.name not in INTEGERS:
        raise ValueError(f"{name} must have samples of floats, or of integers of 8, 16 or 32 bits, got {kind}")
    if samples.ndim not in (1, 2) or 0 in samples.shape:
        raise ValueError(f"{name} must be (samples,) or (channels, samples) with at least one, got {samples.shape}")
    if samples.ndim == 2 and (samples.shape[0] > MAX_CHANNELS or samples.shape[0] > samples.shape[1] > 1):
        turned = "; turn it, array.T" if samples.shape[1] < samples.shape[0] else ""
        raise ValueError(
            f"{name} must be (samples,) or (channels, samples) with at most {MAX_CHANNELS} channels, "
            f"got {samples.shape}{turned}"
        )


def mono(samples: np.ndarray) -> np.ndarray:
    """(samples,) f32; NaN and infinities are 0.

    Args:
        samples: (samples,) or (channels, samples), as `check_samples` lets them pass; floats, full scale from -1 to 1,
            or integers, full scale from end to end of their type.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if samples.ndim == 2 and len(samples) > 1:
            found = _scaled(samples).mean(axis=0, dtype=np.float32)
        else:
            found = _scaled(samples if samples.ndim == 1 else samples[0])
        found = found.astype(np.float32)  # a copy, where it was that already: it is written into
    return np.nan_to_num(found, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def _scaled(samples: np.ndarray) -> np.ndarray:
    kind = samples.dtype
    if kind.kind == "f":
        return samples
    half = np.float32(2 ** (8 * kind.itemsize - 1))
    return (samples.astype(np.float32) - (half if kind.kind == "u" else np.float32(0))) / half
