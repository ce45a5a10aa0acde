"""`TextModel.fit_input`: what was decoded ahead of a call has the vector of what it was made from, to the bit."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MediaOptions
from longspan.images.pages import PdfPages
from longspan.pipeline.inputs import Part, read_inputs

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
RNG = np.random.default_rng(11)
PICTURE = RNG.integers(0, 256, (120, 90, 3), np.uint8)
LARGE = RNG.integers(0, 256, (900, 700, 3), np.uint8)
FRAMES = RNG.integers(0, 256, (5, 60, 200, 3), np.uint8)
SOUND = (0.4 * np.sin(np.arange(24_000) / 9)).astype(np.float32)
ITEMS = {
    "image": {"image": PICTURE},
    "large image": {"image": LARGE},
    "sound": {"audio": SOUND},
    "frames": {"video": FRAMES},
    "in order": ({"text": "a text"}, {"image": PICTURE}, {"audio": SOUND}, {"text": "behind it"}, {"video": FRAMES}),
}


@pytest.fixture(scope="module", params=["nano", "small"])
def encoder(request: pytest.FixtureRequest, golden: Path) -> Encoder:
    return Encoder(golden / f"jina-v5-omni-{request.param}" / "model")


def parts_of(encoder: Encoder, item: object) -> tuple[Part, ...]:
    return read_inputs("test", [item], None, encoder.modalities).items[0]


@pytest.mark.parametrize("name", ITEMS)
def test_same_bits_and_its_tokens(encoder: Encoder, name: str) -> None:
    item, prompt = ITEMS[name], encoder.prompts["query"]
    fitted = encoder.fit_input(parts_of(encoder, item), prompt=prompt)
    options = {"task": "retrieval", "prompt": prompt}
    np.testing.assert_array_equal(encoder.encode([fitted.item], **options), encoder.encode([item], **options))
    [states] = encoder.encode([item], output_value="token_embeddings", **options)
    assert fitted.tokens == len(states)
    assert fitted.cut_samples == 0


def test_in_another_form(golden: Path) -> None:
    """Time stamps, markers and half a minute of sound count too."""
    media = MediaOptions(wrapper="chat", outer_video_markers=True, audio_padding="30s", prompts="all")
    encoder = Encoder(golden / "jina-v5-omni-small" / "model", media=media)
    for item in ({"video": FRAMES}, {"audio": SOUND}):
        fitted = encoder.fit_input(parts_of(encoder, item), prompt="Query: ")
        options = {"task": "retrieval", "prompt": "Query: "}
        np.testing.assert_array_equal(encoder.encode([fitted.item], **options), encoder.encode([item], **options))
        [states] = encoder.encode([item], output_value="token_embeddings", **options)
        assert fitted.tokens == len(states)


def test_files(encoder: Encoder) -> None:
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    file = io.BytesIO()
    pages = [Image.fromarray(picture) for picture in (PICTURE, PICTURE[::-1])]
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:])
    sound = io.BytesIO()
    with wave.open(sound, "wb") as written:
        written.setnchannels(1), written.setsampwidth(2), written.setframerate(16_000)
        written.writeframes((SOUND * 32767).astype("<i2").tobytes())
    for item in (PdfPages(file.getvalue()), {"audio": sound.getvalue()}):
        fitted = encoder.fit_input(parts_of(encoder, item))
        np.testing.assert_array_equal(
            encoder.encode([fitted.item], task="retrieval"), encoder.encode([item], task="retrieval")
        )


def test_what_cannot_be_read(encoder: Encoder, golden: Path) -> None:
    with pytest.raises(ValueError, match=r"fit_input: item\[3\].*cannot be decoded"):
        encoder.fit_input([Part("image", b"none", "item[3]")])
    with pytest.raises(ValueError, match=r"fit_input: item\[0\] takes \d+ tokens"):
        encoder.fit_input([Part("text", "word " * 40_000, "item[0]"), Part("image", PICTURE, "item[0]")])
    text = Encoder(golden / "bert-minilm")
    with pytest.raises(ValueError, match=r"item\[0\] is an image, but this model reads text alone"):
        text.fit_input([Part("image", PICTURE, "item[0]")])
    clip = Encoder(golden / "jina-clip-v2" / "model")
    with pytest.raises(ValueError, match=r"item\[0\] must be one image"):
        clip.fit_input([Part("image", PICTURE, "item[0]"), Part("text", "a", "item[0]")])
