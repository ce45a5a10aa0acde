"""Sound tracks of media files, by PyAV: of videos, and of sound files that libsndfile does not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from longspan.audio.containers import SOUND_CODECS, codec_name, opened, stream_seconds
from longspan.audio.recording import Recording
from longspan.audio.samples import mono

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.container import InputContainer

# FFmpeg's names of samples' types, without the "p" of those that lie channel by channel.
KINDS: Final = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32, "dbl": np.float64}


@contextmanager
def sound_track(source: Path | bytes | BinaryIO, name: str, what: str) -> Iterator[Recording | None]:
    """The first sound track of a media file; None if it has none. Raises: as `opened`, also while it is read."""
    with opened(source, name, what) as container:
        yield _recording(container, name)


def _recording(container: InputContainer, name: str) -> Recording | None:
    track = next(iter(container.streams.audio), None)
    if track is None:
        return None
    codec = codec_name(track)
    if codec not in SOUND_CODECS:
        raise ValueError(f"{name} has a sound track of {codec!r}, which is not read here")
    frames = container.decode(track)
    first = next(frames, None)
    if first is None:
        return None
    blocks = _blocks(chain([first], frames), first.sample_rate, name)
    return Recording(name, first.sample_rate, blocks, len(first.layout.channels), stream_seconds(track))


def _blocks(frames: Iterator[AudioFrame], rate: int, name: str) -> Iterator[np.ndarray]:
    for frame in frames:
        if frame.sample_rate != rate:
            raise ValueError(f"{name} has a sound track that goes on at another rate, {frame.sample_rate} after {rate}")
        if frame.samples:
            yield mono(_channels(frame, name))


def _channels(frame: AudioFrame, name: str) -> np.ndarray:
    """(channels, samples) of what type FFmpeg made."""
    if frame.format.name.removesuffix("p") not in KINDS:
        raise ValueError(f"{name} has a sound track with samples of {frame.format.name!r}, which are not read here")
    found = frame.to_ndarray()  # planar: a row a channel; else one row, channels side by side
    return found if frame.format.is_planar else found.reshape(-1, len(frame.layout.channels)).T
