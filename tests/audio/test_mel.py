"""Log-mel energies, against the goldens' features, the same sums in float64, and a transform written out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longspan.audio.mel import log_mel, mel_filters
from longspan.audio.sound import SoundReader
from longspan.models.audio_spec import MelSpec

MODELS = ("jina-v5-omni-small", "jina-v5-omni-nano")
# The goldens' extractor is float32 throughout: beside loud bands quiet ones lose their last digits there. It is up to
# 4.2e-5 from exact sums (the goldens' NOTES), and so it is from ours.
LIMIT = 5e-5
EXACT = 5e-7  # two units of a logarithm near -10 in float32, a quarter of each


@pytest.mark.parametrize("model", MODELS)
def test_mel_of_the_goldens(model: str, golden: Path) -> None:
    expected = np.load(golden / model / "expected.npz")
    names = [name for name in expected.files if name.startswith("mel/")]
    assert len(names) == 9
    for name in names:
        wave = expected["wave/" + name.removeprefix("mel/").removesuffix("+30s")]
        found = SoundReader(MelSpec(padded=name.endswith("+30s"))).read({"array": wave, "sampling_rate": 16000})
        assert found.values.dtype == np.float32 and found.values.flags.c_contiguous
        np.testing.assert_allclose(found.values, expected[name].T, rtol=0, atol=LIMIT, err_msg=name)
        assert found.cut_samples == max(0, len(wave) - 480_000)


def exact(samples: np.ndarray, padded: bool) -> np.ndarray:
    """The definition, in float64, all 3000 frames at once."""
    sound = np.pad(samples[:480_000].astype(np.float64), (0, 480_000 - len(samples[:480_000])))
    sound = np.pad(sound, 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([sound[160 * place : 160 * place + 400] for place in range(3000)]) * window
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    levels = np.log10(np.maximum(power @ mel_filters(16000, 400, 128), 1e-10))
    levels = (np.maximum(levels, levels.max() - 8) + 4) / 4
    return levels if padded else levels[: min(3000, -(-len(samples) // 160))]


@pytest.mark.parametrize("count", [1, 161, 200, 321, 479_801, 480_000])
@pytest.mark.parametrize("kind", ["noise", "silence", "click at the end", "quiet beside loud"])
def test_mel_is_the_definitions(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    samples = np.zeros(count, np.float32)
    if kind == "noise":
        samples[:] = rng.normal(size=count) * 0.1
    elif kind == "click at the end":
        samples[-1] = 1.0
    elif kind == "quiet beside loud":
        samples[:] = np.sin(np.arange(count) * 0.5) + 1e-4 * np.sin(np.arange(count) * 2.5)
    for padded in (False, True) if count == 321 else (False,):
        found = log_mel(samples, MelSpec(padded=padded))
        np.testing.assert_allclose(found, exact(samples, padded), rtol=0, atol=EXACT)


def test_filters() -> None:
    """Area 1 in hertz, over no more than two neighbours a bin; the first ones by hand."""
    filters = mel_filters(16000, 400, 128)
    assert filters.shape == (201, 128) and (np.count_nonzero(filters, axis=1) <= 2).all()
    wide = filters[:, 60:]
    np.testing.assert_allclose(wide.sum(axis=0) * 40, 1, rtol=0.1)
    corners = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 130) * 200 / 3  # linear up to 1000 Hz
    assert corners[3] < 80 < corners[4]
    assert filters[2, 2] == pytest.approx((corners[4] - 80) / (corners[4] - corners[3]) * 2 / (corners[4] - corners[2]))


def test_fewer_mels() -> None:
    assert log_mel(np.ones(1600, np.float32), replace(MelSpec(), num_mels=80)).shape == (10, 80)
