"""Sound files, by libsndfile (soundfile), and what that does not read by PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from longspan.audio.recording import Recording, check_rate
from longspan.audio.samples import MAX_CHANNELS, mono
from longspan.audio.tracks import sound_track
from longspan.given_files import as_file, said

if TYPE_CHECKING:
    from soundfile import SoundFile

BLOCK_SAMPLES: Final = 1 << 18  # of all channels, that are decoded at once
# How files begin that are given to libsndfile; it knows others, which nobody has.
STARTS: Final = (b"RIFF", b"RF64", b"riff", b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"caff")
UNKNOWN_FRAMES: Final = 1 << 62  # and above: libsndfile's word for what a header does not say
NEEDS_SOUNDFILE: Final = "sound files need soundfile ({error}); pip install 'longspan[audio]'"


@contextmanager
def opened_sound(source: Path | bytes | BinaryIO, name: str) -> Iterator[Recording]:
    """The sound in a file, of all channels together.

    WAV, FLAC, Ogg (Vorbis, Opus, FLAC), MP3, AIFF, AU, CAF and W64 are read by soundfile; all else that `sound_track`
    reads (M4A, AAC, WMA, the tracks of videos) by PyAV, if that is installed.

    Raises: ValueError, naming it, it is damaged, has no sound, too many channels or an odd rate, also while it is read;
        FileNotFoundError; ImportError.
    """
    with as_file(source, name) as file:
        start = file.read(16)
    if not start:
        raise ValueError(f"{name} cannot be decoded as a sound file: it is empty")
    if start.startswith(STARTS) or _is_mp3(start):
        with _by_soundfile(source, name) as recording:
            yield recording
        return
    with sound_track(source, name, f"{name}, which soundfile does not read,") as track:
        if track is None:
            raise ValueError(f"{name} has no sound track")
        yield track


def _is_mp3(start: bytes) -> bool:
    """Whether a frame of MPEG audio of layer 3 begins here; AAC's frames begin alike, but say layer 0."""
    return len(start) > 1 and start[0] == 0xFF and start[1] & 0xE6 == 0xE2


@contextmanager
def _by_soundfile(source: Path | bytes | BinaryIO, name: str) -> Iterator[Recording]:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: it is there, its library is not
        raise ImportError(NEEDS_SOUNDFILE.format(error=error)) from error
    try:
        with as_file(source, name) as handle, soundfile.SoundFile(_Steady(handle)) as file:
            check_rate(file.samplerate, name)
            if not 1 <= file.channels <= MAX_CHANNELS:
                raise ValueError(f"{name} must have at most {MAX_CHANNELS} channels, got {file.channels}")
            claimed = file.frames / file.samplerate if 0 <= file.frames < UNKNOWN_FRAMES else None
            yield Recording(name, file.samplerate, _blocks(file), file.channels, claimed)
    except ImportError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(name):
            raise
        why = said(error)
        if "does not exist" in why:  # libsndfile's word for an MP3 file of no frames
            why = "there is no sound in it"
        raise ValueError(f"{name} cannot be decoded as a sound file: {why}") from error


class _Steady:
    """A file for libsndfile, which calls it from C, where an exception would be lost: places before the start, which
    damaged files name, are the start."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = 0 if whence == os.SEEK_SET else self._file.seek(0, whence)
        return self._file.seek(max(0, base + offset))

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def _blocks(file: SoundFile) -> Iterator[np.ndarray]:
    frames = max(1, BLOCK_SAMPLES // file.channels)
    block = np.empty((frames, file.channels), np.float32)
    while True:
        found = file.read(out=block)
        if not len(found):
            return
        yield mono(found.T)
