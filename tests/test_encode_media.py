"""jina-embeddings-v5-omni through `Encoder`: the goldens from raw images, frames and samples, in every mixture."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MediaOptions, _core
from longspan.models.engines.workspace import Workspace
from longspan.packing.batch import pack
from longspan.packing.media import MediaRow
from longspan.pipeline.inputs import Part, read_inputs
from longspan.pipeline.sequences import MediaReader
from media_models import EMBEDS_LIMIT, HIDDEN_LIMIT, LIMIT, SIZES, TASKS, MediaGolden, options_of, prompt_of

pytest.importorskip("PIL.Image", reason="Pillow is not installed")

LEAST = {"bfloat16": 0.9995, "int8": 0.995}  # cosine of a toy model's vectors

sizes = pytest.mark.parametrize("size", SIZES)


@pytest.fixture(scope="module")
def goldens(golden: Path) -> dict[str, MediaGolden]:
    return {size: MediaGolden(golden / f"jina-v5-omni-{size}") for size in SIZES}


@cache
def opened_in(isa: str, model: Path, **options: object) -> Encoder:
    return Encoder(model, **options)


def opened(model: Path, **options: object) -> Encoder:
    """Packed for the instruction set that is chosen now."""
    return opened_in(_core.isa(), model, **options)


@pytest.fixture
def reading_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of an input is the same in every instruction set: frames of half a minute take longest here."""

    def read(self: MediaReader, part: Part) -> object:
        key = self.vision.spec, self.options, part.modality, id(part.value)
        if key not in READ:
            READ[key] = (READ_PART(self, part), part.value)
        return READ[key][0]

    monkeypatch.setattr(MediaReader, "_read", read)


READ_PART = MediaReader._read
READ: dict[tuple[object, ...], tuple[object, object]] = {}


def by_options(cases: list[dict]) -> Iterator[tuple[MediaOptions, list[dict]]]:
    """Cases that one call can take together."""
    groups: dict[MediaOptions, list[dict]] = {}
    for case in cases:
        groups.setdefault(options_of(case), []).append(case)
    yield from groups.items()


def encoded(
    encoder: Encoder, images: MediaGolden, cases: list[dict], **options: object
) -> Iterator[tuple[dict, np.ndarray]]:
    """Each case with its vector; all tasks, kinds and prompts in one call."""
    for media, own in by_options(cases):
        task = [case["task"] for case in own] if encoder.tasks else None
        prompt = [prompt_of(encoder, case) for case in own]
        inputs = [images.parts(case) for case in own]
        vectors = encoder.encode(inputs, task=task, prompt=prompt, media=media, on_truncate="ignore", **options)
        yield from zip(own, vectors, strict=True)


@sizes
def test_goldens_from_raw_inputs(isa: str, size: str, goldens: dict[str, MediaGolden], reading_once: None) -> None:
    omni = goldens[size]
    encoder = opened(omni.model)
    assert encoder.modalities == ("text", "image", "audio", "video")
    for case, vector in encoded(encoder, omni, omni.cases):
        np.testing.assert_allclose(vector, omni.truth(case), rtol=0, atol=LIMIT, err_msg=case["id"])
        np.testing.assert_array_equal(np.packbits(vector > 0), omni.expected[f"sign/{case['id']}"], err_msg=case["id"])


@sizes
def test_goldens_of_a_merged_repository(
    isa: str, size: str, goldens: dict[str, MediaGolden], reading_once: None
) -> None:
    """Frames that are resized are not held: the golden has them by torchvision alone."""
    omni = goldens[size]
    cases = [
        case for case in omni.cases if case.get("has_merged") and f"emb_pil_frames/{case['id']}" not in omni.expected
    ]
    assert len(cases) > 25
    for case, vector in encoded(opened(omni.merged), omni, cases):
        truth = omni.expected[f"emb_merged/{case['id']}"]
        np.testing.assert_allclose(vector, truth, rtol=0, atol=LIMIT, err_msg=case["id"])


@sizes
def test_shorter_vectors(size: str, goldens: dict[str, MediaGolden], reading_once: None) -> None:
    omni = goldens[size]
    encoder = opened(omni.model)
    cases = [case for case in omni.cases if case["n_tokens"] < 100 and not omni.has_resized_frames(case)]
    for dim in cases[0]["truncate_dims"]:
        for case, vector in encoded(encoder, omni, cases, truncate_dim=dim):
            stretch = 1 / np.linalg.norm(omni.expected[f"emb/{case['id']}"][:dim])
            truth = omni.expected[f"emb{dim}/{case['id']}"]
            np.testing.assert_allclose(vector, truth, rtol=0, atol=LIMIT * stretch, err_msg=case["id"])


def embedded(encoder: Encoder, row: MediaRow, number: int) -> np.ndarray:
    """What enters the first layer of the row's tokens."""
    language = encoder._encoder
    [batch] = pack([row.ids], batch_tokens=len(row.ids), lora_ids=[number])
    batch = language.prepare(language.attach(batch, [row]))
    x = np.empty((len(row.ids), language.spec.hidden_size), np.float32)
    language._embed(batch, x, Workspace(language.engine.empty))
    return x


@sizes
def test_ids_embeddings_and_states_of_every_token(size: str, goldens: dict[str, MediaGolden]) -> None:
    """The string that is tokenized, what enters the first layer, and what leaves the last one."""
    omni = goldens[size]
    encoder = opened(omni.model)
    held = {"ids": 0, "inputs_embeds": 0, "hidden": 0}
    for case in omni.cases:
        name, number = case["id"], TASKS.index(case["task"])
        [parts] = read_inputs("test", [omni.parts(case)], None, encoder.modalities).items
        read = encoder._sequences.reader("test", options_of(case)).read(parts, prompt_of(encoder, case), {})
        np.testing.assert_array_equal(read.text.ids, omni.expected[f"ids/{name}"], err_msg=name)
        held["ids"] += 1
        if case.get("has_inputs_embeds"):
            [row] = encoder._sequences.rows([read], [number], [0])
            truth = omni.expected[f"inputs_embeds/{name}"]
            np.testing.assert_allclose(embedded(encoder, row, number), truth, rtol=0, atol=EMBEDS_LIMIT, err_msg=name)
            held["inputs_embeds"] += 1
        if case.get("has_hidden"):
            states = encoder.encode(
                [omni.parts(case)], task=case["task"], prompt=prompt_of(encoder, case), media=options_of(case),
                output_value="token_embeddings",
            )[0]  # fmt: skip
            truth = omni.expected[f"hidden/{name}"]
            np.testing.assert_allclose(states, truth, rtol=0, atol=HIDDEN_LIMIT, err_msg=name)
            held["hidden"] += 1
    assert min(held.values()) >= 3, held


@sizes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_batch_of_all_tasks_and_kinds_has_the_bits_of_single_runs(
    size: str, dtype: str, goldens: dict[str, MediaGolden]
) -> None:
    """Texts, images, sounds, videos and mixtures of them, each in its own task."""
    omni = goldens[size]
    encoder = opened(omni.model, dtype=dtype)
    wav, clip = omni.sound("1s"), omni.video(0)
    inputs: list[object] = [
        "plain words and <|audio_start|> in them",
        {"image": omni.image(0)},
        {"audio": wav},
        {"video": clip},
        ("a sound ", wav, " and its picture ", omni.image(0)),
        {"text": "three", "image": [omni.image(1), omni.image(2)], "audio": omni.sound("odd")},
        omni.image(4),
        omni.sound("chunk+1"),
    ]
    order = [place for _ in TASKS for place in range(len(inputs))]
    tasks = [task for task in TASKS for _ in inputs]
    alone = [encoder.encode([inputs[place]], task=task)[0] for place, task in zip(order, tasks)]
    assert min(np.abs(one - other).max() for one, other in zip(alone, alone[len(inputs) :])) > 1e-3
    rng = np.random.default_rng(5)
    for options in ({}, {"batch_tokens": 30}):
        mixed = rng.permutation(len(order))
        found = encoder.encode([inputs[order[one]] for one in mixed], task=[tasks[one] for one in mixed], **options)
        for one, vector in zip(mixed, found, strict=True):
            np.testing.assert_array_equal(vector, alone[one], err_msg=f"{inputs[order[one]]!r:.40} {tasks[one]}")


def things(rng: np.random.Generator) -> Iterator[object]:
    """Texts, images, sounds, videos of many sizes, and tuples of them."""

    def pixels(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, (*shape, 3)).astype(np.uint8)

    makers = (
        lambda: str(rng.choice(["", "a", "hello <|audio_start|> there", "words " * 40, "\u6771\u4eac\n"])),
        lambda: pixels(*rng.integers(1, 130, 2)),
        lambda: (rng.standard_normal(int(rng.choice([321, 799, 800, 801, 8159, 16001]))) * 0.2).astype(np.float32),
        lambda: pixels(int(rng.integers(2, 7)), *rng.integers(20, 60, 2)),
    )
    while True:
        yield makers[rng.integers(4)]()
        yield tuple(makers[rng.integers(4)]() for _ in range(rng.integers(1, 5)))


@sizes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_random_mixtures_have_the_bits_of_single_runs(size: str, dtype: str, goldens: dict[str, MediaGolden]) -> None:
    """In calls of any sizes, tasks, prompts and options; LONGSPAN_TEST_MUTATIONS makes more of them."""
    rng = np.random.default_rng(int(os.environ.get("LONGSPAN_TEST_SEED", "3")))
    encoder = opened(goldens[size].model, dtype=dtype)
    given = [*itertools.islice(things(rng), 12)]
    forms = (MediaOptions(), MediaOptions(prompts="all", wrapper="chat"), MediaOptions(outer_video_markers=True))

    @cache
    def alone(place: int, task: str, prompt: str, media: MediaOptions) -> np.ndarray:
        return encoder.encode([given[place]], task=task, prompt=prompt, media=media)[0]

    for _ in range(int(os.environ.get("LONGSPAN_TEST_MUTATIONS", "10"))):
        places = rng.integers(0, len(given), rng.integers(1, 9)).tolist()
        tasks, prompts = rng.choice(TASKS, len(places)).tolist(), rng.choice(["", "Query: "], len(places)).tolist()
        media, tokens = forms[rng.integers(3)], [None, 7, 50][rng.integers(3)]
        inputs = [given[place] for place in places]
        found = encoder.encode(inputs, task=tasks, prompt=prompts, media=media, batch_tokens=tokens)
        for vector, *how in zip(found, places, tasks, prompts, strict=True):
            np.testing.assert_array_equal(vector, alone(*how, media), err_msg=f"{given[how[0]]!r:.60} {how} {media}")


@sizes
@pytest.mark.parametrize("dtype", LEAST)
def test_compute_types(size: str, dtype: str, goldens: dict[str, MediaGolden], reading_once: None) -> None:
    omni = goldens[size]
    worst = 1.0
    for case, vector in encoded(opened(omni.model, dtype=dtype), omni, omni.cases):
        worst = min(worst, float(vector @ omni.truth(case)))
    assert worst >= LEAST[dtype], worst
