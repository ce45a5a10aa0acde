"""Every text case of the goldens of jina-v5, jina-code, jina-v4, jina-clip-v2 and colbert's backbone.

All tasks of a model run in one batch; the last tests hold the merged checkpoints against the adapters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from checkpoints import merge_peft, merge_stacked, read_config, read_tensors, spoilt, write_checkpoint
from longspan import Encoder
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models.families.xlm_roberta_flash import JINA_CLIP

HIDDEN_LIMIT = 2e-5  # the golden README's and the NOTES', for a float32 runtime
LIMITS = {
    "jina-v5-text-small": 2e-6,
    "jina-v5-text-nano": 2e-6,
    "jina-code": 2e-6,
    "jina-v4": 5e-6,
    "jina-clip-v2": 2e-6,
}
V5_TASKS = ("retrieval", "text-matching", "clustering", "classification")


def text_cases(folder: Path) -> list[dict]:
    """All but the image cases."""
    return [case for case in json.loads((folder / "cases.json").read_text())["cases"] if case["kind"] != "image"]


def check(encoder: Encoder, folder: Path, cases: list[dict], prompts: dict[str, str]) -> None:
    """Ids of the texts, unit vectors, their leading parts, signs and hidden states; all in one ragged batch."""
    expected = np.load(folder / "expected.npz")
    limit = LIMITS[folder.name]
    tasks = [case["task"] if case["task"] in encoder.tasks else None for case in cases]
    for case, task in zip(cases, tasks):
        if case["kind"] == "text":
            prompt = prompts[case["id"]]
            options = {"prompt": prompt, "max_length": case.get("max_length")}
            tokenized = encoder.tokenize([case["text"]], **options)[0]
            assert tokenized.ids.tolist() == expected[f"ids/{case['id']}"].tolist(), case["id"]
            options |= {"task": task, "on_truncate": "ignore"}
            got = encoder.encode(case["text"], **options, normalize_embeddings=True)
            np.testing.assert_allclose(got, expected[f"emb/{case['id']}"], rtol=0, atol=limit, err_msg=case["id"])
    ids = [expected[f"ids/{case['id']}"] for case in cases]
    pooled = encoder.encode_ids(ids, task=tasks, normalize_embeddings=True)
    states = encoder.encode_ids(ids, task=tasks, output_value="token_embeddings")
    for case, vector, hidden in zip(cases, pooled, states):
        name = case["id"]
        np.testing.assert_allclose(vector, expected[f"emb/{name}"], rtol=0, atol=limit, err_msg=name)
        np.testing.assert_array_equal(np.packbits(vector > 0), expected[f"sign/{name}"], err_msg=name)
        if case.get("has_hidden"):
            np.testing.assert_allclose(hidden, expected[f"hidden/{name}"], rtol=0, atol=HIDDEN_LIMIT, err_msg=name)
    for dim in cases[0]["truncate_dims"]:
        shorter = encoder.encode_ids(ids, task=tasks, truncate_dim=dim, normalize_embeddings=True)
        for case, short in zip(cases, shorter):
            stretch = 1 / np.linalg.norm(expected[f"emb/{case['id']}"][:dim])  # of errors as well, to unit length
            truth = expected[f"emb{dim}/{case['id']}"]
            np.testing.assert_allclose(short, truth, rtol=0, atol=limit * stretch, err_msg=case["id"])
    for task in {*tasks}:
        of_it = [place for place, own in enumerate(tasks) if own == task]
        alone = encoder.encode_ids([ids[place] for place in of_it], task=task, normalize_embeddings=True)
        np.testing.assert_array_equal(alone, pooled[of_it], err_msg=str(task))


@pytest.mark.parametrize("variant", ["model", "model-prefixed"])
def test_jina_code(isa: str, variant: str, golden: Path) -> None:
    folder = golden / "jina-code"
    encoder = Encoder(folder / variant)
    assert (encoder.spec.family, encoder.pooling, encoder.max_length) == ("Qwen2", "lasttoken", 32768)
    cases = text_cases(folder)
    prompts = {c["id"]: encoder.prompts[f"{c['task']}_{c['prompt_name']}"] for c in cases if c["kind"] == "text"}
    check(encoder, folder, cases, prompts)


@pytest.mark.parametrize("name, family", [("jina-v5-text-small", "Qwen3"), ("jina-v5-text-nano", "EuroBERT")])
def test_jina_v5_as_published_for_one_task(isa: str, name: str, family: str, golden: Path) -> None:
    encoder = Encoder(golden / name / "model-merged-retrieval")
    assert (encoder.spec.family, encoder.pooling, encoder.normalizes) == (family, "lasttoken", True)
    cases = [case for case in text_cases(golden / name) if case["task"] == "retrieval"]
    check(encoder, golden / name, cases, v5_prompts(encoder, cases))


@pytest.mark.parametrize("name, family", [("jina-v5-text-small", "Qwen3"), ("jina-v5-text-nano", "EuroBERT")])
def test_jina_v5(isa: str, name: str, family: str, golden: Path) -> None:
    encoder = Encoder(golden / name / "model")
    assert (encoder.spec.family, encoder.tasks) == (family, V5_TASKS)
    assert (encoder.pooling, encoder.spec.default_normalize) == ("lasttoken", True)  # its modules.json names neither
    cases = text_cases(golden / name)
    check(encoder, golden / name, cases, v5_prompts(encoder, cases))


def v5_prompts(encoder: Encoder, cases: list[dict]) -> dict[str, str]:
    """The prompt of every text case."""
    return {case["id"]: encoder.prompts[case["prompt_name"]] for case in cases if case["kind"] == "text"}


def test_jina_v4_text(isa: str, golden: Path) -> None:
    folder = golden / "jina-v4"
    encoder = Encoder(folder / "model")
    assert (encoder.spec.family, encoder.pooling) == ("Qwen2.5-VL", "mean")
    assert (encoder.max_length, encoder.spec.default_normalize) == (32768, True)
    assert encoder.tasks == ("retrieval", "text-matching", "code")
    cases = text_cases(folder)
    check(encoder, folder, cases, {case["id"]: case["effective_prefix"] for case in cases if case["kind"] == "text"})
    expected = np.load(folder / "expected.npz")
    for case in cases:
        if case["kind"] == "text":  # the prompt by its name: for one of the tasks always the same
            got = encoder.encode([case["text"]], task=[case["task"]], prompt_name=case["prompt_name"])[0]
            np.testing.assert_allclose(got, expected[f"emb/{case['id']}"], rtol=0, atol=5e-6, err_msg=case["id"])


def test_jina_v4_in_the_newer_spelling(golden: Path, tmp_path: Path) -> None:
    folder = golden / "jina-v4"
    source = folder / "model"
    spelling = {"model.": "model.language_model.", "visual.": "model.visual."}

    def respelt(name: str) -> str:
        old = next((old for old in spelling if name.startswith(old)), "")
        return spelling.get(old, "") + name.removeprefix(old)

    tensors = {respelt(name): values for name, values in read_tensors(source).items()}
    copy = write_checkpoint(source, tmp_path / "respelt", tensors, read_config(source))
    ids = list(range(1, 50))
    for task in ("code", "base"):
        got = Encoder(copy).encode_ids([ids], task=task)
        np.testing.assert_array_equal(got, Encoder(source).encode_ids([ids], task=task))


def test_jina_clip_v2_text_tower(isa: str, golden: Path) -> None:
    folder = golden / "jina-clip-v2"
    encoder = Encoder(folder / "model")
    assert (encoder.spec.family, encoder.tasks) == ("jina-clip-v2", ("retrieval.query",))
    assert (encoder.spec.num_layers, encoder.spec.max_tokens, encoder.max_length) == (3, 8194, 512)
    assert (encoder.pooling, encoder.normalizes) == ("mean", True)
    cases = text_cases(folder)
    check(encoder, folder, cases, {case["id"]: encoder.prompts.get(case["task"], "") for case in cases})
    ids = [[0, 7, 9, 2]]
    default = encoder.encode_ids(ids)
    np.testing.assert_array_equal(encoder.encode_ids(ids, task="retrieval.query"), default)
    assert np.abs(encoder.encode_ids(ids, task="base") - default).max() > 0.01


def test_jina_clip_v2_without_the_nested_config_takes_the_published_shape(golden: Path, tmp_path: Path) -> None:
    source = golden / "jina-clip-v2" / "model"
    config = read_config(source)
    config["text_config"]["hf_model_name_or_path"] = "jinaai/jina-embeddings-v3"
    texts_alone = {
        name: values for name, values in read_tensors(source).items() if not name.startswith("vision_model.")
    }
    checkpoint = Checkpoint.open(write_checkpoint(source, tmp_path / "clip", texts_alone, config))
    spec, _ = JINA_CLIP.describe(checkpoint)
    assert (spec.hidden_size, spec.num_layers, spec.num_heads, spec.intermediate_size) == (1024, 24, 16, 4096)
    assert (spec.vocab_size, spec.layers[0].rotary.theta, spec.norm_eps) == (250002, 20000.0, 1e-5)
    assert spec.vision is None


MERGED_LIMIT = 1e-6  # unit vectors; merging rounds the weights, which the notes say costs 3e-8, and both sides sum


@pytest.mark.parametrize("name", ["jina-v5-text-small", "jina-v5-text-nano"])
def test_jina_v5_with_an_adapter_merged(name: str, golden: Path, tmp_path: Path) -> None:
    source = golden / name / "model"
    encoder = Encoder(source)
    for task in V5_TASKS:
        tensors = merge_peft(read_tensors(source), source / "adapters" / task)
        copy = write_checkpoint(source, tmp_path / task, tensors, read_config(source))
        ids = [list(range(1, 60)), [5]]
        got = Encoder(copy).encode_ids(ids, task="base")
        np.testing.assert_allclose(encoder.encode_ids(ids, task=task), got, rtol=0, atol=MERGED_LIMIT)


def test_jina_v3_with_an_adapter_merged(golden: Path, tmp_path: Path) -> None:
    source = golden / "jina-v3"
    tensors, config = read_tensors(source), read_config(source)
    encoder = Encoder(source)
    for index, task in enumerate(encoder.tasks):
        merged = merge_stacked(tensors, index, config["lora_alpha"] / config["lora_rank"])
        alone = Encoder(write_checkpoint(source, tmp_path / task, merged, config))
        assert alone.tasks == ()
        ids = [list(range(60)), [5]]
        got = encoder.encode_ids(ids, task=task)
        np.testing.assert_allclose(got, alone.encode_ids(ids), rtol=0, atol=MERGED_LIMIT)


def test_jina_colbert_v2_backbone(isa: str, golden: Path, tmp_path: Path) -> None:
    folder = golden / "jina-colbert-v2"
    encoder = Encoder(spoilt(folder, tmp_path / "model", lambda tensors: tensors.pop("linear.weight")))
    assert encoder.spec.family == "XLM-RoBERTa with RoPE"
    expected = np.load(folder / "expected.npz")
    projection = read_tensors(folder)["linear.weight"].astype(np.float64)
    case = json.loads((folder / "cases.json").read_text())["cases"][0]
    for row, hidden in enumerate(encoder.encode_ids(case["query_ids"], output_value="token_embeddings")):
        np.testing.assert_allclose(hidden, expected["basic/query_hidden"][row], rtol=0, atol=1e-4)
    for ids, mask, truth in colbert_rows(folder, expected):
        hidden = encoder.encode_ids([np.array(ids)[np.array(mask, bool)]], output_value="token_embeddings")[0]
        vectors = hidden @ projection.T
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors[: len(truth)], truth[: len(vectors)], rtol=0, atol=5e-6)


def colbert_rows(folder: Path, expected: np.lib.npyio.NpzFile) -> Iterator[tuple[list[int], list[int], np.ndarray]]:
    """Ids, mask and token vectors of every query and document but the long one, of which only some rows are stored."""
    for case in json.loads((folder / "cases.json").read_text())["cases"]:
        yield from zip(case["query_ids"], case["query_attention_mask"], expected[f"{case['name']}/query_vectors"])
        if f"{case['name']}/doc_vectors_unmasked" in expected:
            documents = expected[f"{case['name']}/doc_vectors_unmasked"]
            yield from zip(case["doc_ids"], case["doc_attention_mask"], documents)
