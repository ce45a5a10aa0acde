"""Log-mel energies as Whisper's feature extractor makes them.

The transform is float64, which costs no time that the encoder behind it would notice; what is left to the exact value
is float32's rounding of the result, 2e-7. The published extractor, float32 throughout, is up to 4e-5 away from both:
beside a loud band it loses the last digits of a quiet one.
Source: arXiv:2212.04356; the filters are Slaney's (Auditory Toolbox, 1998).
"""

from __future__ import annotations

import functools

import numpy as np

from longspan.models.audio_spec import MelSpec

FRAMES_AT_ONCE = 256  # 0.8 MB of windows: they stay in a core's cache
FLOOR = 1e-10  # of an energy, before its logarithm
RANGE = 8.0  # tenfolds below the loudest energy of the sound that are told apart


def log_mel(samples: np.ndarray, spec: MelSpec) -> np.ndarray:
    """The energies of a sound, (frames, num_mels) f32, `spec.num_frames(len(samples))` frames.

    E[t, m] = sum over k of F[k, m] |sum over n of w[n] x[t hop + n - window / 2] exp(-2 pi i k n / window)|^2, with x
    zero up to `most_samples` and mirrored at both ends, w[n] = 0.5 - 0.5 cos(2 pi n / window);
    L = log10(max(E, 1e-10)); result = (max(L, max of all L - 8) + 4) / 4.

    Args:
        samples: (n,) f32 at `spec.rate`, finite, at least one and at most `spec.most_samples`.
    """
    frames = spec.num_frames(len(samples))
    # Behind the last frame that is read some still hear its end; all later ones are silent, and none is the loudest.
    heard = min(spec.most_frames, max(frames, -(-(len(samples) + spec.window // 2) // spec.hop)))
    windows = _windows(samples, heard, spec)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.window) / spec.window)
    filters = mel_filters(spec.rate, spec.window, spec.num_mels).astype(np.float32)
    energies = np.empty((heard, spec.num_mels), np.float32)
    for start in range(0, heard, FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        spectrum = np.fft.rfft(windows[part] * window, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        np.matmul(power.astype(np.float32), filters, out=energies[part])
    levels = np.log10(np.maximum(energies, np.float32(FLOOR)))
    loudest = levels.max(initial=np.log10(FLOOR))
    return (np.maximum(levels[:frames], np.float32(loudest - RANGE)) + np.float32(4)) / np.float32(4)


def _windows(samples: np.ndarray, count: int, spec: MelSpec) -> np.ndarray:
    """(count, window): what each frame looks at, a view."""
    half = spec.window // 2
    end = (count - 1) * spec.hop + half  # of what the last one looks at
    sound = np.zeros(min(spec.most_samples, max(end, half + 1)))
    sound[: len(samples)] = samples
    mirrored = np.pad(sound, (half, max(0, end - len(sound))), mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(mirrored, spec.window)[:: spec.hop][:count]


@functools.lru_cache(maxsize=8)
def mel_filters(rate: int, window: int, num_mels: int) -> np.ndarray:
    """(window / 2 + 1, num_mels) f64: triangles over the bins of a spectrum, each of area 1 in hertz; read only.

    Their corners lie evenly in mel from 0 to rate / 2, each triangle from the corner before its peak to the one behind.
    """
    corners = _hertz(np.linspace(0.0, _mel(rate / 2), num_mels + 2))
    bins = np.linspace(0.0, rate / 2, window // 2 + 1)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    triangles = np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak))
    filters = np.maximum(0.0, triangles) * 2 / (high - low)
    filters.setflags(write=False)
    return filters


# Slaney's scale: linear up to 1000 Hz, which are 15 mel, and then 27 mel for each factor of 6.4.
def _mel(hertz: float) -> float:
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * float(np.log(hertz / 1000) / np.log(6.4))


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(np.log(6.4) * (mel - 15) / 27))
