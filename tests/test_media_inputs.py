"""What `Encoder.encode` takes of media, and how it may be told to read them: forms, options, what is refused."""

from __future__ import annotations

import io
import json
import pickle
import random
import re
import shutil
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MediaOptions, PdfPage, PdfPages, TruncationWarning
from longspan.packing.media import Mel, Patches
from longspan.pipeline import blocks
from longspan.pipeline.inputs import Part, read_inputs
from longspan.pipeline.sequences import MediaReader
from longspan.pipeline.vision import Vision
from media_files import pictures as frames_of
from media_files import sound_file, tone, video_file
from media_models import SIZES, TASKS, MediaGolden

pictures = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

Goldens = dict[str, MediaGolden]
Opened = dict[str, Encoder]

sizes = pytest.mark.parametrize("size", SIZES)


@pytest.fixture(scope="module")
def goldens(golden: Path) -> Goldens:
    return {size: MediaGolden(golden / f"jina-v5-omni-{size}") for size in SIZES}


@pytest.fixture(scope="module")
def opened(goldens: Goldens) -> Opened:
    return {size: Encoder(omni.model) for size, omni in goldens.items()}


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


def test_one_object_is_read_and_computed_once(
    goldens: Goldens, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many inputs and tasks it stands in."""
    omni, encoder = goldens["nano"], opened["nano"]
    image, sound = omni.image(1), omni.sound("odd")
    reads, passes, read, compute = [], [], MediaReader._read, Vision._computed
    monkeypatch.setattr(MediaReader, "_read", lambda self, part: reads.append(part.name) or read(self, part))
    monkeypatch.setattr(
        Vision, "_computed", lambda self, each, *how: passes.append(len(each)) or compute(self, each, *how)
    )
    inputs = [image, sound, (sound, image), {"image": [image, image]}]
    found = encoder.encode(inputs * 4, task=[task for task in TASKS for _ in inputs])
    assert len(reads) == 2 and passes == [1]
    np.testing.assert_array_equal(found[7], encoder.encode([{"image": [image, image]}], task=TASKS[1])[0])


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


def test_blocks_of_little_memory(goldens: Goldens, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    omni, encode = goldens["small"], partial(opened["small"].encode, task="clustering")
    inputs = ["a", omni.image(0), omni.sound("odd"), omni.video(2), "b", (omni.image(1), omni.image(4)), omni.image(2)]
    whole = encode(inputs)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    np.testing.assert_array_equal(encode(inputs), whole)


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


def test_short_sounds_may_be_padded(goldens: Goldens, opened: Opened) -> None:
    encoder, short = opened["small"], goldens["small"].sound("shortest")[:200]
    padded = encoder.encode([short], task="retrieval", media=MediaOptions(short_sounds="pad"))
    longer = np.concatenate([short, np.zeros(121, np.float32)])
    np.testing.assert_array_equal(encoder.encode([longer], task="retrieval"), padded)


def test_a_name_of_a_prompt_is_one(opened: Opened) -> None:
    with pytest.raises(TypeError, match="prompt_name must be a str, got list; prompt may be a list, one a text"):
        opened["small"].encode(["a", "b"], task="retrieval", prompt_name=["query", "document"])


def test_no_more_is_read_than_a_sequence_holds(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages a file has: each takes tens of megabytes."""
    reads, read = [], MediaReader._read
    monkeypatch.setattr(MediaReader, "_read", lambda self, part: reads.append(part.name) or read(self, part))
    images = [np.full((64, 64, 3), level % 256, np.uint8) for level in range(2000)]
    with pytest.raises(ValueError, match=r"inputs\[1\] takes more than 4096 tokens for media alone"):
        opened["small"].encode(["a", {"image": images}], task="retrieval")
    assert len(reads) < 1200
    fits, fit = [], MediaReader._fit
    monkeypatch.setattr(MediaReader, "_fit", lambda self, part: fits.append(part.name) or fit(self, part))
    [parts] = read_inputs("test", [{"image": images}], None, opened["small"].modalities).items
    with pytest.raises(ValueError, match=r"inputs\[0\] takes more than 4096 tokens for media alone"):
        opened["small"].fit_input(parts)
    assert len(fits) == len(reads)


def test_a_sequence_may_be_as_long_as_the_models(goldens: Goldens, opened: Opened) -> None:
    reader = opened["small"]._sequences.reader("test", MediaOptions())
    [parts] = read_inputs("test", [("words ", goldens["small"].image(1))], None, opened["small"].modalities).items
    length = len(reader.read(parts, "", {}).text.ids)
    assert len(replace(reader, max_tokens=length).read(parts, "", {}).text.ids) == length
    with pytest.raises(ValueError, match=rf"takes {length} tokens, .* the model reads at most {length - 1}; give"):
        replace(reader, max_tokens=length - 1).read(parts, "", {})


def test_who_interrupts_does_not_wait_for_a_block(
    goldens: Goldens, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only for the input that is being read."""
    reads, read, image = [], MediaReader._read, goldens["small"].image(1)

    def slowly(self: MediaReader, part: Part) -> Patches | Mel:
        time.sleep(0.01)
        reads.append(part.name)
        return read(self, part)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(blocks, "TEXTS_PER_BLOCK", 50)
    given = ["a"] * 50 + [image.copy() for _ in range(50)]
    with monkeypatch.context() as patch:
        patch.setattr(MediaReader, "_read", slowly)
        patch.setattr(Encoder, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened["small"].encode(given, task="retrieval")
    assert len(reads) < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("longspan-ahead")]
    assert opened["small"].encode([image], task="retrieval").shape == (1, opened["small"].dim)


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
