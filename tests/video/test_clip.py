"""Videos in memory to patches: against the goldens, and the choice of frames and of sizes written out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.images.patches import ImageReader
from longspan.models.audio_spec import MelSpec
from longspan.models.families.omni_inputs import HALF, image_pixels, sound_mel, video_clip
from longspan.models.vision_spec import ClipSpec, PatchSpec, PixelSpec
from longspan.video.clip import VideoReader, is_video
from longspan.video.sizes import chosen_frames, clip_size
from media_files import pictures

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

MODELS = ("jina-v5-omni-small", "jina-v5-omni-nano")
PATCHES = PatchSpec(16, frames=2, merge=2)
RESIZED_OTHERWISE = {3}  # by torchvision, whose bytes are one step off Pillow's here and there (the goldens' NOTES)
PIXEL_LIMIT, BYTE_STEP = 1e-6, 2 / 255 + 1e-6


@pytest.mark.parametrize("model", MODELS)
def test_videos_of_the_goldens(model: str, golden: Path) -> None:
    expected = np.load(golden / model / "expected.npz")
    reader = VideoReader(video_clip(Checkpoint.open(golden / model / "model"), PATCHES), PATCHES)
    for number in range(5):
        frames = expected[f"video_u8/{number}"]
        chosen = chosen_frames(len(frames), reader.clip.most_frames)
        np.testing.assert_array_equal(chosen, expected[f"frame_indices/{number}"])
        found = reader.read(frames[chosen])
        assert found.num_frames == len(chosen) and found.sound is None
        assert found.patches.grid == tuple(expected[f"video_grid_thw/{number}"])
        truth = expected[f"pixel_values_videos/{number}"]
        limit = BYTE_STEP if number in RESIZED_OTHERWISE else PIXEL_LIMIT
        np.testing.assert_allclose(found.patches.values, truth, rtol=0, atol=limit, err_msg=str(number))


@pytest.mark.parametrize("model", MODELS)
def test_images_of_the_goldens(model: str, golden: Path) -> None:
    expected = np.load(golden / model / "expected.npz")
    reader = ImageReader(image_pixels(Checkpoint.open(golden / model / "model"), PATCHES), PATCHES)
    for number in range(7):
        found = reader.read(expected[f"image_u8/{number}"])
        assert found.grid == tuple(expected[f"image_grid_thw/{number}"])
        np.testing.assert_allclose(found.values, expected[f"pixel_values/{number}"], rtol=0, atol=PIXEL_LIMIT)


READER = VideoReader(ClipSpec(PixelSpec("area", least_pixels=4096, most_pixels=10**6)), PATCHES)


def test_forms() -> None:
    """One result, whatever holds the frames."""
    frames = pictures(5)
    truth = READER.read(frames)
    assert truth.num_frames == 5 and truth.patches.grid == (3, 4, 4)
    turned = frames.transpose(0, 3, 1, 2)

    class Tensor:
        def detach(self) -> Tensor:
            return self

        def cpu(self) -> Tensor:
            return self

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return turned

    class Decoder:  # torchcodec's
        def __len__(self) -> int:
            return 5

        def get_frames_at(self, indices: list[int]) -> object:
            return type("FrameBatch", (), {"data": turned[indices]})()

    metadata = {"fps": 30, "total_num_frames": 5}
    for form in (
        list(frames),
        tuple(Image.fromarray(frame) for frame in frames),
        turned,
        Tensor(),
        Decoder(),
        {"array": frames, "video_metadata": metadata},
        {"array": list(frames)},
    ):
        found = READER.read(form)
        assert found.num_frames == 5 and found.sound is None
        np.testing.assert_array_equal(found.patches.values, truth.patches.values)


def test_a_decoder_gives_what_is_chosen_and_an_array_all() -> None:
    class Decoder:
        asked: list[int]

        def __len__(self) -> int:
            return 100

        def get_frames_at(self, indices: list[int]) -> object:
            self.asked = indices
            return type("FrameBatch", (), {"data": pictures(100)[indices]})()

    decoder = Decoder()
    assert READER.read(decoder).num_frames == 32
    assert decoder.asked == [int(99 * place / 31) for place in range(32)]
    assert READER.read(pictures(100)).num_frames == 100


def test_the_order_of_patches() -> None:
    """Two frames a patch, the last one again where one is missing."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3)).astype(np.uint8)
    reader = VideoReader(ClipSpec(PixelSpec("area", least_pixels=1, most_pixels=10**9, mean=HALF, std=HALF)), PATCHES)
    found = reader.read(frames).patches
    assert found.grid == (2, 2, 4) and found.values.shape == (16, 1536)
    floats = (frames / 255 - 0.5) / 0.5
    for pair, times in enumerate(((0, 1), (2, 2))):
        for place, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3))):
            square = floats[list(times), 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            truth = square.transpose(3, 0, 1, 2).ravel()
            np.testing.assert_allclose(found.values[8 * pair + place], truth, rtol=0, atol=PIXEL_LIMIT)


def test_sizes_by_hand() -> None:
    limits = (262_144, 12_845_056)
    assert clip_size(32, 1080, 1920, 32, 2, limits) == (448, 832)  # sqrt(32 * 1080 * 1920 / 12845056) = 2.2728
    assert clip_size(8, 720, 1280, 32, 2, limits) == (704, 1280)  # 22.5 rounds to even; the volume fits
    assert clip_size(2, 64, 64, 32, 2, limits) == (384, 384)  # grown by sqrt(262144 / (2 * 4096)) = 5.66, and up
    assert clip_size(5, 160, 160, 32, 2, (1, 4 * 25_600)) == (160, 160)  # five frames count as four
    assert clip_size(7, 160, 160, 32, 2, (1, 7 * 25_600)) == (160, 160)  # 7 as 8, too many; then as 7, which fit
    assert clip_size(2, 16, 48, 32, 2, (1, 10**9)) == (32, 96)  # below a step: 16 to 32, and 48 with it
    assert clip_size(2, 80, 48, 32, 2, (1, 10**9)) == (64, 64)  # 2.5 and 1.5 steps


@given(st.integers(2, 64), st.integers(1, 3000), st.integers(1, 3000))
def test_sizes(frames: int, height: int, width: int) -> None:
    if max(height, width) > 150 * min(height, width):
        return
    high, wide = clip_size(frames, height, width, 32, 2, (262_144, 12_845_056))
    assert high % 32 == wide % 32 == 0 and min(high, wide) >= 32
    volume = round(frames / 2) * 2 * high * wide
    # Sides are fitted to the frames that there are, an odd number of which may count as one more.
    assert volume <= 12_845_056 * (frames + 1) / frames or min(high, wide) == 32
    assert volume >= 262_144 * 0.66  # an odd number of frames may count as one less


@given(st.integers(1, 10_000), st.integers(2, 64))
def test_chosen_frames(count: int, most: int) -> None:
    found = chosen_frames(count, most).tolist()
    assert found == (list(range(count)) if count <= most else [int(x) for x in np.linspace(0, count - 1, most)])
    assert len(set(found)) == len(found) and found[-1] == count - 1


def test_is_video() -> None:
    assert is_video(pictures(2)) and is_video({"array": list(pictures(2)), "video_metadata": None})
    no = (pictures(2)[0], list(pictures(2)), {"array": [0.0], "sampling_rate": 16000}, {"video": 1}, "a.mp4", None)
    assert not any(map(is_video, no))


@pytest.mark.parametrize(
    "given, error, message",
    [
        (None, TypeError, "it must be a video: an array or a list of frames, .* got NoneType"),
        (
            {"video": 1},
            ValueError,
            r'it must have "array", its frames, or "bytes" or "path", got the keys \[\'video\'\]',
        ),
        ([], ValueError, "it must have at least two frames, got 0"),
        (pictures(1), ValueError, "it must have at least two frames, got 1; give a single one as an image"),
        (pictures(2)[0], ValueError, r"it must be \(frames, height, width, 3\) or .* uint8, got \(48, 64, 3\) uint8"),
        (pictures(2) / 255, ValueError, r"got \(2, 48, 64, 3\) float64"),
        (np.zeros((2, 0, 9, 3), np.uint8), ValueError, "it must have at least one pixel, got 9 x 0"),
        (np.zeros((2, 1, 500, 3), np.uint8), ValueError, "sides of which none is more than 200 times the other"),
        (
            [pictures(1)[0], pictures(1)[0][:20]],
            ValueError,
            r"it must have frames of one height and width, got .* at 0 and 1",
        ),
        ([pictures(1)[0], "no"], FileNotFoundError, r"it\[1\]"),
    ],
)
def test_refusals(given: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        READER.read(given, "it")


def write(folder: Path, name: str, **settings: object) -> None:
    (folder / name).write_text(json.dumps(settings))


@pytest.fixture
def checkpoint(golden: Path, tmp_path: Path) -> Checkpoint:
    """A model whose preprocessors' files are the test's."""
    shutil.copytree(golden / MODELS[0] / "model", tmp_path / "model", ignore=lambda *_: ["adapters"])
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (tmp_path / "model" / name).unlink()
    return Checkpoint.open(tmp_path / "model")


@pytest.mark.parametrize(
    "image, video",
    [
        ({}, {}),
        ({"min_pixels": 65536, "max_pixels": 16777216}, {"min_pixels": 4096, "max_pixels": 25165824}),
        (
            {"size": {"shortest_edge": 65536, "longest_edge": 16777216}},
            {"size": {"shortest_edge": 4096, "longest_edge": 25165824}},
        ),
    ],
)
def test_stock_limits_are_the_published_wrappers(image: dict, video: dict, checkpoint: Checkpoint) -> None:
    if image:
        write(checkpoint.model_folder, "preprocessor_config.json", **image)
        write(checkpoint.model_folder, "video_preprocessor_config.json", **video)
    pixels, clip = image_pixels(checkpoint, PATCHES), video_clip(checkpoint, PATCHES)
    assert (pixels.least_pixels, pixels.most_pixels) == (262_144, 1_310_720)
    assert (clip.pixels.least_pixels, clip.pixels.most_pixels) == (262_144, 12_845_056)
    assert pixels.mean == pixels.std == clip.pixels.mean == HALF and clip.most_frames == 32
    assert sound_mel(checkpoint, 128) == MelSpec()


def test_limits_of_the_files(checkpoint: Checkpoint) -> None:
    write(checkpoint.model_folder, "preprocessor_config.json", max_pixels=500_000, image_std=[0.2, 0.3, 0.4])
    write(
        checkpoint.model_folder, "video_preprocessor_config.json", size={"shortest_edge": 5000, "longest_edge": 10**7}
    )
    pixels, clip = image_pixels(checkpoint, PATCHES), video_clip(checkpoint, PATCHES)
    assert (pixels.least_pixels, pixels.most_pixels, pixels.std) == (262_144, 500_000, (0.2, 0.3, 0.4))
    assert (clip.pixels.least_pixels, clip.pixels.most_pixels) == (5000, 10**7)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"patch_size": 14}, "'patch_size' must be 16, got 14"),
        ({"temporal_patch_size": 1}, "'temporal_patch_size' must be 2, got 1"),
        ({"resample": 2}, "'resample' must be 3, got 2"),
        ({"min_pixels": 0}, "'min_pixels' must be above 0"),
    ],
)
def test_pictures_that_are_asked_for_otherwise(settings: dict, message: str, checkpoint: Checkpoint) -> None:
    write(checkpoint.model_folder, "preprocessor_config.json", **settings)
    write(checkpoint.model_folder, "video_preprocessor_config.json", **settings)
    for read in (image_pixels, video_clip):
        with pytest.raises(CheckpointError, match=message):
            read(checkpoint, PATCHES)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"feature_size": 80}, "'feature_size' must be 128, got 80"),
        ({"sampling_rate": 8000}, "'sampling_rate' must be 16000, got 8000"),
        ({"hop_length": 100}, "'hop_length' must be 160, got 100"),
    ],
)
def test_sounds_that_are_asked_for_otherwise(settings: dict, message: str, checkpoint: Checkpoint) -> None:
    write(checkpoint.model_folder, "preprocessor_config.json", **settings)
    with pytest.raises(CheckpointError, match=message):
        sound_mel(checkpoint, 128)
