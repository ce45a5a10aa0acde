"""Video files as users have them: the right frames, upright, with their sound; or one sentence."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longspan.audio.allowance import LEAST_FRAME_PIXELS, Allowance, MediaLimitError
from longspan.audio.sound import SoundReader
from longspan.models.audio_spec import MelSpec
from longspan.models.vision_spec import ClipSpec, PatchSpec, PixelSpec
from longspan.video import files
from longspan.video.clip import VideoReader
from longspan.video.files import first_frame, read_frames
from longspan.video.sizes import chosen_frames
from media_files import encoded_sound, mutated, numbers, pictures, tone, video_file

av = pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
pytest.importorskip("soxr", reason="soxr is not installed")

MUTATIONS = int(os.environ.get("LONGSPAN_TEST_MUTATIONS", "300"))  # 100000 for the long form
KINDS = [
    ("mp4", "mpeg4", "aac"),
    ("mp4", "libx264", "aac"),
    ("mov", "libx264", "pcm_s16le"),
    ("webm", "libvpx", "libopus"),
    ("webm", "libvpx-vp9", "libopus"),
    ("matroska", "libx264", "libopus"),
    ("avi", "mpeg4", "libmp3lame"),
    ("mpegts", "mpeg2video", "mp2"),
]
READER = VideoReader(
    ClipSpec(PixelSpec("area", least_pixels=4096, most_pixels=10**6)),
    PatchSpec(16, frames=2, merge=2),
    SoundReader(MelSpec()),
)


def made(frames: np.ndarray | None, kind: str, codec: str, track: tuple[str, np.ndarray] | None = None) -> bytes:
    try:
        return video_file(frames, kind, codec, track)
    except ValueError as error:  # an encoder that this build of PyAV lacks
        pytest.skip(f"PyAV cannot write {kind} of {codec}: {error}")


def frames_of(source: object, most: int = 32) -> np.ndarray:
    sizes = []

    def plan(*size: int) -> object:
        sizes.append(size)
        return lambda frame: frame

    found = read_frames(source, most, plan, "it")  # type: ignore[arg-type]
    assert sizes[-1] == (len(found), *found[0].shape[:2])
    return np.stack(found)


@pytest.mark.parametrize("kind, codec, track", KINDS)
def test_the_frames_that_are_chosen(kind: str, codec: str, track: str, tmp_path: Path) -> None:
    """Of 40 the 32 that are evenly spaced, in their order."""
    given = pictures(40)
    data = made(given, kind, codec, (track, tone(0.5, 48000)))
    (tmp_path / "file").write_bytes(data)
    truth = READER.read(data)
    for form in (
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(tmp_path / "file")},
        str(tmp_path / "file"),
    ):
        np.testing.assert_array_equal(READER.read(form).patches.values, truth.patches.values)
    for source in (data, tmp_path / "file", io.BytesIO(data)):
        found = frames_of(source)
        assert found.shape == (32, 48, 64, 3)
        assert numbers(found) == chosen_frames(40, 32).tolist()
    assert numbers(frames_of(data, 50)) == list(range(40))
    read = READER.read(data)
    assert read.num_frames == 32 and read.patches.grid[0] == 16
    assert read.sound is not None and 48 <= len(read.sound.values) <= 56


def test_the_first_frame() -> None:
    data = made(pictures(5), "mp4", "libx264")
    np.testing.assert_array_equal(first_frame(data, "it"), frames_of(data)[0])
    with pytest.raises(ValueError, match="it "):
        first_frame(b"no video", "it")


def test_packets_that_are_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of packets is a guess; where it is wrong, frames are chosen anew."""
    data = made(pictures(40), "mp4", "mpeg4")
    truth = frames_of(data)
    for guess in (0, 1, 39, 43, 400):
        monkeypatch.setattr(files, "_count_packets", lambda *_, guess=guess: guess)
        np.testing.assert_array_equal(frames_of(data), truth)


def test_colours_and_places() -> None:
    given = pictures(3, 64, 96)
    found = frames_of(made(given, "mp4", "libx264"))
    for part in (np.s_[:, 4:28, 4:44], np.s_[:, 4:28, 52:92]):  # away from edges, where colours are shared
        assert np.abs(found[part].astype(int) - given[part]).max() <= 10


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_files(turns: int) -> None:
    """A telephone held upright says so in the track's header: quarter turns clockwise to be shown by."""
    given = pictures(2, 64, 96)
    data = made(given, "mp4", "libx264")
    one = 1 << 16
    matrices = {0: (one, 0, 0, one), 1: (0, one, -one, 0), 2: (-one, 0, 0, -one), 3: (0, -one, one, 0)}
    a, b, c, d = (number.to_bytes(4, "big", signed=True) for number in matrices[turns])
    at = data.index(b"tkhd") + 44
    matrix = a + b + bytes(4) + c + d + bytes(8 + 4) + (1 << 30).to_bytes(4, "big")
    assert data[at : at + 4] == one.to_bytes(4, "big") and len(matrix) == 36
    found = frames_of(data[:at] + matrix + data[at + 36 :])
    truth = np.rot90(frames_of(data), -turns, axes=(1, 2))
    np.testing.assert_array_equal(found, truth)


def test_tracks() -> None:
    """None, one too short for a token, one that is cut, and one at the model's rate."""
    assert READER.read(made(pictures(2), "mp4", "mpeg4")).sound is None
    assert READER.read(made(pictures(2), "mov", "mpeg4", ("pcm_s16le", tone(0.01, 48000)))).sound is None
    data = made(pictures(2), "mov", "mpeg4", ("pcm_s16le", tone(0.5, 48000)))
    sound = READER.read(data).sound
    truth = SoundReader(MelSpec()).read({"array": tone(0.5, 48000), "sampling_rate": 48000}).values
    np.testing.assert_allclose(sound.values, truth, rtol=0, atol=0.05)  # 16 bits
    assert sound.values.shape == truth.shape
    deaf = VideoReader(READER.clip, READER.patches)
    assert deaf.read(data).sound is None
    long = video_file(pictures(2), "mov", "mpeg4", ("pcm_s16le", tone(31, 8000)), rate=8000)
    assert READER.read(long).sound.cut_samples == 16000


def test_the_cover_of_an_album_is_no_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        sound, cover = container.add_stream("aac", rate=48000, layout="mono"), container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = type(cover.disposition).attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24")))
        container.mux(cover.encode())
        container.mux(encoded_sound(sound, tone(0.5, 48000), 48000))
    with pytest.raises(ValueError, match="it has no moving pictures; give a sound as one"):
        READER.read(file.getvalue(), "it")
    assert READER.sound.read(file.getvalue()).values.shape[0] >= 48


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="it must have at least two frames, got 1; give a single one as an image"):
        READER.read(made(pictures(1), "mp4", "mpeg4"), "it")
    with pytest.raises(ValueError, match="it has no moving pictures; give a sound as one"):
        READER.read(made(None, "mp4", "", ("aac", tone(0.5, 48000))), "it")
    with pytest.raises(FileNotFoundError, match=r"it: .*none\.mp4 is missing"):
        READER.read(tmp_path / "none.mp4", "it")
    data = made(pictures(9), "mp4", "mpeg4")
    for damaged in (b"", b"no video", bytes(9999)):
        with pytest.raises(ValueError, match="it cannot be decoded as a sound or video file: "):
            READER.read(damaged, "it")
    with pytest.raises(ValueError, match="it "):
        READER.read(data[: len(data) // 2], "it")
    (tmp_path / "half.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"it: .*half\.mp4 cannot be decoded"):
        READER.read(tmp_path / "half.mp4", "it")
    with pytest.raises(ValueError, match=r"it must have sides of which none is more than 200 times the other"):
        READER.read(made(pictures(2, 32, 6432), "matroska", "ffv1"), "it")
    monkeypatch.setattr(files, "MAX_DECODED", 20_000)
    with pytest.raises(ValueError, match="it must have at most 20000 pixels in all its frames; cut it into pieces"):
        READER.read(data, "it")
    monkeypatch.setattr(files, "MAX_FRAMES", 8)
    with pytest.raises(ValueError, match="it must have at most 8 frames; cut it into pieces"):
        READER.read(data, "it")
    monkeypatch.setattr(files, "MAX_FRAME_PIXELS", 3000)
    with pytest.raises(ValueError, match="it must have frames of at most 3000 pixels, got 64 x 48"):
        READER.read(data, "it")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"a video file needs PyAV .*pip install 'longspan\[video\]'"):
        READER.read(data, "it")


def test_frames_that_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose header says less than its frames: the decoder makes none of them."""
    monkeypatch.setattr(files, "_check_frame", lambda *_: None)
    monkeypatch.setattr(files, "MAX_FRAME_PIXELS", 3000)
    with pytest.raises(ValueError, match="it (cannot be decoded|must have at least two frames)"):
        READER.read(made(pictures(3), "mp4", "mpeg4"), "it")


def allowed(seconds: float, frames: int) -> VideoReader:
    allowance = Allowance(seconds, frames * LEAST_FRAME_PIXELS)
    return replace(READER, allowance=allowance, sound=SoundReader(MelSpec(), allowance=allowance))


def test_what_a_header_claims_is_allowed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(pictures(24), "mp4", "mpeg4", ("aac", tone(1, 48000)))
    whole = allowed(1.1, 24).read(file)
    assert np.array_equal(whole.patches.values, READER.read(file).patches.values)
    monkeypatch.setattr(files, "_decoded", None)  # which nothing may call
    for reader, most in ((allowed(0.9, 24), "0.9 seconds of video"), (allowed(1.1, 23), "pixels in images and frames")):
        with pytest.raises(
            MediaLimitError, match=f"^it is too (long|large): all that is given together may have .*{most}"
        ):
            reader.read(file, "it")


def test_a_header_that_claims_small_frames() -> None:
    """Motion JPEG in AVI: a frame has the size that its own header says."""
    written = io.BytesIO()
    with av.open(written, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=24)
        stream.height, stream.width, stream.pix_fmt = 384, 512, "yuvj420p"
        for frame in pictures(6, 384, 512):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file = written.getvalue()
    at = file.index(b"strf") + 12
    assert np.frombuffer(file[at : at + 8], "<i4").tolist() == [512, 384]
    lying = file[:at] + np.array([16, 16], "<i4").tobytes() + file[at + 8 :]
    assert READER.read(lying).num_frames == 6
    with pytest.raises(MediaLimitError, match=r"^it is too large: all that .* pixels in images and frames"):
        allowed(9, 12).read(lying, "it")  # of which six would do, were it true
    allowed(9, 18).read(lying)


def test_the_track_of_a_long_video_is_counted() -> None:
    file = made(pictures(6), "mp4", "mpeg4", ("aac", tone(2, 48000)))
    with pytest.raises(MediaLimitError, match=r"^it is too long: all that .* may have 1 seconds of sound"):
        allowed(1, 24).read(file, "it")


def test_damaged_files() -> None:
    """Mutations of small files: a video, or a ValueError; LONGSPAN_TEST_MUTATIONS says how many."""
    rng = np.random.default_rng(int(os.environ.get("LONGSPAN_TEST_SEED", "2")))
    whole = [video_file(pictures(6), *kind[:2], (kind[2], tone(0.25, 48000))) for kind in KINDS]
    read, said = 0, set()
    for number in range(MUTATIONS):
        try:
            found = READER.read(mutated(whole[number % len(whole)], rng), "it")
        except ValueError as error:
            said.add(str(error)[:3])
            continue
        assert np.isfinite(found.patches.values).all() and found.num_frames >= 2
        read += 1
    assert said == {"it "} and MUTATIONS // 50 < read < MUTATIONS - MUTATIONS // 50
