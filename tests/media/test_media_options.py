"""How `Encoder.encode` may be told to read media: modalities, options, prompts."""

from __future__ import annotations

import json
import pickle
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MediaOptions
from media_models import Goldens, Opened

pictures = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def test_what_modalities_leave_out(goldens: Goldens, opened: Opened) -> None:
    """The towers that nothing wanted needs; texts, and the fingerprint, stay what they are."""
    omni, whole = goldens["small"], opened["small"]
    values = {"audio": omni.sound("odd"), "image": omni.image(1), "video": omni.video(2)}
    for wanted in (("text",), ("text", "audio"), ("text", "image"), ("video", "text")):
        part = Encoder(omni.model, modalities=wanted)
        assert part.modalities == tuple(sorted(wanted, key=whole.modalities.index))
        assert (part._vision is None) == (not {"image", "video"} & {*wanted})
        assert (part._audio is None) == ("audio" not in wanted)
        np.testing.assert_array_equal(part.encode_query("a text"), whole.encode_query("a text"))
        assert part.fingerprint == whole.fingerprint
        for modality, value in values.items():
            given = [{"text": "beside", modality: value}]
            if modality in wanted:
                np.testing.assert_array_equal(part.encode_document(given), whole.encode_document(given))
            else:
                with pytest.raises(ValueError, match=r"inputs\[0\]\['\w+'\] is .*, but this model reads "):
                    part.encode_document(given)
    with pytest.raises(ValueError, match="modalities must be None, or 'text' and others of 'text', 'image', 'au"):
        Encoder(omni.model, modalities=("audio",))
    with pytest.raises(TypeError, match="Encoder: modalities must be None or several str, got int"):
        Encoder(omni.model, modalities=3)


def test_options_shape_vectors_and_fingerprints(goldens: Goldens, opened: Opened) -> None:
    omni, default = goldens["small"], opened["small"]
    given = [{"audio": omni.sound("odd"), "image": omni.image(1)}]
    plain = default.encode_query(given)
    for media in (MediaOptions(prompts="all"), MediaOptions(wrapper="chat"), MediaOptions(audio_padding="30s")):
        other = Encoder(omni.model, media=media)
        assert other.fingerprint != default.fingerprint
        assert np.abs(other.encode_query(given) - plain).max() > 1e-3
        np.testing.assert_array_equal(other.encode_query(given), default.encode_query(given, media=media))
        np.testing.assert_array_equal(other.encode_query(given, media=MediaOptions()), plain)
        np.testing.assert_array_equal(other.encode_query("words"), default.encode_query("words"))
    again = pickle.loads(pickle.dumps(other))
    np.testing.assert_array_equal(again.encode_query(given), other.encode_query(given))
    assert Encoder(omni.model, media=MediaOptions()).fingerprint == default.fingerprint
    with pytest.raises(ValueError, match="MediaOptions: wrapper must be one of 'bare', 'chat', got 'qwen'"):
        MediaOptions(wrapper="qwen")
    with pytest.raises(TypeError, match="MediaOptions: there is no argument 'prompt'; did you mean 'prompts'"):
        MediaOptions(prompt="all")
    with pytest.raises(TypeError, match="encode: media must be a longspan.MediaOptions or None, got dict"):
        default.encode_query(given, media={"wrapper": "chat"})


@pytest.mark.parametrize("name", ["preprocessor_config.json", "video_preprocessor_config.json"])
def test_limits_of_pixels_shape_fingerprints(name: str, goldens: Goldens, opened: Opened, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(goldens["small"].model, tmp_path / "copy"))
    assert Encoder(copy).fingerprint == opened["small"].fingerprint
    settings = json.loads((copy / name).read_text())
    settings["size"]["longest_edge"] += 1024
    (copy / name).unlink()
    (copy / name).write_text(json.dumps(settings))
    whole, texts = Encoder(copy), Encoder(copy, modalities=("text",))
    assert whole.fingerprint == texts.fingerprint != opened["small"].fingerprint


def test_options_for_models_that_have_no_use_for_them(golden: Path) -> None:
    encoder = Encoder(golden / "jina-clip-v2" / "model", media=MediaOptions())
    for make in (partial(encoder.encode, "a"), partial(Encoder, encoder.folder)):
        with pytest.raises(ValueError, match="media is for models .* and jina-clip-v2 does not; leave out prompts"):
            make(media=MediaOptions(prompts="all"))


def test_prompts_go_before_texts_unless_all_are_asked_for(goldens: Goldens, opened: Opened) -> None:
    omni, encoder = goldens["small"], opened["small"]
    image, prompt = omni.image(1), opened["small"].prompts["query"]
    bare = encoder.encode([image], task="retrieval", prompt="")
    np.testing.assert_array_equal(encoder.encode_query([image]), bare)
    asked = encoder.encode_query([image], media=MediaOptions(prompts="all"))
    np.testing.assert_array_equal(encoder.encode([(prompt, image)], task="retrieval", prompt=""), asked)
    assert np.abs(asked - bare).max() > 1e-3
    mixed = encoder.encode_query([(image, "a text")])
    np.testing.assert_array_equal(encoder.encode([(prompt, image, "a text")], task="retrieval", prompt=""), mixed)


def test_a_video_alone_is_never_wrapped(goldens: Goldens, opened: Opened) -> None:
    omni, encoder, chat = goldens["small"], opened["small"], MediaOptions(wrapper="chat")
    video, image = omni.video(2), omni.image(1)
    for given in ([video], [{"video": video}]):
        np.testing.assert_array_equal(encoder.encode_query(given, media=chat), encoder.encode_query(given))
    for given in ([{"video": [video, video]}], [(video, "words")], [image]):
        assert np.abs(encoder.encode_query(given, media=chat) - encoder.encode_query(given)).max() > 1e-3


def test_short_sounds_may_be_padded(goldens: Goldens, opened: Opened) -> None:
    encoder, short = opened["small"], goldens["small"].sound("shortest")[:200]
    padded = encoder.encode([short], task="retrieval", media=MediaOptions(short_sounds="pad"))
    longer = np.concatenate([short, np.zeros(121, np.float32)])
    np.testing.assert_array_equal(encoder.encode([longer], task="retrieval"), padded)


def test_a_name_of_a_prompt_is_one(opened: Opened) -> None:
    with pytest.raises(TypeError, match="prompt_name must be a str, got list; prompt may be a list, one a text"):
        opened["small"].encode(["a", "b"], task="retrieval", prompt_name=["query", "document"])
