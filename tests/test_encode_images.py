"""Images through the public classes: the goldens from bytes and from pixels, mixed lists, what is refused."""

from __future__ import annotations

import io
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder, _core
from longspan.packing.media import Patches
from longspan.pipeline.vision import Vision
from vision_models import Golden, cosine, read_golden

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

LIMITS = {"jina-clip-v2": 5e-6, "jina-v4": 5e-6}
VECTORS_LIMIT, HIDDEN_LIMIT = 1e-5, 1e-4
LEAST = {"bfloat16": 0.999, "int8": 0.99}
TEXTS = ["a small text", "one that has rather more words in it than the other one"]

models = pytest.mark.parametrize("name", ["jina-clip-v2", "jina-v4"])


@pytest.fixture(scope="module")
def goldens(golden: Path) -> dict[str, Golden]:
    return {name: read_golden(golden / name) for name in LIMITS}


@cache
def opened_in(isa: str, model: Path, kind: type, **options: object) -> Encoder:
    return kind(model, **options)


def opened(model: Path, kind: type = Encoder, **options: object) -> Encoder:
    """Packed for the instruction set that is chosen now."""
    return opened_in(_core.isa(), model, kind, **options)


def feed_stored_pixels(images: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let encoders cut their images from the golden's `pixel_values`; an image is then its number."""

    def read(self: Vision, caller: str, part: object) -> Patches:
        return images.patches(int(part.value[0, 0, 0]), self.spec)

    monkeypatch.setattr(Vision, "read", read)


def numbered(cases: list[dict]) -> list[np.ndarray]:
    return [np.full((1, 1, 3), case["image"], np.uint8) for case in cases]


def check(encoder: Encoder, images: Golden, inputs: list[np.ndarray], limit: float) -> None:
    tasks = [case["task"] for case in images.cases]
    vectors = encoder.encode(inputs, task=tasks)
    for case, vector in zip(images.cases, vectors, strict=True):
        truth = images.expected[f"emb/{case['id']}"]
        np.testing.assert_allclose(vector, truth, rtol=0, atol=limit, err_msg=case["id"])
        np.testing.assert_array_equal(np.packbits(vector > 0), images.expected[f"sign/{case['id']}"])
    for dim in images.cases[0]["truncate_dims"]:
        shorter = encoder.encode(inputs, task=tasks, truncate_dim=dim)
        for case, vector in zip(images.cases, shorter, strict=True):
            stretch = 1 / np.linalg.norm(images.expected[f"emb/{case['id']}"][:dim])
            truth = images.expected[f"emb{dim}/{case['id']}"]
            np.testing.assert_allclose(vector, truth, rtol=0, atol=limit * stretch, err_msg=case["id"])


@models
def test_goldens_from_stored_pixels(
    isa: str, name: str, goldens: dict[str, Golden], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = goldens[name]
    feed_stored_pixels(images, monkeypatch)
    check(opened(images.model), images, numbered(images.cases), LIMITS[name])


def test_files_in_all_forms(goldens: dict[str, Golden], tmp_path: Path) -> None:
    images = goldens["jina-clip-v2"]
    encoder, path = opened(images.model), tmp_path / "photo.png"
    pixels = images.image(0)
    Image.fromarray(pixels).save(path)
    stored = {"bytes": path.read_bytes(), "path": None}
    truth = encoder.encode(pixels)
    for given in ([stored], [{"bytes": None, "path": str(path)}], [io.BytesIO(stored["bytes"])], [path]):
        np.testing.assert_array_equal(encoder.encode(given, modality="image"), truth[None])
    np.testing.assert_array_equal(encoder.encode(stored, modality="image"), truth)
    np.testing.assert_array_equal(encoder.encode([{"image": stored}, {"image": io.BytesIO(stored["bytes"])}])[1], truth)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(encoder.encode(file, modality="image"), truth)
    with pytest.raises(TypeError, match=r"inputs\[0\] is dict; give modality= to say what the file holds"):
        encoder.encode([stored])


@models
def test_goldens_from_bytes(isa: str, name: str, goldens: dict[str, Golden]) -> None:
    images = goldens[name]
    check(opened(images.model), images, [images.image(case["image"]) for case in images.cases], LIMITS[name])


def test_hidden_states_and_token_vectors(isa: str, goldens: dict[str, Golden]) -> None:
    images = goldens["jina-v4"]
    encoder, multi = opened(images.model), opened(images.model, MultiVectorEncoder)
    inputs = [images.image(case["image"]) for case in images.cases]
    tasks = [case["task"] for case in images.cases]
    states = encoder.encode(inputs, task=tasks, output_value="token_embeddings")
    vectors = multi.encode_documents(inputs, task=tasks)
    for case, state, vector in zip(images.cases, states, vectors, strict=True):
        assert len(state) == len(vector) == case["n_tokens"]
        if case.get("has_hidden"):
            truth = images.expected[f"hidden/{case['id']}"]
            np.testing.assert_allclose(state, truth, rtol=0, atol=HIDDEN_LIMIT, err_msg=case["id"])
        if case.get("has_multivector"):
            truth = images.expected[f"multivector/{case['id']}"]
            np.testing.assert_allclose(vector, truth, rtol=0, atol=VECTORS_LIMIT, err_msg=case["id"])


def test_rows_of_the_language_side(goldens: dict[str, Golden]) -> None:
    images = goldens["jina-v4"]
    vision = opened(images.model)._vision
    for case in images.cases:
        number = case["image"]
        [row] = vision.rows([images.patches(number, vision.spec)])
        np.testing.assert_array_equal(row.ids, images.expected[f"ids/{case['id']}"])
        np.testing.assert_array_equal(row.coordinates.T, images.expected[f"mrope_position_ids/image{number}"])


@models
@pytest.mark.parametrize("dtype", LEAST)
def test_compute_types(name: str, dtype: str, goldens: dict[str, Golden]) -> None:
    images = goldens[name]
    encoder = opened(images.model, dtype=dtype)
    inputs = [images.image(case["image"]) for case in images.cases]
    vectors = encoder.encode(inputs, task=[case["task"] for case in images.cases])
    truth = np.stack([images.expected[f"emb/{case['id']}"] for case in images.cases])
    assert cosine(vectors, truth) >= LEAST[dtype], cosine(vectors, truth)


@models
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_an_input_alone_and_in_any_list(name: str, dtype: str, goldens: dict[str, Golden]) -> None:
    """Images and texts in any order and any batch: the same bits."""
    images = goldens[name]
    encoder = opened(images.model, dtype=dtype)
    inputs = [images.images[0], TEXTS[0], images.images[3], images.images[1], TEXTS[1], images.images[2]]
    tasks = ["retrieval", "code", "text-matching", "code", None, "base"] if encoder.spec.tasks.is_required else None
    if tasks is not None:
        tasks[4] = "retrieval"
    alone = [encoder.encode(one, task=None if tasks is None else tasks[i]) for i, one in enumerate(inputs)]
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [1, 1, 0, 4, 0]):
        for options in ({}, {"batch_tokens": 20}, {"batch_size": 1}):
            own = None if tasks is None else [tasks[place] for place in order]
            found = encoder.encode([inputs[place] for place in order], task=own, **options)
            for place, vector in zip(order, found, strict=True):
                np.testing.assert_array_equal(vector, alone[place])


def test_token_vectors_alone_and_in_any_list(goldens: dict[str, Golden]) -> None:
    images = goldens["jina-v4"]
    multi = opened(images.model, MultiVectorEncoder)
    inputs = [images.images[3], TEXTS[0], images.images[0], TEXTS[1]]
    together = multi.encode_documents(inputs)
    for one, vectors in zip(inputs, together, strict=True):
        np.testing.assert_array_equal(multi.encode_documents([one])[0], vectors)
        np.testing.assert_array_equal(multi.encode_documents(one, batch_tokens=7), vectors)


@models
def test_many_images_go_through_in_blocks(
    name: str, goldens: dict[str, Golden], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = goldens[name]
    encoder = opened(images.model)
    inputs = [images.images[number % 3] for number in range(7)] + TEXTS
    task = "retrieval" if encoder.spec.tasks.is_required else None
    at_once = encoder.encode(inputs, task=task)
    monkeypatch.setattr("longspan.pipeline.vision.BLOCK_BYTES", 1)
    assert encoder._vision.images_per_block == 1
    np.testing.assert_array_equal(encoder.encode(inputs, task=task), at_once)


@models
def test_every_form_of_an_image(name: str, goldens: dict[str, Golden], tmp_path: Path) -> None:
    images = goldens[name]
    encoder = opened(images.model)
    options = {"task": "retrieval"} if encoder.spec.tasks.is_required else {}
    pixels = images.images[1]
    truth = encoder.encode(pixels, **options)
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    assert encoder.modalities == ("text", "image")
    for same in (Image.fromarray(pixels), {"image": pixels}, {"image": str(path)}, {"image": [path]}):
        np.testing.assert_array_equal(encoder.encode(same, **options), truth)
        np.testing.assert_array_equal(encoder.encode([same], **options), truth[None])
    for same in (str(path), path, path.read_bytes()):
        np.testing.assert_array_equal(encoder.encode(same, modality="image", **options), truth)
        np.testing.assert_array_equal(encoder.encode_document([same], modality="image", **options), truth[None])
    # A str is a text, whatever it names.
    as_text = encoder.encode(str(path), **options)
    assert not np.array_equal(as_text, truth)
    np.testing.assert_array_equal(encoder.encode({"text": str(path)}, **options), as_text)
    np.testing.assert_array_equal(encoder.encode(np.stack([pixels, pixels]), **options), np.stack([truth, truth]))


def test_results_in_the_forms_of_encode(goldens: dict[str, Golden]) -> None:
    images = goldens["jina-clip-v2"]
    encoder = opened(images.model)
    mixed = [TEXTS[0], images.images[0]]
    vectors = encoder.encode(mixed)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    raw = encoder.encode(mixed, normalize_embeddings=False)
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), vectors, rtol=1e-6)
    assert encoder.encode(mixed, precision="ubinary").shape == (2, 8)
    np.testing.assert_array_equal(encoder.encode_query(mixed), encoder.encode_query(mixed[::-1])[::-1])
    states = encoder.encode(images.images[0], output_value="token_embeddings")
    assert states.shape == (26, 64)
    np.testing.assert_allclose(states[0] / np.linalg.norm(states[0]), vectors[1], rtol=0, atol=1e-6)


def test_pages_are_ranked(goldens: dict[str, Golden]) -> None:
    images = goldens["jina-v4"]
    multi = opened(images.model, MultiVectorEncoder)
    ranked = multi.rank(TEXTS[0], images.images, top_k=3)
    by_hand = multi.score([multi.encode_queries(TEXTS[0])], multi.encode_documents(images.images))[0]
    assert [one.document for one in ranked] == np.argsort(-by_hand, kind="stable")[:3].tolist()
    again = multi.rank(images.images[0], images.images, top_k=1)
    assert again[0].document == 0


@models
def test_pixels_that_are_not_the_usual_ones_count(name: str, goldens: dict[str, Golden], tmp_path: Path) -> None:
    """What a preprocessor's file changes in every image's vector, but not what it says as the published one does."""
    copy = shutil.copytree(goldens[name].model, tmp_path / "model")
    file = copy / "preprocessor_config.json"
    found = []
    for changes in ({}, {"image_mean": [0.5] * 3, "mean": [0.5] * 3}):
        usual = {"max_pixels": 602112} if name == "jina-v4" else {}
        file.write_text(json.dumps({**json.loads(file.read_text()), **usual, **changes}))
        found.append(Encoder(copy).fingerprint)
    assert Encoder(copy, modalities=("text",)).fingerprint == found[1]
    file.unlink()
    assert Encoder(copy).fingerprint == found[0] != found[1]


@models
def test_texts_alone_need_no_tower(name: str, goldens: dict[str, Golden]) -> None:
    model = goldens[name].model
    whole, texts_alone = opened(model), Encoder(model, modalities=("text",))
    assert texts_alone.modalities == ("text",) and texts_alone.spec.vision is None
    assert texts_alone.fingerprint == whole.fingerprint
    options = {"task": "retrieval"} if whole.spec.tasks.is_required else {}
    np.testing.assert_array_equal(texts_alone.encode(TEXTS, **options), whole.encode(TEXTS, **options))
    with pytest.raises(ValueError, match=r"encode: inputs\[1\] is an image, but this model reads text alone"):
        texts_alone.encode([TEXTS[0], goldens[name].images[0]], **options)


BAD: list[tuple[object, dict[str, object], type[Exception], str]] = [
    ([b"x"], {}, TypeError, r"inputs\[0\] is bytes; give modality="),
    (["a", 3], {}, TypeError, r"inputs\[1\] must be a str, an image .*, or a dict of them, got int"),
    ([np.zeros((3, 4, 3))], {}, TypeError, r"inputs\[0\] must be .* got \(3, 4, 3\) float64"),
    ([{}], {}, ValueError, r"inputs\[0\] must have at least one part, got an empty dict"),
    ([{"picture": 1}], {}, ValueError, r"inputs\[0\] must have keys of 'text', 'image', .* got 'picture'"),
    ([{"text": 1}], {}, TypeError, r"inputs\[0\]\['text'\] must be a str, got int"),
    ([{"audio": "x.wav"}], {}, ValueError, r"inputs\[0\]\['audio'\] is sound, but this model reads text and image"),
    ([{"image": 5}], {}, TypeError, r"inputs\[0\]\['image'\] must be an image: .* got int"),
    ([{"text": "a", "image": np.zeros((9, 9, 3), np.uint8)}], {}, ValueError, r"has 2 parts, but this model makes"),
    (["a"], {"modality": "audio"}, ValueError, "modality must be None or one of 'text', 'image', .* got 'audio'"),
    (["no/such.png"], {"modality": "image"}, FileNotFoundError, r"inputs\[0\]: no/such.png is missing"),
    ([b"no image"], {"modality": "image"}, ValueError, r"inputs\[0\] cannot be decoded as one of PNG"),
    ([np.zeros((0, 4, 3), np.uint8)], {}, ValueError, r"inputs\[0\] must have at least one pixel, got 4 x 0"),
    ([np.zeros((3, 4, 2), np.uint8)], {}, ValueError, r"inputs\[0\] must be \(height, width, 3\) uint8"),
    ([np.zeros((1, 201, 3), np.uint8)], {}, ValueError, "none is more than 200 times the other, got 201 x 1"),
]


@pytest.mark.parametrize("inputs, options, error, message", BAD, ids=[message[:30] for *_, message in BAD])
def test_bad_inputs(
    inputs: object, options: dict[str, object], error: type[Exception], message: str, goldens: dict[str, Golden]
) -> None:
    with pytest.raises(error, match=message):
        opened(goldens["jina-clip-v2"].model).encode(inputs, **options)
    with pytest.raises(error, match=message):
        opened(goldens["jina-v4"].model, MultiVectorEncoder).encode_documents(inputs, **options)


def test_a_truncated_file_is_one_sentence(goldens: dict[str, Golden], tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(goldens["jina-v4"].images[3]).save(file, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    encoder = opened(goldens["jina-clip-v2"].model)
    with pytest.raises(ValueError, match=r"encode: inputs\[1\]\['image'\]: .*cut.jpg cannot be decoded .* truncated"):
        encoder.encode([goldens["jina-v4"].images[0], {"image": tmp_path / "cut.jpg"}])


def test_models_of_text_refuse_images(golden: Path) -> None:
    encoder = opened(golden / "bert-minilm")
    assert encoder.modalities == ("text",)
    with pytest.raises(ValueError, match=r"inputs\[0\] is an image, but this model reads text alone"):
        encoder.encode([np.zeros((9, 9, 3), np.uint8)])
    with pytest.raises(ValueError, match="modalities must be None, or 'text' and others of 'text', got"):
        Encoder(golden / "bert-minilm", modalities=("image",))
