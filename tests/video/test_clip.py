"""Videos in memory to patches: against the goldens, and the choice of frames and of sizes written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.images.patches import ImageReader
from longspan.models.families.omni_inputs import image_pixels, video_clip
from longspan.models.vision_spec import PatchSpec
from longspan.video.clip import VideoReader
from longspan.video.sizes import chosen_frames

pytest.importorskip("PIL", reason="Pillow is not installed")

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
