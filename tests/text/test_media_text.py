"""The string in which media stand: markers, time stamps, one pad for all, tokens that are no media's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longspan import CheckpointError, Encoder
from longspan.models.sequence_spec import MediaTokens, SequenceSpec
from longspan.text.media_text import MediaTokenizer, Run
from longspan.text.tokenizer import TextTokenizer

KINDS = ("image", "audio", "video")


@pytest.fixture(scope="module")
def encoders(golden: Path) -> dict[str, Encoder]:
    models = {size: golden / f"jina-v5-omni-{size}" / "model" for size in ("small", "nano")}
    return {size: Encoder(model, modalities=("text",)) for size, model in models.items()}


def tokens_of(encoder: Encoder, spec: SequenceSpec | None = None) -> MediaTokenizer:
    tokenizer: TextTokenizer = encoder.tokenizer
    return MediaTokenizer(spec or encoder.spec.sequence, tokenizer, KINDS, tokenizer.source)


def spelled(encoder: Encoder, ids: np.ndarray) -> str:
    return "".join(encoder.tokenizer.backend.id_to_token(int(number)) for number in ids)


def test_markers_and_the_end_of_each_size(encoders: dict[str, Encoder]) -> None:
    small, nano = (tokens_of(encoders[size]) for size in ("small", "nano"))
    spec = small.spec
    text = small.tokenize(["hi", Run(spec.image, 2), Run(spec.audio, 3)], "inputs[0]")
    hi = encoders["small"].tokenizer.bare_ids(["hi"])[0].tolist()
    image = [spec.image.start, *[spec.image.pad] * 2, spec.image.end]
    audio = [spec.audio.start, *[spec.audio.pad] * 3, spec.audio.end]
    assert text.ids.tolist() == [*hi, *image, *audio]
    assert text.places.tolist() == [place for place, number in enumerate(text.ids) if number in (486, 488)]
    spec = nano.spec
    text = nano.tokenize([Run(spec.image, 2), Run(spec.video, 1)], "inputs[0]")
    [end] = encoders["nano"].tokenizer.encode([""])[0].ids
    assert text.ids.tolist() == [*[spec.image.pad] * 3, end]
    assert text.places.tolist() == [0, 1, 2]


@pytest.mark.parametrize("num_frames, stamps", [(2, "0.0"), (3, "0.0 0.1"), (4, "0.0 0.1"), (7, "0.0 0.1 0.2 0.2")])
def test_times_of_pairs(num_frames: int, stamps: str, encoders: dict[str, Encoder]) -> None:
    """(4 k + 1) / 48 seconds, and the last frame's own time where it stands alone: 6 / 24 is a quarter, and even."""
    tokens = tokens_of(encoders["small"])
    pairs = -(-num_frames // 2)
    pieces = tokens.video(num_frames, pairs, 3 * pairs, outer_markers=False)
    assert pieces[::2] == [f"<{stamp} seconds>" for stamp in stamps.split()]
    assert pieces[1::2] == [Run(tokens.spec.video, 3)] * pairs
    outer = tokens.video(num_frames, pairs, 3 * pairs, outer_markers=True)
    assert outer == ["<|vision_start|>", *pieces, "<|vision_end|>"]


def test_videos_without_time_stamps_are_one_run(encoders: dict[str, Encoder]) -> None:
    tokens = tokens_of(encoders["nano"])
    for outer in (False, True):
        assert tokens.video(7, 4, 12, outer_markers=outer) == [Run(tokens.spec.video, 12)]


def test_32_frames_count_seconds_as_published(encoders: dict[str, Encoder]) -> None:
    pieces = tokens_of(encoders["small"]).video(32, 16, 16, outer_markers=False)
    assert pieces[::2][:7] == [f"<{stamp} seconds>" for stamp in ("0.0", "0.1", "0.2", "0.3", "0.4", "0.4", "0.5")]


@pytest.mark.parametrize("size", ["small", "nano"])
def test_one_pad_stands_for_any_number(size: str, encoders: dict[str, Encoder]) -> None:
    """As if each were spelled out, with white space and words around."""
    tokens, encoder = tokens_of(encoders[size]), encoders[size]
    for before, behind in (("", ""), ("a ", " b"), ("two  ", "\n"), ("über", "\u6771\u4eac ")):
        text = tokens.tokenize([before, Run(tokens.spec.image, 5), behind], "inputs[0]")
        pad = tokens._strings[tokens.spec.image.pad]
        image = tokens._run(Run(tokens.spec.image, 1)).replace(pad, pad * 5)
        [truth] = encoder.tokenizer.encode([f"{before}{image}{behind}"])
        np.testing.assert_array_equal(text.ids, truth.ids)


@pytest.mark.parametrize("size", ["small", "nano"])
def test_a_pad_in_a_text_beside_media_is_refused(size: str, encoders: dict[str, Encoder]) -> None:
    tokens = tokens_of(encoders[size])
    for pad in {tokens.spec.image.pad, tokens.spec.audio.pad}:
        literal = tokens._strings[pad]
        with pytest.raises(ValueError, match=r"^encode: inputs\[7\] has a text that spells out a token .* leave"):
            tokens.tokenize([f"a {literal} here", Run(tokens.spec.image, 2)], "encode: inputs[7]")
    ends = tokens._strings[tokens.spec.audio.end]
    assert len(tokens.tokenize([f"an {ends} is harmless", Run(tokens.spec.image, 2)], "inputs[0]").places) == 2


def test_a_tokenizer_without_a_token_for_media_is_refused(encoders: dict[str, Encoder]) -> None:
    encoder = encoders["small"]
    spec = encoder.spec.sequence
    with pytest.raises(CheckpointError, match="must have one token with the id 9999, .* for audio"):
        tokens_of(encoder, replace(spec, audio=MediaTokens(9999)))
    word = int(encoder.tokenizer.bare_ids(["a"])[0][0])
    byte = encoder.tokenizer.token_id("\u0120") or encoder.tokenizer.token_id("\u00c3")
    assert tokens_of(encoder, replace(spec, audio=MediaTokens(word)))  # one token, though a plain one
    with pytest.raises(CheckpointError, match="which config.json names for image"):
        tokens_of(encoder, replace(spec, image=MediaTokens(int(byte))))
