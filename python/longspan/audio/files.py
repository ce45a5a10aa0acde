"""Sound files, by libsndfile (soundfile), and what that does not read by PyAV."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from longspan.audio.containers import said
from longspan.audio.recording import Recording, check_rate
from longspan.audio.samples import MAX_CHANNELS, mono
from longspan.audio.tracks import sound_track

if TYPE_CHECKING:
    from soundfile import SoundFile

BLOCK_SAMPLES: Final = 1 << 18  # of all channels, that are decoded at once
# How files begin that are given to libsndfile; it knows others, which nobody has.
STARTS: Final = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"caff")
NEEDS_SOUNDFILE: Final = "sound files need soundfile ({error}); pip install 'longspan[audio]'"


@contextmanager
def opened_sound(source: Path | bytes | BinaryIO, name: str) -> Iterator[Recording]:
    """The sound in a file, of all channels together.

    WAV, FLAC, Ogg (Vorbis, Opus, FLAC), MP3, AIFF, AU, CAF and W64 are read by soundfile; all else that `sound_track`
    reads (M4A, AAC, WMA, the tracks of videos) by PyAV, if that is installed.

    Raises: ValueError, naming it, it is damaged, has no sound, too many channels or an odd rate, also while it is read;
        FileNotFoundError; ImportError.
    """
    if isinstance(source, Path) and not source.is_file():
        raise FileNotFoundError(f"{name}: {source} is missing, or is not a file")
    start = _start(source)
    if not start:
        raise ValueError(f"{name} cannot be decoded: it is empty")
    if start.startswith(STARTS) or _is_mp3(start):
        with _by_soundfile(source, name) as recording:
            yield recording
        return
    with sound_track(source, name, f"{name}, which soundfile does not read,") as track:
        if track is None:
            raise ValueError(f"{name} has no sound track")
        yield track


def _start(source: Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source[:16]
    if isinstance(source, Path):
        with open(source, "rb") as file:
            return file.read(16)
    source.seek(0)
    found = source.read(16)
    source.seek(0)
    return found


def _is_mp3(start: bytes) -> bool:
    """Whether a frame of MPEG audio of layer 3 begins here; AAC's frames begin alike, but say layer 0."""
    return len(start) > 1 and start[0] == 0xFF and start[1] & 0xE6 == 0xE2


@contextmanager
def _by_soundfile(source: Path | bytes | BinaryIO, name: str) -> Iterator[Recording]:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: it is there, its library is not
        raise ImportError(NEEDS_SOUNDFILE.format(error=error)) from error
    handle: object = io.BytesIO(source) if isinstance(source, bytes) else source
    if isinstance(source, Path):
        handle = str(source) if sys.platform == "win32" else os.fsencode(source)
    try:
        with soundfile.SoundFile(handle) as file:
            check_rate(file.samplerate, name)
            if not 1 <= file.channels <= MAX_CHANNELS:
                raise ValueError(f"{name} must have at most {MAX_CHANNELS} channels, got {file.channels}")
            yield Recording(name, file.samplerate, _blocks(file))
    except ImportError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(name):
            raise
        raise ValueError(f"{name} cannot be decoded: {said(error)}") from error


def _blocks(file: SoundFile) -> Iterator[np.ndarray]:
    frames = max(1, BLOCK_SAMPLES // file.channels)
    block = np.empty((frames, file.channels), np.float32)
    while True:
        found = file.read(out=block)
        if not len(found):
            return
        yield mono(found.T)
