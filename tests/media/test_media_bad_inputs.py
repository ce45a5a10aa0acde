"""Media that `Encoder.encode` refuses, each in one sentence."""

from __future__ import annotations

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, PdfPage, PdfPages
from longspan.packing.media import Mel, Patches
from longspan.pipeline import blocks
from longspan.pipeline.inputs import Part
from longspan.pipeline.sequences import MediaReader
from media_models import SIZES, Goldens, Opened

pictures = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


sizes = pytest.mark.parametrize("size", SIZES)


@pytest.mark.parametrize("bytes_", [1, 1 << 27])
def test_what_is_not_finite_is_named(
    bytes_: int, goldens: Goldens, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its place in the call, wherever it lies in a block."""
    omni, read = goldens["small"], MediaReader._read

    def spoilt(self: MediaReader, part: Part) -> Patches | Mel:
        found = read(self, part)
        return replace(found, values=found.values * np.float32(1e38)) if "[4]" in part.name else found

    monkeypatch.setattr(MediaReader, "_read", spoilt)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", bytes_)
    image, sound = omni.image(1), omni.sound("odd")
    for last in (omni.image(4), omni.sound("chunk+1")):
        with pytest.raises(ValueError, match=r"^inputs\[4\] gives a vector that is not finite"):
            opened["small"].encode([image, "a", sound, (sound, image), last], task="retrieval")


def closed() -> io.BytesIO:
    file = io.BytesIO(b"RIFF")
    file.close()
    return file


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    pictures.fromarray(np.tile(image, (4, 4, 1))).save(file, "PNG")
    return file.getvalue()


BAD = {
    "axes": (
        lambda _: [np.zeros((2, 2, 2, 2), np.float32)],
        ValueError,
        r"inputs\[0\] must be \(frames, height",
    ),
    "frame": (
        lambda omni: [omni.video(0)[:1]],
        ValueError,
        r"inputs\[0\] must have at least two frames, got 1",
    ),
    "short": (lambda omni: ["a", omni.sound("1s")[:300]], ValueError, r"inputs\[1\] must have at least 321 samples"),
    "absent": (lambda _: [{"audio": "nowhere.wav"}], FileNotFoundError, "nowhere.wav"),
    "key": (lambda _: [{"sound": 1}], ValueError, r"inputs\[0\] must have keys of 'text', 'image', 'audio', 'video'"),
    "empty dict": (lambda _: [{}], ValueError, r"inputs\[0\] must have at least one part, got an empty dict"),
    "empty tuple": (lambda _: [()], ValueError, r"inputs\[0\] must have at least one part, got an empty tuple"),
    "empty list": (lambda _: [{"image": []}], ValueError, r"inputs\[0\] must have at least one part"),
    "number": (
        lambda omni: [(omni.image(0), 3j)],
        TypeError,
        r"inputs\[0\]\[1\] must be a str, an image .* a sound .*",
    ),
    "bytes": (lambda _: [("a", b"bytes")], TypeError, r"inputs\[0\]\[1\] is bytes; give modality= to say what"),
    "text": (lambda _: [{"text": 3}], TypeError, r"inputs\[0\]\['text'\] must be a str, got int"),
    "pad": (lambda omni: [("<|image_pad|><image>", omni.image(0))], ValueError, r"inputs\[0\] has a text that"),
    "pages": (
        lambda omni: [{"image": [omni.image(2)] * 700}],
        ValueError,
        r"more than 4096 tokens for media alone",
    ),
    "words": (
        lambda omni: [("word " * 5000, omni.image(2))],
        ValueError,
        r"tokens, 6 of them for media, .* 4096",
    ),
    "bytes as text": (
        lambda _: [b"words"],
        TypeError,
        r"inputs\[0\] must be a str, as modality says, got bytes",
        "text",
    ),
    "file as text": (lambda _: [io.BytesIO(b"a")], TypeError, r"must be a str, as modality says, got BytesIO", "text"),
    "one file": (lambda _: io.BytesIO(b""), ValueError, r"^encode: inputs\[0\] cannot be decoded as a s", "audio"),
    "characters": (
        lambda _: [{"audio": io.StringIO("RIFF")}],
        TypeError,
        r"^encode: inputs\[0\]\['audio'\] must be a file of bytes, opened with mode 'rb', got StringIO",
    ),
    "closed": (
        lambda _: [{"video": closed()}],
        ValueError,
        r"^encode: inputs\[0\]\['video'\] must be a file that can be",
    ),
    "address": (
        lambda _: [{"image": "data:image/png;base64," + "A" * 9999}],
        FileNotFoundError,
        r"^encode: inputs\[0\]\['image'\]: data:.{200,300} is missing, or is not a file$",
    ),
    "long name": (lambda _: [{"video": "x" * 9999}], FileNotFoundError, r"^encode: .{200,300} is missing, or is not a"),
    "half a file": (
        lambda omni: [pictures.open(io.BytesIO(png(omni.image(0))[:600]))],
        ValueError,
        r"^encode: inputs\[0\] cannot be decoded: image file is truncated",
    ),
    "page": (
        lambda _: [{"video": [PdfPage("nowhere", 1)] * 2}],
        FileNotFoundError,
        r"^encode: .*\[0\]: nowhere is miss",
    ),
    "pages of": (lambda _: [PdfPages(3)], TypeError, r"^encode: inputs\[0\] must be of a path or of a file's bytes"),
    "large numbers": (
        lambda _: [{"audio": [10**400] * 999}],
        ValueError,
        r"^encode: .* must have samples that are num",
    ),
    "surrogate": (lambda omni: [(omni.image(0), "\ud800")], ValueError, r"has a lone surrogate"),
}


@sizes
@pytest.mark.parametrize("name", BAD)
def test_bad_inputs(size: str, name: str, goldens: Goldens, opened: Opened) -> None:
    make, error, message, *modality = BAD[name]
    with pytest.raises(error, match=message):
        opened[size].encode(make(goldens[size]), task="retrieval", modality=modality[0] if modality else None)
    assert opened[size].encode("still there", task="retrieval").shape == (opened[size].dim,)


def test_tasks_without_connectors(goldens: Goldens) -> None:
    omni = goldens["nano"]
    encoder = Encoder(omni.model)
    encoder.load_adapter("mine", omni.model / "adapters" / "retrieval")
    for task in ("base", "mine"):
        with pytest.raises(ValueError, match=r"inputs\[1\] has media, .* task must be one of 'retrieval', "):
            encoder.encode(["a", {"image": omni.image(0)}], task=["retrieval", task])
    assert encoder.encode(["a", "b"], task=["base", "mine"]).shape == (2, encoder.dim)
    with pytest.raises(ValueError, match="task must be one of 'retrieval'"):
        encoder.encode([omni.image(0)])


def test_whatever_is_given_is_read_or_refused_in_one_sentence(opened: Opened) -> None:
    """Things of any kind, in lists, tuples and dicts of each other."""
    rng = random.Random(7)
    image, sound = np.full((40, 40, 3), 9, np.uint8), np.zeros(4000, np.float32)
    leaves = [
        *("words", "\ud800", "<|image_pad|>", b"bytes", None, 3, 2.5, object(), range(3), Path("nowhere")),
        *(
            image,
            image[None].repeat(3, 0),
            sound,
            sound[:5],
            sound[:0],
            sound.astype(bool),
            np.array(["a"]),
            np.array(1),
        ),
        *(PdfPages("nowhere.pdf"), PdfPage(Path("nowhere"), 1), (sound, 16000), np.zeros((0, 4, 3), np.uint8)),
        *({"array": sound, "sampling_rate": rate} for rate in (16000, 0, -1, "x", 1e9, None)),
        {"array": None},
    ]

    def some(depth: int) -> object:
        kind = rng.random()
        if depth == 0 or kind < 0.5:
            return rng.choice(leaves)
        several = [some(depth - 1) for _ in range(rng.randint(0, 3))]
        if kind < 0.8:
            return several if kind < 0.65 else tuple(several)
        return {rng.choice(["text", "image", "audio", "video", "array", 1]): one for one in several}

    refused = []
    for _ in range(400):
        given, modality = some(3), rng.choice([None, None, "text", "image", "audio", "video"])
        try:
            opened["nano"].encode(given, task="retrieval", modality=modality)
        except (TypeError, ValueError, FileNotFoundError) as error:
            refused.append(str(error))
    assert 40 < len(refused) < 360
    assert [said for said in refused if not re.match(r"encode: |texts must be ", said)] == []
