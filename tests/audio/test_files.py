"""Sound files as users have them: their samples, or one sentence."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from longspan.audio import files
from longspan.audio.files import opened_sound
from longspan.audio.sound import SoundReader
from longspan.models.audio_spec import MelSpec
from media_files import mutated, pictures, sound_file, tone, video_file

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")

MUTATIONS = int(os.environ.get("LONGSPAN_TEST_MUTATIONS", "2000"))  # 100000 for the long form
READER = SoundReader(MelSpec())
RATE = 22050


@pytest.fixture(scope="module")
def stereo() -> np.ndarray:
    """(samples, 2): tones of 16 bits."""
    both = np.stack([tone(0.5, RATE), tone(0.5, RATE, hertz=660, level=0.2)], axis=1)
    return (both * 32768).astype(np.int16)


def samples_of(source: object) -> tuple[float, np.ndarray]:
    with opened_sound(source, "it") as recording:  # type: ignore[arg-type]
        return recording.rate, np.concatenate(list(recording.blocks))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "CAF", "AU", "W64", "RF64", "WAVEX"])
def test_lossless_files_give_their_samples(kind: str, stereo: np.ndarray, tmp_path: Path) -> None:
    data = sound_file(stereo, RATE, kind)
    (tmp_path / "file").write_bytes(data)
    truth = (stereo.astype(np.float32) / 32768).mean(axis=1, dtype=np.float32)
    for source in (data, tmp_path / "file", io.BytesIO(data)):
        rate, found = samples_of(source)
        assert rate == RATE
        np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_types_of_samples(subtype: str) -> None:
    truth = tone(0.3, RATE)
    _, found = samples_of(sound_file(truth, RATE, "WAV", subtype))
    coarse = {"PCM_U8": 0.01, "ULAW": 0.02, "ALAW": 0.02}
    np.testing.assert_allclose(found, truth, rtol=0, atol=coarse.get(subtype, 1e-6))


@pytest.mark.parametrize("kind, subtype", [("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_files_that_lose(kind: str, subtype: str | None) -> None:
    rate = 48000
    found_rate, found = samples_of(sound_file(tone(1, rate), rate, kind, subtype))
    assert found_rate == rate and abs(len(found) - rate) <= 2400
    power = np.abs(np.fft.rfft(found[4800:43200])) ** 2
    assert power[352] > 0.9 * power.sum()  # 440 Hz of 0.8 s


def test_a_name_says_nothing(stereo: np.ndarray, tmp_path: Path) -> None:
    """Formats are told by what is in the file; a name may hold anything."""
    name = "a.raw" if sys.platform in ("darwin", "win32") else os.fsdecode(b"caf\xe9.raw")
    (tmp_path / name).write_bytes(sound_file(stereo, RATE, "WAV"))
    assert len(samples_of(tmp_path / name)[1]) == len(stereo)


@pytest.mark.parametrize(
    "kind, codec", [("mp4", "aac"), ("matroska", "libopus"), ("mov", "pcm_s16le"), ("adts", "aac")]
)
def test_what_soundfile_does_not_read(kind: str, codec: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    data = video_file(None, kind, "", (codec, tone(1, 48000)))
    (tmp_path / "file").write_bytes(data)
    for source in (data, tmp_path / "file", io.BytesIO(data)):
        rate, found = samples_of(source)
        assert rate == 48000 and abs(len(found) - 48000) <= 2400
        power = np.abs(np.fft.rfft(found[4800:43200])) ** 2
        assert power[352] > 0.9 * power.sum()
    if kind == "mov":
        np.testing.assert_allclose(found, tone(1, 48000), rtol=0, atol=1 / 16384)


def test_the_track_of_a_video_is_a_sound() -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    assert samples_of(video_file(pictures(3), "mp4", "mpeg4", ("aac", tone(1, 48000))))[0] == 48000
    with pytest.raises(ValueError, match="it has no sound track"):
        samples_of(video_file(pictures(3), "mp4", "mpeg4"))


def test_refusals(stereo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wav = sound_file(stereo, RATE, "WAV")
    with pytest.raises(ValueError, match="it cannot be decoded as a sound file: it is empty"):
        samples_of(b"")
    with pytest.raises(ValueError, match="it cannot be decoded as a sound file: "):
        samples_of(wav[:20])
    with pytest.raises(ValueError, match="it cannot be decoded as a sound file: Error : flac decoder lost sync"):
        samples_of(sound_file(stereo, RATE, "FLAC")[:-300])
    with pytest.raises(ValueError, match="it cannot be decoded as a sound file: there is no sound in it"):
        samples_of(b"\xff\xfb" + bytes(300))
    with pytest.raises(FileNotFoundError, match=r"it: .*none\.wav is missing"):
        samples_of(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="it must have at most 64 channels, got 65"):
        samples_of(sound_file(np.zeros((400, 65)), RATE, "WAV"))
    with pytest.raises(ValueError, match="it must have a sampling rate from 1000 to 768000, got 8"):
        samples_of(sound_file(stereo, 8, "WAV"))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ImportError, match=r"sound files need soundfile .*pip install 'longspan\[audio\]'"):
        samples_of(wav)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"it, which soundfile does not read, needs PyAV .*longspan\[video\]"):
        samples_of(b"no sound at all")


def test_what_is_no_media(tmp_path: Path) -> None:
    """Nor anything that names other files: playlists are none of what is read."""
    pytest.importorskip("av", reason="PyAV is not installed")
    other = tmp_path / "other.mp4"
    other.write_bytes(video_file(None, "mp4", "", ("aac", tone(1, 48000))))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n".encode()
    concat = f"ffconcat version 1.0\nfile '{other}'\n".encode()
    for data in (b"no sound at all", playlist, concat, bytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100)):
        (tmp_path / "list.m3u8").write_bytes(data)
        for source in (data, tmp_path / "list.m3u8"):
            with pytest.raises(ValueError, match="it cannot be decoded as a sound or video file: "):
                samples_of(source)


def small_files() -> dict[str, bytes]:
    """A small valid file of each kind."""
    both = np.stack([tone(0.25, 16000), tone(0.25, 16000, hertz=660)], axis=1)
    kinds = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None))
    found = {f"{kind} {subtype}": sound_file(both, 16000, kind, subtype) for kind, subtype in kinds}
    found |= {kind: sound_file(both, 16000, kind) for kind in ("AIFF", "CAF", "AU", "W64")}
    if importlib.util.find_spec("av") is None:
        return found
    kinds = (("mp4", "aac"), ("adts", "aac"), ("matroska", "libopus"))
    return found | {kind: video_file(None, kind, "", (codec, tone(0.25, 48000))) for kind, codec in kinds}


def test_damaged_files(capfd: pytest.CaptureFixture[str]) -> None:
    """Mutations of small files: a sound, or a ValueError; LONGSPAN_TEST_MUTATIONS says how many."""
    rng = np.random.default_rng(int(os.environ.get("LONGSPAN_TEST_SEED", "2")))
    whole = list(small_files().values())
    read, said = 0, set()
    for number in range(MUTATIONS):
        try:
            found = READER.read(mutated(whole[number % len(whole)], rng), "it")
        except ValueError as error:
            said.add(str(error)[:3])
            continue
        assert np.isfinite(found.values).all()
        read += 1
    capfd.readouterr()  # libmpg123 writes to the standard error, whoever calls it
    assert said == {"it "} and MUTATIONS // 50 < read < MUTATIONS - MUTATIONS // 50


def test_a_block_holds_all_channels(stereo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = samples_of(sound_file(stereo, RATE, "WAV"))[1]
    monkeypatch.setattr(files, "BLOCK_SAMPLES", 1000)
    np.testing.assert_array_equal(samples_of(sound_file(stereo, RATE, "WAV"))[1], whole)
