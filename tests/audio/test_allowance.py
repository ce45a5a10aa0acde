"""What may be decoded: headers that claim too much, headers that claim too little, and what is counted."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from longspan.audio.allowance import LEAST_FRAME_PIXELS, Allowance, MediaLimitError
from longspan.audio.recording import Recording, heard
from longspan.audio.sound import SoundReader
from longspan.models.audio_spec import MelSpec
from media_files import sound_file, tone, video_file

SOUND = "it is too long: all that is given together may have 2 seconds of sound; shorten it"


def test_sound_is_counted_over_all_that_is_read() -> None:
    allowance = Allowance(2, 0)
    for _ in range(2):
        heard(Recording("it", 16000, [tone(1, 16000)]), MelSpec(), allowance)
    with pytest.raises(MediaLimitError, match=f"^{SOUND}$"):
        heard(Recording("it", 16000, [tone(0.1, 16000)]), MelSpec(), allowance)


def test_a_header_that_claims_too_much_is_believed() -> None:
    def none() -> Iterator[np.ndarray]:
        raise AssertionError("it is not decoded")
        yield

    with pytest.raises(MediaLimitError, match=SOUND):
        heard(Recording("it", 16000, none(), claimed_seconds=2.1), MelSpec(), Allowance(2, 0))


@pytest.mark.parametrize("claimed", [None, 0.0, 1.0])
def test_a_header_that_claims_too_little_is_not(claimed: float | None) -> None:
    made = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            made.append(1)
            yield np.zeros(8000, np.float32)

    with pytest.raises(MediaLimitError, match=SOUND):
        heard(Recording("it", 16000, endless(), claimed_seconds=claimed), MelSpec(), Allowance(2, 0))
    assert len(made) == 5  # of half a second


def test_many_samples_a_second_count_for_more() -> None:
    four = Recording("it", 96_000, [np.zeros(96_000, np.float32)], channels=4)
    heard(four, MelSpec(), Allowance(4, 0))
    with pytest.raises(MediaLimitError):
        heard(four, MelSpec(), Allowance(3.9, 0))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_files(kind: str) -> None:
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    file = sound_file(tone(1.5, 16000), 16000, kind)
    SoundReader(MelSpec(), allowance=Allowance(1.7, 0)).read(file)
    with pytest.raises(MediaLimitError, match="^it is too long"):
        SoundReader(MelSpec(), allowance=Allowance(1.4, 0)).read(file, "it")


def test_an_mp3_that_claims_a_hundred_hours() -> None:
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    file = sound_file(tone(1, 16000), 16000, "MP3")
    frames = file.index(b"Xing") + 8
    lying = file[:frames] + struct.pack(">I", 10**7) + file[frames + 4 :]
    with pytest.raises(MediaLimitError, match=SOUND):
        SoundReader(MelSpec(), allowance=Allowance(2, 0)).read(lying, "it")


def test_a_track_whose_header_lies() -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    pytest.importorskip("soxr", reason="soxr is not installed")
    file = video_file(None, "mp4", "", ("aac", tone(3, 48000)))
    at = file.index(b"mdhd") + 20  # where its duration stands, in units of a sample
    short = file[:at] + struct.pack(">I", 480) + file[at + 4 :]
    assert struct.unpack(">I", file[at : at + 4])[0] > 2 * 48000
    for given in (file, short):
        SoundReader(MelSpec(), allowance=Allowance(3.2, 0)).read(given)
        with pytest.raises(MediaLimitError, match=SOUND):
            SoundReader(MelSpec(), allowance=Allowance(2, 0)).read(given, "it")


def test_pixels_and_frames() -> None:
    allowance = Allowance(10, 10 * LEAST_FRAME_PIXELS)
    allowance.take_image("it", 2 * LEAST_FRAME_PIXELS)
    allowance.take_video("it", 4, frames=8, pixels=16)
    with pytest.raises(
        MediaLimitError, match="it is too long: all that is given together may have 10 seconds of video"
    ):
        allowance.take_video("it", 6.1, frames=1, pixels=16)
    for _ in range(8):
        allowance.take_frame("it", 100)
    with pytest.raises(MediaLimitError, match="may have 655360 pixels in images and frames; make it smaller"):
        allowance.take_frame("it", 100)
