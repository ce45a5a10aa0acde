"""Sounds, videos, pages and mixtures of them in `/v1/embeddings` and `/v2/embed`, by a model that joins them."""

from __future__ import annotations

import base64
import io
import threading
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from live_server import Live, golden
from longspan import Encoder
from longspan.images.pages import PdfPages
from longspan.serve import media

Image = pytest.importorskip("PIL.Image", reason="pip install 'longspan[images]'")
pytest.importorskip("pypdfium2", reason="pip install 'longspan[images]'")
pytest.importorskip("soundfile", reason="pip install 'longspan[audio]'")
RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 256, (70, 90, 3), np.uint8)
COUNTED = 'te_request_failure{err="batch_size"'
TASK = {"model": "omni", "task": "retrieval.passage"}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(golden("jina-v5-omni-nano"))


def png(pixels: np.ndarray = PICTURE) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sound(seconds: float = 1.0) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1), written.setsampwidth(2), written.setframerate(16_000)
        written.writeframes((9000 * np.sin(np.arange(int(16_000 * seconds)) / 9)).astype("<i2").tobytes())
    return file.getvalue()


def document() -> bytes:
    file = io.BytesIO()
    pages = [Image.fromarray(picture) for picture in (PICTURE, PICTURE[::-1])]
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:])
    return file.getvalue()


def coded(file: bytes) -> str:
    return base64.b64encode(file).decode()


def vectors(answer: Any) -> np.ndarray:
    assert answer.status == 200, answer.body
    return np.array([item["embedding"] for item in answer.json["data"]], np.float32)


def test_every_form_of_an_item(live: Live, encoder: Encoder) -> None:
    prompt = encoder.prompts["document"]
    mixed = ({"text": "a wall"}, {"image": png()}, {"audio": sound()})
    items = {
        "sound": ({"audio": coded(sound())}, {"audio": sound()}),
        "a data URI": ({"audio": f"data:audio/wav;base64,{coded(sound())}"}, {"audio": sound()}),
        "OpenAI's": (
            {"type": "input_audio", "input_audio": {"data": coded(sound()), "format": "wav"}},
            {"audio": sound()},
        ),
        "pages": ({"pdf": coded(document())}, PdfPages(document())),
        "a type": ({"type": "image_base64", "image_base64": {"base64": coded(png())}}, {"image": png()}),
        "a value": ({"type": "image", "format": "base64", "value": coded(png())}, {"image": png()}),
        "fields": ({"text": "a wall", "image": coded(png()), "audio": coded(sound())}, mixed),
        "content": (
            {
                "content": [
                    {"type": "text", "text": "a wall"},
                    {"type": "image", "format": "base64", "value": coded(png())},
                    {"audio": coded(sound())},
                ]
            },
            mixed,
        ),
        "a text with a field of the client's": ({"text": "a wall", "url": "https://a.example"}, "a wall"),
        "texts": ({"content": ["a ", {"text": "wall"}]}, "a wall"),
    }
    sent, given = zip(*items.values(), strict=True)
    answer = live.post("/v1/embeddings", {**TASK, "input": list(sent)})
    options: dict[str, Any] = {"task": "retrieval", "prompt": prompt}
    truth = encoder.encode(list(given), normalize_embeddings=True, **options)
    for name, found, wanted in zip(items, vectors(answer), truth, strict=True):
        assert np.array_equal(found, wanted), name
    states = encoder.encode(list(given), output_value="token_embeddings", **options)
    assert answer.json["usage"]["total_tokens"] == sum(len(each) for each in states)


def test_videos(live: Live, encoder: Encoder) -> None:
    av = pytest.importorskip("av", reason="pip install 'longspan[video]'")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for shift in range(6):
            pixels = np.full((48, 64, 3), 30 * shift, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    answer = live.post("/v1/embeddings", {**TASK, "input": {"video": coded(file.getvalue())}})
    options: dict[str, Any] = {"task": "retrieval", "prompt": encoder.prompts["document"], "normalize_embeddings": True}
    assert np.array_equal(vectors(answer), encoder.encode([{"video": file.getvalue()}], **options))


def test_cohere_joins_parts(live: Live, encoder: Encoder) -> None:
    content = [{"type": "text", "text": "a wall"}, {"type": "image_url", "image_url": {"url": coded(png())}}]
    body = {"model": "omni", "input_type": "search_document", "inputs": [{"content": content}]}
    answer = live.post("/v2/embed", body)
    item = ({"text": "a wall"}, {"image": png()})
    truth = encoder.encode([item], task="retrieval", prompt=encoder.prompts["document"], normalize_embeddings=True)
    assert np.array_equal(np.array(answer.json["embeddings"]["float"], np.float32), truth)


def test_a_sound_that_is_cut(live: Live) -> None:
    body = {**TASK, "input": ["a text", {"audio": coded(sound(40))}]}
    refused = live.post("/v1/embeddings", body)
    assert refused.status == 400 and "input[1] has a sound that is longer" in refused.json["error"]["message"]
    cut = live.post("/v1/embeddings", {**body, "truncate": True})
    assert cut.status == 200 and cut.headers["x-longspan-truncated"] == "1; first=1"


@pytest.mark.parametrize(
    "item, status, words",
    [
        ({"audio": coded(b"no sound")}, 400, "input[0] cannot be decoded"),
        ({"video": coded(b"no video")}, 400, "input[0] cannot be decoded"),
        ({"audio": "no base64!"}, 400, "input[0] is no base64"),
        ({"audio": "https://a.example/b.wav"}, 400, "no URL is fetched"),
        (
            {"content": [{"image": coded(png())}, {"video_url": {"url": "file:///etc/passwd"}}]},
            400,
            "no URL is fetched",
        ),
        ({"content": [{"image": coded(png())}, 3]}, 422, "input[0].content[1] must be a string or an object"),
        ({"content": []}, 422, "must hold one of text, image, pdf, audio, video"),
        ({"audio": {"seconds": 3}}, 422, "must hold audio as a string"),
        ({"content": [{"image": coded(png()), "text": "<|audio_pad|>"}]}, 400, "stands for media"),
        ({"content": ["word " * 40_000, {"image": coded(png())}]}, 400, "tokens"),
        ({"content": [{"image": "x"}] * 300}, 422, "must have at most 256 parts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_media(live: Live, item: Any, status: int, words: str) -> None:
    answer = live.post("/v1/embeddings", {**TASK, "input": [item]})
    assert answer.status == status and words in answer.json["error"]["message"], answer.body


def limited(live: Live, monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    monkeypatch.setattr(live.app.service, "settings", replace(live.app.service.settings, **limits))


def test_seconds_and_pixels_are_bounded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*items: Any) -> Any:
        return live.post("/v1/embeddings", {**TASK, "input": list(items)})

    def refused() -> float:
        lines = live.get("/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(COUNTED))

    before = refused()
    limited(live, monkeypatch, max_request_seconds=2, max_request_pixels=2 * PICTURE.shape[0] * PICTURE.shape[1])
    assert ask({"audio": coded(sound(1))}, {"image": coded(png())}, {"image": coded(png())}).status == 200
    assert ask({"audio": coded(sound(1))}, {"audio": coded(sound(1))}).status == 200  # exactly so much
    together = "all that is given together may have 2 seconds of sound; shorten it, or send several requests"
    for items, place, said in (
        ([{"audio": coded(sound(2.1))}], 0, together),
        ([{"audio": coded(sound(1))}, {"audio": coded(sound(1.1))}], 1, together),
        ([{"image": coded(png())}] * 3, 2, "may have 12600 pixels in images and frames"),
    ):
        answer = ask(*items)
        message = answer.json["error"]["message"]
        assert answer.status == 400 and message.startswith(f"input[{place}] is too ") and said in message
    clip = live.post("/v1/embeddings", {"model": "clip", "input": [{"image": coded(png())}] * 3})
    assert clip.status == 400 and "input[2] is too large" in clip.json["error"]["message"]
    assert refused() == before + 4


@pytest.mark.parametrize("ending", ["\r\n", "\n", " \t\n"])
def test_base64_in_lines(live: Live, ending: str) -> None:
    """As `base64.encodebytes` and openssl write it, 76 columns and 64."""
    whole = {"audio": coded(sound()), "image": coded(png())}
    inputs: list[Any] = [whole]
    for columns in (76, 64):
        item = {}
        for name, text in whole.items():
            lines = [text[start : start + columns] for start in range(0, len(text), columns)]
            item[name] = ending.join(["", *lines, ""])
        item["image"] = f"data:image/png;base64,{item['image']}"
        inputs.append(item)
    found = vectors(live.post("/v1/embeddings", {**TASK, "input": inputs}))
    assert np.array_equal(found[1], found[0]) and np.array_equal(found[2], found[0])


@pytest.mark.parametrize("wrong", ["QUJ", "QU=JD", "QUJ-", "QUJ_", "QUJ\u00e9", "QUJD\u00a0", "\x00QUJD"])
def test_other_base64_is_refused(live: Live, wrong: str) -> None:
    answer = live.post("/v1/embeddings", {**TASK, "input": [{"image": wrong}]})
    assert answer.status == 400
    assert answer.json["error"]["message"] == (
        "input[0] is no base64 of A to Z, a to z, 0 to 9, + and /, filled up with ="
    )


def test_no_text_waits_for_media(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are tokenized while all threads for media are at work."""
    gate, at_work = threading.Event(), threading.Semaphore(0)

    def slow(file: bytes, name: str) -> int:
        at_work.release()
        assert gate.wait(20)
        return 1

    monkeypatch.setattr(media, "image_pixels", slow)
    body = {**TASK, "input": {"image": coded(png())}}
    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(live.post, "/v1/embeddings", body) for _ in range(3)]
        try:
            for _ in range(live.app.settings.tokenizer_threads):
                assert at_work.acquire(timeout=20)
            text = live.post("/v1/embeddings", {"model": "minilm", "input": "word " * 5000, "truncate": True})
            assert text.status == 200 and not any(each.done() for each in asked)
        finally:
            gate.set()
        assert {each.result().status for each in asked} == {200}


def test_what_other_models_say(live: Live) -> None:
    both = {"text": "a wall", "image": coded(png())}
    for name, item, words in (
        ("clip", both, "input[0] has 2 parts, and clip makes a vector of one"),
        ("clip", {"audio": coded(sound())}, "clip reads no sound, but text and image"),
        ("minilm", both, "minilm reads no images or pages, but text"),
        ("minilm", {"video": "AA=="}, "minilm reads no videos, but text"),
    ):
        answer = live.post("/v1/embeddings", {"model": name, "input": [item]})
        assert answer.status == 400 and words in answer.json["error"]["message"], answer.body
    base = live.post("/v1/embeddings", {"model": "omni", "task": "base", "input": [both]})
    assert base.status == 400 and "for input[0], which has media" in base.json["error"]["message"]
