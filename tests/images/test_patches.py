"""From bytes to patches, against the goldens' `pixel_values`, and sizes and orders written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longspan.images.patches import ImageReader
from longspan.images.resize import area_size, resized
from longspan.models.vision_spec import CLIP_MEAN, CLIP_STD, PatchSpec, PixelSpec
from vision_models import MODELS, open_tower, read_golden, whole_patches

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

SQUASHED = 0  # of `pixel_values_squash/0`
PIXEL_LIMIT = 1e-6  # of values up to 2.7, rounded once here and some times there
CLIP = PatchSpec(14, has_class_token=True, grid=5, reach=16.0)
QWEN = PatchSpec(14, frames=2, merge=2, window=4)


@pytest.mark.parametrize("model", MODELS)
def test_pixels_of_the_goldens(model: str, golden: Path) -> None:
    images = read_golden(golden / model)
    tower = open_tower(images.model)
    for number, image in enumerate(images.images):
        found, truth = tower.reader.read(image), images.patches(number, tower.spec)
        assert found.grid == truth.grid
        np.testing.assert_allclose(found.values, truth.values, rtol=0, atol=PIXEL_LIMIT, err_msg=str(number))


def test_squashed_pixels_of_the_golden(golden: Path) -> None:
    images = read_golden(golden / "jina-clip-v2")
    reader = ImageReader(PixelSpec("squash", 75), CLIP)
    truth = whole_patches(images.expected["pixel_values_squash/0"][0], 14)
    np.testing.assert_allclose(reader.read(images.image(SQUASHED)).values, truth.values, rtol=0, atol=PIXEL_LIMIT)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [(75, 75), (74, 76), (90, 130), (200, 110), (60, 64), (13, 1000), (1, 100), (512, 37)])
def test_resized_bytes_are_pillows(size: tuple[int, int]) -> None:
    """Each way to a size, against Pillow called by hand as the published processors call it."""
    image, (height, width) = picture(*size), size
    by_hand = Image.fromarray(image)
    bicubic = Image.Resampling.BICUBIC
    np.testing.assert_array_equal(
        resized(image, PixelSpec("squash", 75), CLIP), np.asarray(by_hand.resize((75, 75), bicubic))
    )
    long = int(75 * max(size) / min(size))
    inner = by_hand.resize((75, long) if height >= width else (long, 75), bicubic)
    left, top = round((inner.width - 75) / 2), round((inner.height - 75) / 2)
    np.testing.assert_array_equal(
        resized(image, PixelSpec("shortest", 75), CLIP), np.asarray(inner.crop((left, top, left + 75, top + 75)))
    )
    ratio = max(size) / 75
    inner = by_hand.resize((max(1, round(width / ratio)), max(1, round(height / ratio))), bicubic)
    square = Image.new("RGB", (75, 75), (9, 9, 9))
    square.paste(inner, ((75 - inner.width) // 2, (75 - inner.height) // 2))
    np.testing.assert_array_equal(resized(image, PixelSpec("longest", 75, fill=9), CLIP), np.asarray(square))
    high, wide = area_size(height, width, 28, 3136, 28224)
    np.testing.assert_array_equal(
        resized(image, PixelSpec("area", least_pixels=3136, most_pixels=28224), QWEN),
        np.asarray(by_hand.resize((wide, high), bicubic)),
    )


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_area_sizes(height: int, width: int) -> None:
    if max(height, width) > 200 * min(height, width):
        return
    high, wide = area_size(height, width, 28, 3136, 1003520)
    assert high % 28 == wide % 28 == 0 and min(high, wide) >= 28
    assert high * wide <= 1003520 or min(high, wide) == 28
    assert high * wide >= 3136 or min(height, width) < 28


def test_area_sizes_by_hand() -> None:
    """Ties to even, shrinking by floor, growing by ceil."""
    assert area_size(42, 70, 28, 1, 10**9) == (56, 56)  # 1.5 and 2.5 steps
    assert area_size(1000, 1000, 28, 3136, 1003520) == (980, 980)
    assert area_size(2000, 1000, 28, 3136, 28224) == (224, 112)
    assert area_size(20, 30, 28, 3136, 28224) == (56, 84)


def test_the_order_of_patches_and_their_numbers() -> None:
    """Cell by cell; a patch's numbers by channel, frame, row and column."""
    image = picture(56, 84)
    found = ImageReader(PixelSpec("area", least_pixels=1, most_pixels=10**6), QWEN).read(image)
    assert found.grid == (1, 4, 6) and found.values.shape == (24, 1176)
    floats = (image / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    place = 0
    for block_row in range(2):
        for block_column in range(3):
            for row in (2 * block_row, 2 * block_row + 1):
                for column in (2 * block_column, 2 * block_column + 1):
                    patch = floats[14 * row : 14 * row + 14, 14 * column : 14 * column + 14].transpose(2, 0, 1)
                    numbers = np.repeat(patch[:, None], 2, 1).ravel()
                    np.testing.assert_allclose(found.values[place], numbers, rtol=0, atol=PIXEL_LIMIT)
                    place += 1


def test_sides_that_differ_too_much() -> None:
    for pixels in (PixelSpec("shortest", 75), PixelSpec("area")):
        with pytest.raises(ValueError, match="image must have sides of which none is more than 200 times the other"):
            resized(np.zeros((1, 201, 3), np.uint8), pixels, QWEN)
