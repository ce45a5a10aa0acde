"""What `Encoder.encode` takes of media: every form of an input, files, pages, tensors."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MediaOptions, PdfPage, PdfPages, TruncationWarning
from longspan.packing.media import Mel, Patches
from longspan.pipeline.inputs import read_inputs
from media_files import pictures as frames_of
from media_files import sound_file, tone, video_file
from media_models import SIZES, Goldens, Opened

pictures = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


sizes = pytest.mark.parametrize("size", SIZES)


@sizes
def test_every_form_of_an_input(size: str, goldens: Goldens, opened: Opened, tmp_path: Path) -> None:
    omni, encode = goldens[size], partial(opened[size].encode, task="retrieval")
    image, sound, video = omni.image(1), omni.sound("odd"), omni.video(2)
    as_image, as_sound, as_video = encode([image])[0], encode([sound])[0], encode([video])[0]
    for one in (sound, {"audio": sound}, {"array": sound, "sampling_rate": 16000}, {"audio": (sound, 16000)}):
        np.testing.assert_array_equal(encode(one), as_sound)
        np.testing.assert_array_equal(encode([one, "a text"])[0], as_sound)
    np.testing.assert_array_equal(encode((sound, 16000)), as_sound)
    np.testing.assert_array_equal(encode({"audio": sound.tolist()}), as_sound)
    for one in (video, {"video": video}, {"video": [*video]}, {"array": video, "video_metadata": None}):
        np.testing.assert_array_equal(encode(one), as_video)
    np.testing.assert_array_equal(encode([image, sound, video]), [as_image, as_sound, as_video])
    both = encode([{"image": image, "audio": sound}])[0]
    np.testing.assert_array_equal(encode([(image, sound)])[0], both)
    np.testing.assert_array_equal(encode([({"image": image}, {"audio": sound})])[0], both)
    assert np.abs(encode([(sound, image)])[0] - both).max() > 1e-3
    joined = encode([{"text": ["two ", "texts"]}])[0]
    np.testing.assert_array_equal(encode([("two ", "texts")])[0], joined)
    np.testing.assert_array_equal(encode(["two texts"])[0], joined)
    np.testing.assert_array_equal(encode({"text": "two texts"}), joined)
    pictures.fromarray(image).save(tmp_path / "picture.png")
    np.testing.assert_array_equal(encode([{"image": str(tmp_path / "picture.png"), "audio": sound}])[0], both)
    assert encode([]).shape == (0, opened[size].dim)


def test_states_of_tokens_and_precisions(goldens: Goldens, opened: Opened) -> None:
    encode, mixture = (
        partial(opened["small"].encode, task="retrieval"),
        {"text": "a", "image": goldens["small"].image(1)},
    )
    states = encode([mixture, "plain"], output_value="token_embeddings")
    for state, vector in zip(states, encode([mixture, "plain"]), strict=True):
        np.testing.assert_allclose(state[-1] / np.linalg.norm(state[-1]), vector, rtol=0, atol=1e-6)
    bits = encode([mixture], precision="ubinary", truncate_dim=32)
    np.testing.assert_array_equal(bits, np.packbits(encode([mixture], truncate_dim=32) > 0, axis=1))


def test_pages_of_a_file_in_one_sequence(opened: Opened, tmp_path: Path) -> None:
    pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
    path, encoder = tmp_path / "two.pdf", opened["small"]
    first, second = (pictures.fromarray(np.full((90, 70, 3), level, np.uint8)) for level in (40, 200))
    first.save(path, save_all=True, append_images=[second])
    fused = encoder.encode_document(PdfPages(path))
    assert fused.shape == (encoder.dim,)
    pages = [PdfPage(path, 1), PdfPage(path, 2)]
    np.testing.assert_array_equal(encoder.encode_document([{"image": pages}])[0], fused)
    np.testing.assert_array_equal(encoder.encode_document([{"image": PdfPages(str(path))}])[0], fused)
    np.testing.assert_array_equal(encoder.encode_document([("", PdfPages(path.read_bytes()))], prompt="")[0], fused)
    assert np.abs(encoder.encode_document(pages) - fused).max(1).min() > 1e-3


def test_sounds_that_are_cut_are_said(goldens: Goldens, opened: Opened) -> None:
    encoder, long = opened["small"], goldens["small"].sound("33s")
    with pytest.warns(TruncationWarning, match="1 of 2 inputs had sounds longer than .*; 3 seconds were left out"):
        encoder.encode([long, "a text"], task="retrieval")
    with pytest.raises(ValueError, match=r"encode: inputs\[1\] has 3 seconds of sound more than the model hears"):
        encoder.encode(["a text", {"audio": long}], task="retrieval", on_truncate="error")


def test_tensors_of_torch(goldens: Goldens, opened: Opened) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    encode = partial(opened["small"].encode, task="retrieval")
    for values in (goldens["small"].sound("odd"), goldens["small"].video(2)):
        truth = encode([values])[0]
        np.testing.assert_array_equal(encode(torch.tensor(values)), truth)
        np.testing.assert_array_equal(encode([torch.tensor(values)])[0], truth)


def test_files_of_sound_and_video(opened: Opened, tmp_path: Path) -> None:
    """A path or a file's bytes, by `modality` or under a key; a video's track is a sound right before its frames."""
    for extra in ("av", "soundfile", "soxr"):
        pytest.importorskip(extra, reason=f"{extra} is not installed")
    encoder = opened["small"]
    samples = tone(0.5, 16000)
    film, clip, wav = tmp_path / "film.mp4", tmp_path / "clip.mp4", tmp_path / "tone.wav"
    film.write_bytes(video_file(frames_of(6), "mp4", "mpeg4", ("aac", samples)))
    clip.write_bytes(video_file(frames_of(6), "mp4", "mpeg4"))
    wav.write_bytes(sound_file(samples, 16000, "WAV", "FLOAT"))
    encode = partial(encoder.encode, task="retrieval")
    np.testing.assert_array_equal(encode(str(wav), modality="audio"), encode(samples))
    np.testing.assert_array_equal(encode({"audio": str(wav)}), encode(samples))
    np.testing.assert_array_equal(encode([wav.read_bytes()], modality="audio")[0], encode(samples))
    stored = {"bytes": None, "path": str(wav)}
    np.testing.assert_array_equal(encode([stored], modality="audio")[0], encode(samples))
    silent = encode([clip], modality="video")[0]
    np.testing.assert_array_equal(encode([{"video": film}], media=MediaOptions(video_sound=False))[0], silent)
    heard = encode([film, clip], modality="video")
    np.testing.assert_array_equal(heard[1], silent)
    [parts] = read_inputs("test", [{"video": film}], None, encoder.modalities).items
    read = encoder._sequences.reader("test", MediaOptions()).read(parts, "", {})
    assert [type(one) for one in read.media] == [Mel, Patches]
    ids, spec = read.text.ids.tolist(), encoder.spec.sequence
    assert ids[0] == spec.audio.start and ids.index(spec.audio.end) < ids.index(spec.video.pad)
    chat = encoder._sequences.reader("test", MediaOptions(wrapper="chat")).read(parts, "", {})
    assert len(chat.text.ids) > len(ids)  # with its sound it is no video alone
    assert np.abs(heard[0] - silent).max() > 1e-3
    deaf = Encoder(encoder.folder, modalities=("text", "video"))
    np.testing.assert_array_equal(deaf.encode([film], modality="video", task="retrieval")[0], silent)
