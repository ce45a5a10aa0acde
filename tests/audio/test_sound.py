"""Sounds in every form that is taken, to one mel; and what is refused."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longspan.audio.sound import SoundReader, is_sound
from longspan.models.audio_spec import MelSpec
from media_files import sound_file, tone

READER = SoundReader(MelSpec())


class Samples:
    """What torchcodec's AudioDecoder gives."""

    data = np.stack([tone(0.5, 22050), tone(0.5, 22050)])
    sample_rate = 22050


class Tensor:
    """What an array of torch can do."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.asarray(self._array, dtype)  # type: ignore[call-overload]


def test_forms_in_memory() -> None:
    samples = tone(0.5, 16000)
    truth = READER.read(samples).values
    assert truth.shape == (50, 128)
    for given in (
        {"array": samples, "sampling_rate": 16000},
        {"array": samples.tolist(), "sampling_rate": 16000, "path": "a.wav"},
        {"array": np.stack([samples, samples]), "sampling_rate": np.int64(16000)},
        {"array": Tensor(samples), "sampling_rate": 16000},
        (samples, 16000),
        samples.astype(np.float64),
        samples.tolist(),
        Tensor(samples),
    ):
        np.testing.assert_array_equal(READER.read(given).values, truth)


def test_forms_of_files(tmp_path: Path) -> None:
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    pytest.importorskip("soxr", reason="soxr is not installed")
    data = sound_file(tone(0.5, 22050), 22050, "WAV", "FLOAT")
    truth = READER.read({"array": tone(0.5, 22050), "sampling_rate": 22050}).values
    path = tmp_path / "sound.wav"
    path.write_bytes(data)
    decoder = type("AudioDecoder", (), {"get_all_samples": lambda self: Samples()})()
    for given in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), decoder, {"path": path}):
        np.testing.assert_array_equal(READER.read(given).values, truth)
    for stored in ({"bytes": data, "path": "a.wav"}, {"bytes": None, "path": str(path)}):
        np.testing.assert_array_equal(READER.read(stored).values, truth)
    with path.open("rb") as file:
        file.seek(100)
        np.testing.assert_array_equal(READER.read(file).values, truth)


def test_is_sound() -> None:
    samples = tone(0.1, 16000)
    yes = (samples, samples[None], (samples * 99).astype(np.int16), {"array": samples, "sampling_rate": 16000})
    assert all(map(is_sound, yes))
    no = (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.uint8), {"array": samples}, "a.wav", b"RIFF", None, [0.1])
    assert not any(map(is_sound, no))


def test_short_sounds() -> None:
    with pytest.raises(
        ValueError, match="it must have at least 321 samples at 16000 a second, that a token takes, got 320"
    ):
        READER.read(np.zeros(320, np.float32), "it")
    assert READER.read(np.zeros(321, np.float32)).values.shape == (3, 128)
    sound = tone(0.01, 16000)
    padded = SoundReader(MelSpec(), short="pad").read(sound)
    np.testing.assert_array_equal(padded.values, READER.read(np.pad(sound, (0, 321 - len(sound)))).values)
    assert SoundReader(replace(MelSpec(), padded=True)).read(sound).values.shape == (3000, 128)
    for given in (np.zeros(0, np.float32), np.zeros((2, 0), np.float32)):
        with pytest.raises(ValueError, match="with at least one, got"):
            SoundReader(MelSpec(), short="pad").read(given)


@pytest.mark.parametrize(
    "given, error, message",
    [
        (None, TypeError, "it must be a sound: an array of samples, a dict .* got NoneType"),
        (5, TypeError, "got int"),
        (
            {"array": [0.0]},
            ValueError,
            r'it must have "array" and "sampling_rate", or "bytes" or "path", got the keys \[\'array\'\]',
        ),
        ({}, ValueError, r"got the keys \[\]"),
        ({"bytes": None, "path": None}, ValueError, r"got the keys \['bytes', 'path'\]"),
        ({"bytes": b"", "path": None}, ValueError, r"it cannot be decoded as a sound file: it is empty"),
        (
            {"array": [0.0], "sampling_rate": "16000"},
            TypeError,
            "it must have a sampling rate that is a number, got str",
        ),
        ({"array": [0.0], "sampling_rate": True}, TypeError, "got bool"),
        ({"array": [0.0], "sampling_rate": 0}, ValueError, "it must have a sampling rate from 1000 to 768000, got 0"),
        ({"array": [[0.0], [0.0, 0.0]], "sampling_rate": 16000}, ValueError, "it must have samples that are numbers"),
        ({"array": ["a"], "sampling_rate": 16000}, ValueError, "it must have samples that are numbers"),
        ({"array": None, "sampling_rate": 16000}, ValueError, "it must have samples of floats, or .* got object"),
    ],
)
def test_refusals(given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        READER.read(given, "it")


def test_without_soxr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    READER.read({"array": tone(0.5, 16000), "sampling_rate": 16000})
    with pytest.raises(ImportError, match=r"needs soxr .*pip install 'longspan\[audio\]'"):
        READER.read({"array": tone(0.5, 8000), "sampling_rate": 8000})


def test_a_sound_is_the_same_in_any_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"array": tone(1, 44100), "sampling_rate": 44100}
    whole = READER.read(given).values
    monkeypatch.setattr("longspan.audio.sound.ARRAY_BLOCK", 777)
    np.testing.assert_array_equal(READER.read(given).values, whole)
