"""`LoadedModel.fit_image`: images made small ahead of a call."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder
from longspan.images.pages import PdfPage

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
SIZES = [(300, 200), (64, 64), (9, 40), (700, 40), (1100, 900)]


@pytest.mark.parametrize("name", ["jina-clip-v2", "jina-v4"])
def test_a_fitted_image_has_the_image_s_vector(name: str, golden: Path) -> None:
    rng = np.random.default_rng(3)
    encoder = Encoder(golden / name / "model")
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    fitted = [encoder.fit_image(image) for image in images]
    made = [encoder.encode(each, task="base") for each in (images, [pixels for pixels, _ in fitted])]
    np.testing.assert_array_equal(*made)
    for image, (pixels, _) in zip(images, fitted, strict=True):
        assert pixels.size <= image.size
    states = encoder.encode(images, task="base", output_value="token_embeddings")
    assert [tokens for _, tokens in fitted] == [len(each) for each in states]


def test_a_multi_vector_model_counts_alike(golden: Path) -> None:
    encoder = MultiVectorEncoder(golden / "jina-v4" / "model")
    image = np.random.default_rng(4).integers(0, 256, (120, 90, 3), np.uint8)
    pixels, tokens = encoder.fit_image(image)
    [vectors] = encoder.encode_documents([pixels], task="base")
    assert len(vectors) == tokens


def test_files_and_pages_are_read(golden: Path) -> None:
    encoder = Encoder(golden / "jina-clip-v2" / "model")
    file = io.BytesIO()
    Image.fromarray(np.full((30, 20, 3), 9, np.uint8)).save(file, "PNG")
    assert encoder.fit_image(file.getvalue())[0].shape == (30, 20, 3)
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    file = io.BytesIO()
    Image.fromarray(np.full((300, 200, 3), 9, np.uint8)).save(file, "PDF")
    page = PdfPage(file.getvalue(), 1)
    assert repr(page) == "PdfPage(number=1)"
    pixels, _ = encoder.fit_image(page)
    np.testing.assert_array_equal(encoder.encode(page), encoder.encode(pixels))


def test_what_cannot_be_read(golden: Path) -> None:
    with pytest.raises(ValueError, match="photo cannot be decoded"):
        Encoder(golden / "jina-clip-v2" / "model").fit_image(b"none", "photo")
    with pytest.raises(ValueError, match="reads text alone"):
        Encoder(golden / "bert-minilm").fit_image(np.zeros((4, 4, 3), np.uint8))
