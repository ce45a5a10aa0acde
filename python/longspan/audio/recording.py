"""A sound of any length, block by block, and the part of it that a model hears."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from longspan.audio.allowance import Allowance
from longspan.models.audio_spec import MelSpec

RATES: Final = (1_000, 768_000)  # samples a second
MAX_HOURS: Final = 24  # of one sound; damaged files claim more
NEEDS_SOXR: Final = "sound at another rate than the model's needs soxr ({error}); pip install 'longspan[audio]'"


@dataclass(frozen=True, slots=True)
class Recording:
    """`blocks` are mono f32, finite, at `rate` samples a second, which need not be whole; messages call it `name`."""

    name: str
    rate: float
    blocks: Iterable[np.ndarray]
    channels: int = 1  # of which the blocks are the mean
    claimed_seconds: float | None = None  # by the file's header, which may lie; None: it says nothing


def heard(recording: Recording, spec: MelSpec, allowance: Allowance | None = None) -> tuple[np.ndarray, int]:
    """What the model hears: (n,) f32 at its rate, at most `spec.most_samples`; and how many samples are behind that.

    The rate is changed by soxr at its "HQ" setting, to ceil(samples * new / old) samples. If any sample, also of what
    is cut off, lies outside -1 to 1, all are divided by the largest. Memory does not grow with the length.

    Raises: ValueError, the rate lies outside RATES, there is no sample, or more than MAX_HOURS; MediaLimitError, there
        is more than what is allowed; ImportError, the rate must change and soxr is not installed; and as the blocks.
    """
    name, rate = recording.name, recording.rate
    check_rate(rate, name)
    if allowance is not None and recording.claimed_seconds is not None:
        allowance.expect_sound(name, recording.claimed_seconds, rate * recording.channels)
    blocks = _counted(recording, allowance)
    kept: list[np.ndarray] = []
    most, count, peak = spec.most_samples, 0, 0.0
    for block in blocks if rate == spec.rate else _resampled(blocks, rate, spec.rate):
        if count < most:
            kept.append(block[: most - count].copy())
        count += len(block)
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
    if not count:
        raise ValueError(f"{name} must have at least one sample, got none")
    samples = np.concatenate(kept)
    return samples / np.float32(peak) if peak > 1 else samples, count - len(samples)


def check_rate(rate: object, name: str) -> None:
    """TypeError or ValueError unless it is a number of samples a second that sounds have."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must have a sampling rate that is a number, got {type(rate).__name__}")
    low, high = RATES
    if not low <= rate <= high:
        raise ValueError(f"{name} must have a sampling rate from {low} to {high}, got {rate}")


def _counted(recording: Recording, allowance: Allowance | None) -> Iterator[np.ndarray]:
    name, rate = recording.name, recording.rate
    most = int(MAX_HOURS * 3600 * rate)
    count = 0
    for block in recording.blocks:
        if allowance is not None:
            allowance.take_sound(name, len(block) / rate, rate * recording.channels)
        count += len(block)
        if count > most:
            raise ValueError(f"{name} must have at most {MAX_HOURS} hours of sound; cut it into pieces")
        yield block


def _resampled(blocks: Iterable[np.ndarray], rate: float, to: int) -> Iterator[np.ndarray]:
    try:
        import soxr
    except ImportError as error:
        raise ImportError(NEEDS_SOXR.format(error=error)) from error
    stream = soxr.ResampleStream(rate, to, 1, dtype="float32", quality="HQ")
    given = made = 0
    for block in blocks:
        given += len(block)
        found = _finite(stream.resample_chunk(np.ascontiguousarray(block)))
        made += len(found)
        yield found
    found = _finite(stream.resample_chunk(np.empty(0, np.float32), last=True))
    missing = (
        math.ceil(Fraction(given) * to / Fraction(rate)) - made
    )  # soxr rounds to the nearest, the last may be less
    yield np.pad(found[:missing], (0, max(0, missing - len(found)))) if missing > 0 else found[:0]


def _finite(samples: np.ndarray) -> np.ndarray:
    """Of samples near float32's largest the filter makes infinities."""
    return np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
