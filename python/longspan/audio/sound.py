"""From a sound as users have it to what a model's audio tower reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast, runtime_checkable

import numpy as np

from longspan.audio.allowance import Allowance
from longspan.audio.files import opened_sound
from longspan.audio.mel import log_mel
from longspan.audio.recording import Recording, check_rate, heard
from longspan.audio.samples import check_samples, mono
from longspan.given_files import is_open_file, stored
from longspan.models.audio_spec import MelSpec
from longspan.packing.media import Mel

Short = Literal["refuse", "pad"]
ARRAY_BLOCK = 1 << 20  # samples of an array that are looked at together


@runtime_checkable
class Decoder(Protocol):
    """torchcodec's AudioDecoder."""

    def get_all_samples(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class SoundReader:
    """Sounds to log-mel energies by one model's settings.

    Attributes:
        mel: the model's settings.
        short: what becomes of a sound of fewer than `mel.least_frames` frames: "refuse", or "pad" with silence.
        allowance: what may be decoded, of all that is read; None: what the readers allow, which is 24 hours each.
    """

    mel: MelSpec
    short: Short = "refuse"
    allowance: Allowance | None = None

    def read(self, sound: object, name: str = "sound") -> Mel:
        """Decoded, made mono at the model's rate, cut to what it hears, and transformed.

        Args:
            sound: (samples,) or (channels, samples), floats of full scale 1 or integers of 8 to 32 bits, at the
                model's rate; {"array": such samples, "sampling_rate": rate}; (samples, rate); the path of a file; the
                contents of one; {"bytes": contents, "path": path}, one of them None; an open binary file; or
                torchcodec's AudioDecoder. NaN and infinities count as 0.
                A `Mel`, which was read before, is taken as it is.
            name: what the caller calls it, for messages.
        Raises: TypeError, it is nothing of that; ValueError, naming it, it is damaged, too short, or of a shape, type
            or rate that is not read; MediaLimitError; FileNotFoundError; ImportError, naming the extra that is needed.
        """
        if isinstance(sound, Mel):
            return sound
        with opened_input(sound, self.mel.rate, name) as recording:
            return self.of(recording)

    def of(self, recording: Recording) -> Mel:
        """As `read`, of a sound that is decoded already."""
        samples, cut = heard(recording, self.mel, self.allowance)
        least = (self.mel.least_frames - 1) * self.mel.hop + 1
        if self._is_short(samples):
            if self.short == "refuse":
                raise ValueError(
                    f"{recording.name} must have at least {least} samples at {self.mel.rate} a second, that a token "
                    f"takes, got {len(samples)}"
                )
            samples = np.pad(samples, (0, least - len(samples)))
        return Mel(log_mel(samples, self.mel), cut)

    def of_track(self, recording: Recording) -> Mel | None:
        """As `of`, of a video's track; None if it is too short."""
        samples, cut = heard(recording, self.mel, self.allowance)
        return None if self._is_short(samples) else Mel(log_mel(samples, self.mel), cut)

    def _is_short(self, samples: np.ndarray) -> bool:
        return self.mel.num_frames(len(samples)) < self.mel.least_frames


def is_sound(value: object) -> bool:
    """Whether it is a sound by its type: samples in one or two axes, with or without a rate, or a decoder of them.

    An array of bytes in two axes is no sound, but a grey image.
    """
    if isinstance(value, np.ndarray):
        return value.ndim in (1, 2) and value.dtype.kind in "fiu" and not (value.ndim == 2 and value.dtype == np.uint8)
    if isinstance(value, Mapping):
        return "array" in value and "sampling_rate" in value
    return isinstance(value, Decoder)


@contextmanager
def opened_input(sound: object, rate: int, name: str) -> Iterator[Recording]:
    """The sound, whatever form it has; samples without a rate have `rate`. Raises: as `SoundReader.read`."""
    if isinstance(sound, Mapping):
        file = stored(sound)
        sound = sound if file is None else file
    if isinstance(sound, Mapping):
        if "array" not in sound or "sampling_rate" not in sound:
            raise ValueError(
                f'{name} must have "array" and "sampling_rate", or "bytes" or "path", '
                f"got the keys {[*map(str, sound)][:8]}"
            )
        yield _in_memory(sound["array"], sound["sampling_rate"], name)
    elif isinstance(sound, tuple) and len(sound) == 2:
        yield _in_memory(sound[0], sound[1], name)
    elif isinstance(sound, (str, os.PathLike)):
        path = Path(sound)
        with opened_sound(path, name if name == str(sound) else f"{name}: {path}") as recording:
            yield recording
    elif isinstance(sound, (bytes, bytearray, memoryview)):
        with opened_sound(bytes(sound), name) as recording:
            yield recording
    elif isinstance(sound, Decoder):
        samples = sound.get_all_samples()
        yield _in_memory(samples.data, samples.sample_rate, name)
    elif is_open_file(sound):
        with opened_sound(cast(BinaryIO, sound), name) as recording:
            yield recording
    elif hasattr(sound, "__array__") or isinstance(sound, list):
        yield _in_memory(sound, rate, name)
    else:
        raise TypeError(
            f"{name} must be a sound: an array of samples, a dict of 'array' and 'sampling_rate', a path, a file's "
            f"bytes or an open file, got {type(sound).__name__}"
        )


def _in_memory(samples: Any, rate: object, name: str) -> Recording:
    """Of samples in memory, arrays of torch too, or a list of numbers."""
    check_rate(rate, name)
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
    try:
        array = np.asarray(samples, np.float32 if isinstance(samples, list) else None)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must have samples that are numbers, in rows of one length: {error}") from error
    check_samples(array, name)
    starts = range(0, array.shape[-1], ARRAY_BLOCK)
    blocks = (mono(array[..., start : start + ARRAY_BLOCK]) for start in starts)
    return Recording(name, float(cast(float, rate)), blocks)
