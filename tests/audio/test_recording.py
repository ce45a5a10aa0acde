"""Sounds of any length to what a model hears: rate, peak, cut, count, without holding the sound."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from longspan.audio import recording
from longspan.audio.recording import Recording, heard
from longspan.models.audio_spec import MelSpec
from media_files import tone

soxr = pytest.importorskip("soxr", reason="soxr is not installed")

MEL = MelSpec()


def in_blocks(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


@pytest.mark.parametrize("size", [1, 999, 4096, 10**6])
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_the_rate_is_soxrs(rate: int, size: int) -> None:
    """In any blocks, the bits of one call of soxr's; what it leaves out at the end is a sample of silence."""
    given = np.random.default_rng(rate).uniform(-0.5, 0.5, 5001).astype(np.float32)
    found, cut = heard(Recording("it", rate, in_blocks(given, size)), MEL)
    truth = soxr.resample(given, rate, 16000)
    assert len(found) == -(-5001 * 16000 // rate) and cut == 0 and found.dtype == np.float32
    np.testing.assert_array_equal(found[: len(truth)], truth)
    np.testing.assert_array_equal(found[len(truth) :], 0)


def test_a_tone_stays_a_tone() -> None:
    found, _ = heard(Recording("it", 44100, [tone(1, 44100)]), MEL)
    assert np.abs(found - tone(1, 16000))[200:-200].max() < 1e-4


def test_the_peak_of_all_and_what_is_cut() -> None:
    given = np.full(MEL.most_samples + 7, 0.5, np.float32)
    found, cut = heard(Recording("it", 16000, in_blocks(given, 1000)), MEL)
    assert cut == 7 and len(found) == MEL.most_samples and (found == 0.5).all()
    given[-1] = -2.0  # behind what is heard: the peak is the whole sound's
    found, cut = heard(Recording("it", 16000, in_blocks(given, 1000)), MEL)
    assert cut == 7 and (found == 0.25).all()
    given[-1] = 1.0  # full scale is no peak over it
    assert (heard(Recording("it", 16000, [given]), MEL)[0] == 0.5).all()


def test_what_overflows_in_the_filter_is_silent() -> None:
    given = np.full(4000, 3e38, np.float32) * np.tile([1, -1], 2000).astype(np.float32)
    found, _ = heard(Recording("it", 44100, [given]), MEL)
    assert np.isfinite(found).all() and np.abs(found).max() <= 1


def test_a_long_sound_is_not_held() -> None:
    """An hour at 48 kHz, made as it is read: 690 MB of samples."""
    block = tone(10, 48000)
    tracemalloc.start()
    found, cut = heard(Recording("it", 48000, (block for _ in range(360))), MEL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 480_000 and cut == 3600 * 16000 - 480_000
    assert peak < 30e6


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    for rate in (0, 999, -16000, 1e6, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="it must have a sampling rate from 1000 to 768000, got"):
            heard(Recording("it", rate, [np.zeros(9, np.float32)]), MEL)
    with pytest.raises(TypeError, match="it must have a sampling rate that is a number, got str"):
        heard(Recording("it", "16000", []), MEL)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it must have at least one sample, got none"):
        heard(Recording("it", 16000, []), MEL)
    monkeypatch.setattr(recording, "MAX_HOURS", 1)
    with pytest.raises(ValueError, match="it must have at most 1 hours of sound"):
        heard(Recording("it", 1000, [np.zeros(3_600_001, np.float32)]), MEL)
