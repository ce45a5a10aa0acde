"""jina-embeddings-v5-omni for texts: v5-text's vectors to the bit, the tokens that are a task's own, bad configs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoints import read_config, read_tensors, write_checkpoint
from longspan import CheckpointError, Encoder

SIZES = ("small", "nano")
LIMIT, HIDDEN_LIMIT = 5e-6, 1e-4  # the goldens' NOTES, for a float32 runtime
TASKS = ("retrieval", "text-matching", "clustering", "classification")

pytestmark = pytest.mark.filterwarnings("error")


def text_cases(folder: Path) -> list[dict]:
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    return [case for case in cases if case["kind"] in ("ids", "text")]


@pytest.mark.parametrize("size", SIZES)
def test_texts_have_the_vectors_of_v5_text(isa: str, size: str, golden: Path) -> None:
    folder = golden / f"jina-v5-omni-{size}"
    encoder, peer = Encoder(folder / "model"), Encoder(golden / f"jina-v5-text-{size}" / "model")
    assert (encoder.spec.family, encoder.tasks, encoder.pooling) == (
        f"jina-embeddings-v5-omni-{size}",
        TASKS,
        "lasttoken",
    )
    expected, cases = np.load(folder / "expected.npz"), text_cases(folder)
    ids = [expected[f"ids/{case['id']}"] for case in cases]
    tasks = [case["task"] for case in cases]
    vectors = encoder.encode_ids(ids, task=tasks)
    states = encoder.encode_ids(ids, task=tasks, output_value="token_embeddings")
    of_text = peer.encode_ids([row % peer.spec.vocab_size for row in ids], task=tasks)
    num_same = 0
    for place, case in enumerate(cases):
        name, vector = case["id"], vectors[place]
        np.testing.assert_allclose(vector, expected[f"emb/{name}"], rtol=0, atol=LIMIT, err_msg=name)
        np.testing.assert_array_equal(np.packbits(vector > 0), expected[f"sign/{name}"], err_msg=name)
        if "same_as" in case:
            np.testing.assert_array_equal(vector, of_text[place], err_msg=name)
            num_same += 1
        if case.get("has_hidden"):
            np.testing.assert_allclose(states[place], expected[f"hidden/{name}"], rtol=0, atol=HIDDEN_LIMIT)
        if case["text"] is not None:
            prompt = "" if case["prompt_name"] is None else encoder.prompts[case["prompt_name"]]
            np.testing.assert_array_equal(encoder.encode(case["text"], task=case["task"], prompt=prompt), vector)
        np.testing.assert_array_equal(encoder.encode_ids([ids[place]], task=case["task"])[0], vector, err_msg=name)
    assert num_same >= 10
    for dim in encoder.spec.matryoshka_dims[:-1]:
        shorter = encoder.encode_ids(ids, task=tasks, truncate_dim=dim)
        for case, vector in zip(cases, shorter, strict=True):
            stretch = 1 / np.linalg.norm(expected[f"emb/{case['id']}"][:dim])
            np.testing.assert_allclose(vector, expected[f"emb{dim}/{case['id']}"], rtol=0, atol=LIMIT * stretch)


@pytest.mark.parametrize("size", SIZES)
def test_texts_of_a_merged_repository(isa: str, size: str, golden: Path) -> None:
    folder = golden / f"jina-v5-omni-{size}"
    encoder = Encoder(folder / "model-merged-retrieval")
    assert encoder.tasks == ()
    expected = np.load(folder / "expected.npz")
    cases = [case for case in text_cases(folder) if case.get("has_merged")]
    vectors = encoder.encode_ids([expected[f"ids/{case['id']}"] for case in cases])
    for case, vector in zip(cases, vectors, strict=True):
        truth = expected[f"emb_merged/{case['id']}"]
        np.testing.assert_allclose(vector, truth, rtol=0, atol=LIMIT, err_msg=case["id"])
    assert len(cases) >= 5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_tokens_of_a_task_in_a_batch_of_all(size: str, dtype: str, golden: Path) -> None:
    """Each row reads its own task's embeddings, and the table's without a task: the bits of the text alone."""
    encoder = Encoder(golden / f"jina-v5-omni-{size}" / "model", dtype=dtype)
    texts = ["a <|audio_start|>literal<|audio_end|> in text", "plain words", "<|audio_pad|>"]
    tasks = [task for task in (*TASKS, "base") for _ in texts]
    together = encoder.encode(texts * 5, task=tasks)
    for place, task in enumerate(tasks):
        np.testing.assert_array_equal(encoder.encode(texts[place % 3], task=task), together[place])
    by_task = together.reshape(5, 3, -1)
    assert min(np.abs(by_task[0, 2] - by_task[place, 2]).max() for place in range(1, 5)) > 0.01


def test_token_vectors_of_an_adapter_of_ones_own_read_the_table(golden: Path) -> None:
    """An adapter that is loaded later has no embeddings of its own: the base's, as of a model without tasks."""
    folder = golden / "jina-v5-omni-small" / "model"
    encoder = Encoder(folder)
    encoder.load_adapter("again", folder / "adapters" / "retrieval")
    text = "<|audio_start|> and so on"
    assert np.abs(encoder.encode(text, task="again") - encoder.encode(text, task="retrieval")).max() > 0.001
    plain = "and so on"
    np.testing.assert_array_equal(encoder.encode(plain, task="again"), encoder.encode(plain, task="retrieval"))


@pytest.mark.parametrize(
    "size, change, message",
    [
        ("small", lambda config: config.pop("image_token_id"), "'image_token_id' goes with the tensor"),
        ("nano", lambda config: config.update(image_token_id=3), "'image_token_id' goes with the tensor"),
        (
            "small",
            lambda config: config.update(image_token_index=config.pop("image_token_id")),
            "'image_token_id' goes with the tensor",
        ),
        ("small", lambda config: config["special_token_ids"].pop(), "'special_token_ids' has 6 ids, but the tensor"),
        ("small", lambda config: config["special_token_ids"].__setitem__(0, 491), "must be different ids below"),
        ("nano", lambda config: config["special_token_ids"].__setitem__(0, 512), "must be different ids below"),
        ("nano", lambda config: config.pop("special_token_ids"), "'special_token_ids' is missing"),
        ("small", lambda config: config.pop("task_names"), "'task_names' is missing"),
        ("small", lambda config: config.update(video_token_id=-1), "'video_token_id' must be from 0 to 490"),
        ("small", lambda config: config.update(vision_end_token_id=486), "'image_token_id' must be an id of its own"),
        ("nano", lambda config: config.update(audio_token_id=515), "'image_token_index' must be an id of its own"),
        ("nano", lambda config: config.update(audio_end_token_id=513), "got 513 as 'audio_start_token_id'"),
        ("nano", lambda config: config.pop("audio_end_token_id"), "'audio_end_token_id' is missing"),
        ("nano", lambda config: config["text_config"].update(is_causal=True), "'is_causal' must be False"),
        ("small", lambda config: config.pop("text_config"), "'text_config' is missing"),
        ("small", lambda config: config.update(matryoshka_dimensions=[128]), "'matryoshka_dimensions' must be"),
    ],
)
def test_bad_configs(size: str, change: Callable[[dict], object], message: str, golden: Path, tmp_path: Path) -> None:
    source = golden / f"jina-v5-omni-{size}" / "model"
    config = read_config(source)
    change(config)
    with pytest.raises(CheckpointError, match=message):
        Encoder(write_checkpoint(source, tmp_path / "spoilt", read_tensors(source), config))


@pytest.mark.parametrize(
    "key, published",
    [
        ("video_token_id", 151656),
        ("vision_start_token_id", 151652),
        ("vision_end_token_id", 151653),
        ("audio_token_id", 151669),
        ("audio_start_token_id", 151670),
        ("audio_end_token_id", 151671),
    ],
)
def test_small_without_an_id_has_the_published_one(key: str, published: int, golden: Path, tmp_path: Path) -> None:
    """Which is none of this small table's."""
    source = golden / "jina-v5-omni-small" / "model"
    config = read_config(source)
    config.pop(key)
    with pytest.raises(CheckpointError, match=f"{key!r} must be from 0 to 490, below 'vocab_size', got {published}"):
        Encoder(write_checkpoint(source, tmp_path / "silent", read_tensors(source), config))


def test_small_without_a_theta_has_its_own(golden: Path, tmp_path: Path) -> None:
    source = golden / "jina-v5-omni-small" / "model"
    config = read_config(source)
    del config["text_config"]["rope_parameters"]
    ids = [list(range(1, 40))]
    copy = write_checkpoint(source, tmp_path / "copy", read_tensors(source), config)
    got = Encoder(copy).encode_ids(ids, task="retrieval")
    np.testing.assert_array_equal(got, Encoder(source).encode_ids(ids, task="retrieval"))
