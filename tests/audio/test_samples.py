"""Samples in memory: channels, types, numbers that are none."""

from __future__ import annotations

import numpy as np
import pytest

from longspan.audio.samples import check_samples, mono


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_integers_are_scaled(kind: str) -> None:
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    middle = 0 if low < 0 else (high + 1) // 2
    found = mono(np.array([low, middle, high], kind))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [-1.0, 0.0, 1.0], rtol=0, atol=1 / 127)
    assert found[0] == -1 and found[1] == 0


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_stay(kind: str) -> None:
    given = np.array([-0.5, 0.25, 1.5], kind)
    np.testing.assert_array_equal(mono(given), given.astype(np.float32))
    assert not np.shares_memory(mono(given), given)


def test_channels_are_averaged() -> None:
    np.testing.assert_array_equal(mono(np.array([[0.5, -1.0, 0.25], [0.0, 0.5, 0.25]])), [0.25, -0.25, 0.25])
    np.testing.assert_array_equal(mono(np.array([[0, 16384], [16384, 16384]], np.int16)), [0.25, 0.5])


def test_what_is_no_number_is_silent() -> None:
    given = np.array([np.nan, np.inf, -np.inf, 0.5], np.float32)
    np.testing.assert_array_equal(mono(given), [0, 0, 0, 0.5])
    assert np.isnan(given[0])  # the caller's are as they were
    np.testing.assert_array_equal(mono(np.array([[np.nan, 1.0], [0.5, 0.0]])), [0, 0.5])
    np.testing.assert_array_equal(mono(np.array([1e300, 0.5])), [0, 0.5])  # beyond float32


@pytest.mark.parametrize(
    "samples, message",
    [
        (np.zeros((2, 3, 4)), r"it must be \(samples,\) or \(channels, samples\) with at least one, got \(2, 3, 4\)"),
        (np.float32(1), r"with at least one, got \(\)"),
        (np.zeros(0), r"with at least one, got \(0,\)"),
        (np.zeros((0, 9)), r"with at least one, got \(0, 9\)"),
        (np.zeros((16000, 2)), r"with at most 64 channels, got \(16000, 2\); turn it, array.T"),
        (np.zeros((3, 2)), r"got \(3, 2\); turn it"),
        (np.zeros((65, 16000)), r"with at most 64 channels, got \(65, 16000\)$"),
        (np.zeros(9, np.int64), "it must have samples of floats, or of integers of 8, 16 or 32 bits, got int64"),
        (np.zeros(9, bool), "got bool"),
        (np.array(["a"]), "got <U1"),
        (np.zeros(9, complex), "got complex128"),
    ],
)
def test_refusals(samples: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_samples(np.asarray(samples), "it")
