"""Images in `/v1/embeddings` and `/v2/embed`: base64 and data URIs, beside texts, of models that read them."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from live_server import Live, golden, serving
from longspan import Encoder
from longspan.images.pages import PdfPage
from longspan.serve import ModelSettings, Settings, create_app

pytest.importorskip("PIL", reason="pip install 'longspan[images]'")
pytest.importorskip("pypdfium2", reason="pip install 'longspan[images]'")


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    from PIL import Image

    rng = np.random.default_rng(5)
    made = []
    for size, kind in (((40, 60, 3), "PNG"), ((90, 30, 3), "PNG"), ((64, 64, 3), "WEBP")):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(file, kind, lossless=True)
        made.append(file.getvalue())
    return made


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(golden("jina-clip-v2"))


def coded(file: bytes, prefix: str = "") -> str:
    return prefix + base64.b64encode(file).decode()


def vectors(answer: Any) -> np.ndarray:
    assert answer.status == 200, answer.body
    return np.array([item["embedding"] for item in answer.json["data"]], np.float32)


def test_images_beside_texts(live: Live, encoder: Encoder, files: list[bytes]) -> None:
    items = [
        {"image": coded(files[0])},
        "a text",
        {"image": coded(files[1], "data:image/png;base64,")},
        {"text": "another"},
        {"bytes": coded(files[2])},
        {"type": "image_url", "image_url": {"url": coded(files[0], "data:image/png;base64,")}},
    ]
    answer = live.post("/v1/embeddings", {"model": "clip", "input": items})
    images = np.asarray(encoder.encode(files, modality="image", normalize_embeddings=True))
    texts = np.asarray(encoder.encode(["a text", "another"], normalize_embeddings=True))
    truth = np.stack([images[0], texts[0], images[1], texts[1], images[2], images[0]])
    assert np.array_equal(vectors(answer), truth)
    assert answer.json["usage"]["total_tokens"] == 4 * clip_tokens(encoder) + sum(
        len(text.ids) for text in encoder.tokenize(["a text", "another"])
    )
    short = live.post("/v1/embeddings", {"model": "clip", "input": items, "dimensions": 8})
    cut = np.asarray(encoder.encode(files[:1], modality="image", normalize_embeddings=True, truncate_dim=8))
    assert np.array_equal(vectors(short)[:1], cut)
    alone = live.post("/v1/embeddings", {"model": "clip", "input": {"image": coded(files[1])}})
    assert np.array_equal(vectors(alone), images[1:2])


def clip_tokens(encoder: Encoder) -> int:
    """A class token and the patches of an image of the tower's own size."""
    assert encoder.spec.vision is not None and encoder.spec.vision.tower.patches is not None
    return 1 + (encoder.spec.vision.pixels.size // encoder.spec.vision.tower.patches.size) ** 2


def test_pages(live: Live, encoder: Encoder) -> None:
    file = two_pages()
    data = coded(file)
    pages = [PdfPage(file, number) for number in (1, 2)]
    each = np.asarray(encoder.encode(pages, normalize_embeddings=True))
    mean = each.astype(np.float64).mean(0)
    whole = (mean / np.linalg.norm(mean)).astype(np.float32)
    items = [{"pdf": data}, "a text", {"pdf": data, "page": 2}, {"pdf": coded(file, "data:application/pdf;base64,")}]
    answer = live.post("/v1/embeddings", {"model": "clip", "input": items})
    found = vectors(answer)
    np.testing.assert_allclose(found[[0, 3]], [whole, whole], rtol=0, atol=1e-6)
    assert np.array_equal(found[2], each[1])
    words = len(encoder.tokenize(["a text"])[0].ids)
    assert answer.json["usage"]["total_tokens"] == 5 * clip_tokens(encoder) + words
    none = live.post("/v1/embeddings", {"model": "clip", "input": {"pdf": data, "page": 3}})
    assert none.status == 400 and "has 2 pages, and no page 3" in none.json["error"]["message"]
    wrong = live.post("/v1/embeddings", {"model": "clip", "input": {"pdf": data, "page": 0}})
    assert wrong.status == 422 and "input.page must be at least 1" in wrong.json["error"]["message"]


def test_pages_are_bounded(live: Live) -> None:
    items = [{"pdf": coded(two_pages())}] * 51
    refused = live.post("/v1/embeddings", {"model": "clip", "input": items})
    assert refused.status == 400 and "input[50]: the request has 102 pages" in refused.json["error"]["message"]


def two_pages() -> bytes:
    """A PDF file of a red and a blue page."""
    from PIL import Image

    red, blue = (Image.fromarray(np.full((100, 60, 3), colour, np.uint8)) for colour in ((200, 0, 0), (0, 0, 200)))
    file = io.BytesIO()
    red.save(file, "PDF", save_all=True, append_images=[blue], resolution=72)
    return file.getvalue()


def test_cohere_images(live: Live, encoder: Encoder, files: list[bytes]) -> None:
    uris = [coded(file, "data:image/png;base64,") for file in files]
    answer = live.post("/v2/embed", {"model": "clip", "input_type": "image", "images": uris}).json
    truth = np.asarray(encoder.encode(files, modality="image", normalize_embeddings=True))
    assert np.array_equal(np.array(answer["embeddings"]["float"], np.float32), truth) and answer["texts"] == []


def test_what_is_cut_is_named_by_its_place(live: Live, files: list[bytes]) -> None:
    body = {"model": "clip", "input": [{"image": coded(files[0])}, "x", "word " * 20_000]}
    refused = live.post("/v1/embeddings", body)
    assert refused.status == 400 and "input[2] has" in refused.json["error"]["message"]
    cut = live.post("/v1/embeddings", {**body, "truncate": True})
    assert cut.headers["x-longspan-truncated"] == "1; first=2"


@pytest.mark.parametrize(
    "item, words",
    [
        ({"image": "no base64!"}, "is no base64"),
        ({"image": "aGVsbG8="}, "input[0]"),
        ({"image": ""}, "input[0]"),
        ({"pdf": "aGVsbG8="}, "input[0]: the file is no PDF file"),
        ({"pdf": "no base64!"}, "is no base64"),
        ({"pdf": "https://a.example/b.pdf"}, "no URL is fetched"),
        ({"image": "https://a.example/b.png"}, "no URL is fetched"),
        ({"url": "file:///etc/passwd"}, "no URL is fetched"),
        ({"image": "/etc/passwd"}, "input[0]"),
    ],
    ids=str,
)
def test_bad_images(live: Live, item: Any, words: str) -> None:
    answer = live.post("/v1/embeddings", {"model": "clip", "input": [item]})
    assert answer.status == 400 and words in answer.json["error"]["message"]


def test_an_image_too_large_is_refused(live: Live) -> None:
    """A header that says so is enough: nothing is decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    answer = live.post("/v1/embeddings", {"model": "clip", "input": [{"image": coded(file)}]})
    assert answer.status == 400 and "pixels" in answer.json["error"]["message"]


def test_models_without_a_tower_say_so(live: Live, files: list[bytes]) -> None:
    answer = live.post("/v1/embeddings", {"model": "minilm", "input": [{"image": coded(files[0])}]})
    assert answer.status == 400 and "reads no images" in answer.json["error"]["message"]


def test_pages_that_take_too_long_to_be_drawn_are_refused() -> None:
    """And nobody else waits for them."""
    settings = Settings(max_drawing_seconds=1e-3, warm_up=False, log="none")
    with serving(create_app(ModelSettings(golden("jina-clip-v2"), served_name="clip"), settings)) as live:
        refused = live.post("/v1/embeddings", {"input": [{"pdf": coded(two_pages())}]})
        assert refused.status == 400
        message = "input[0]: the pages take more than the 0.001 seconds that drawing them may take"
        assert refused.json["error"]["message"].startswith(message)
