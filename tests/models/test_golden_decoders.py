"""Every text case of the goldens of jina-v5, jina-code, jina-v4, jina-clip-v2, jina-v3's tasks and colbert's backbone.

Adapters are merged into the weights here, which the formulas of the model notes allow: this shows the backbones right
under every adapter, apart from how adapters are run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from checkpoints import merge_peft, merge_stacked, read_config, read_tensors, write_checkpoint
from longspan import Encoder
from longspan.checkpoint import Checkpoint
from longspan.models.weights import load_weights
from longspan.models.xlm_roberta_flash import JINA_CLIP_TEXT
from longspan.safetensors_folder import SafetensorsFolder

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
    for case in cases:
        if case["kind"] == "text":
            prompt = prompts[case["id"]]
            options = {"prompt": prompt, "max_length": case.get("max_length")}
            tokenized = encoder.tokenize([case["text"]], **options)[0]
            assert tokenized.ids.tolist() == expected[f"ids/{case['id']}"].tolist(), case["id"]
            got = encoder.encode(case["text"], **options, normalize_embeddings=True, on_truncate="ignore")
            np.testing.assert_allclose(got, expected[f"emb/{case['id']}"], rtol=0, atol=limit, err_msg=case["id"])
    ids = [expected[f"ids/{case['id']}"] for case in cases]
    pooled = encoder.encode_ids(ids, normalize_embeddings=True)
    states = encoder.encode_ids(ids, output_value="token_embeddings")
    for case, vector, hidden in zip(cases, pooled, states):
        name = case["id"]
        np.testing.assert_allclose(vector, expected[f"emb/{name}"], rtol=0, atol=limit, err_msg=name)
        np.testing.assert_array_equal(np.packbits(vector > 0), expected[f"sign/{name}"], err_msg=name)
        if case.get("has_hidden"):
            np.testing.assert_allclose(hidden, expected[f"hidden/{name}"], rtol=0, atol=HIDDEN_LIMIT, err_msg=name)
    for dim in cases[0]["truncate_dims"]:
        for case, short in zip(cases, encoder.encode_ids(ids, truncate_dim=dim, normalize_embeddings=True)):
            stretch = 1 / np.linalg.norm(expected[f"emb/{case['id']}"][:dim])  # of errors as well, to unit length
            truth = expected[f"emb{dim}/{case['id']}"]
            np.testing.assert_allclose(short, truth, rtol=0, atol=limit * stretch, err_msg=case["id"])


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


@pytest.mark.parametrize("task", V5_TASKS)
@pytest.mark.parametrize("name", ["jina-v5-text-small", "jina-v5-text-nano"])
def test_jina_v5_with_each_adapter_merged(name: str, task: str, golden: Path, tmp_path: Path) -> None:
    source = golden / name / "model"
    tensors = merge_peft(read_tensors(source), source / "adapters" / task)
    encoder = Encoder(write_checkpoint(source, tmp_path / "merged", tensors, read_config(source)))
    assert (encoder.pooling, encoder.spec.default_normalize) == ("lasttoken", True)  # its modules.json names neither
    cases = [case for case in text_cases(golden / name) if case["task"] == task]
    check(encoder, golden / name, cases, v5_prompts(encoder, cases))


def v5_prompts(encoder: Encoder, cases: list[dict]) -> dict[str, str]:
    """The prompt of every text case."""
    return {case["id"]: encoder.prompts[case["prompt_name"]] for case in cases if case["kind"] == "text"}


@pytest.mark.parametrize("spelling", ["model.", "model.language_model."])
@pytest.mark.parametrize("task", ["retrieval", "text-matching", "code"])
def test_jina_v4_text_with_each_adapter_merged(task: str, spelling: str, golden: Path, tmp_path: Path) -> None:
    folder = golden / "jina-v4"
    source = folder / "model"
    tensors = merge_peft(read_tensors(source), source / "adapters", task)
    respelt = {
        name.replace("model.", spelling, 1)
        if name.startswith("model.")
        else name.replace("visual.", "model.visual.")
        if spelling != "model." and name.startswith("visual.")
        else name: values
        for name, values in tensors.items()
    }
    encoder = Encoder(write_checkpoint(source, tmp_path / "merged", respelt, read_config(source)))
    assert (encoder.spec.family, encoder.pooling) == ("Qwen2.5-VL text side", "mean")
    assert (encoder.max_length, encoder.spec.default_normalize) == (32768, True)
    cases = [case for case in text_cases(folder) if case["task"] == task]
    check(encoder, folder, cases, {case["id"]: case["effective_prefix"] for case in cases if case["kind"] == "text"})


def test_jina_v4_loads_from_its_shards(golden: Path) -> None:
    assert Encoder(golden / "jina-v4" / "model").encode("a text").shape == (64,)


def test_jina_clip_v2_text_tower_with_its_adapter_merged(isa: str, golden: Path, tmp_path: Path) -> None:
    """In the layout of jina-colbert-v2, which has no adapters; the tower's own layout is read by the next test."""
    folder = golden / "jina-clip-v2"
    source = folder / "model"
    settings = read_config(source)["text_config"]["hf_model_config_kwargs"]
    scaling = settings["lora_alpha"] / settings["lora_rank"]
    prefix = "text_model.transformer."
    tower = {
        name.removeprefix(prefix): values for name, values in read_tensors(source).items() if name.startswith(prefix)
    }
    merged = merge_stacked(tower, 0, scaling)
    encoder = Encoder(write_checkpoint(source, tmp_path / "merged", merged, read_config(source / "text_backbone")))
    cases = text_cases(folder)
    instructions = settings["task_instructions"]
    prompts = {case["id"]: instructions.get(case["task"], "") for case in cases}
    check(encoder, folder, cases, prompts)


def test_jina_clip_v2_is_described(golden: Path) -> None:
    checkpoint = Checkpoint.open(golden / "jina-clip-v2" / "model")
    assert JINA_CLIP_TEXT.matches(checkpoint)
    spec, names = JINA_CLIP_TEXT.describe(checkpoint)
    assert (spec.num_layers, spec.max_tokens, spec.default_max_tokens) == (3, 8194, 512)
    assert (spec.default_pooling, spec.default_normalize) == ("mean", True)
    weights = load_weights(checkpoint, spec, names)
    stored = SafetensorsFolder.open(checkpoint.folder)
    original = "text_model.transformer.roberta.embeddings.word_embeddings.parametrizations.weight.original"
    np.testing.assert_array_equal(weights.word_embeddings, stored.read(original))


def test_jina_clip_v2_without_the_nested_config_takes_the_published_shape(golden: Path, tmp_path: Path) -> None:
    source = golden / "jina-clip-v2" / "model"
    config = read_config(source)
    config["text_config"]["hf_model_name_or_path"] = "jinaai/jina-embeddings-v3"
    checkpoint = Checkpoint.open(write_checkpoint(source, tmp_path / "clip", read_tensors(source), config))
    spec, _ = JINA_CLIP_TEXT.describe(checkpoint)
    assert (spec.hidden_size, spec.num_layers, spec.num_heads, spec.intermediate_size) == (1024, 24, 16, 4096)
    assert (spec.vocab_size, spec.layers[0].rotary.theta, spec.norm_eps) == (250002, 20000.0, 1e-5)


def test_jina_v3_with_each_adapter_merged(golden: Path, tmp_path: Path) -> None:
    source = golden / "jina-v3"
    tensors, config = read_tensors(source), read_config(source)
    golden_cases = json.loads((source / "cases.json").read_text())
    expected = np.load(source / "expected.npz")
    for index, task in enumerate(config["lora_adaptations"]):
        merged = merge_stacked(tensors, index, config["lora_alpha"] / config["lora_rank"])
        encoder = Encoder(write_checkpoint(source, tmp_path / task, merged, config))
        place = golden_cases["task_order"].index(task)
        for case in golden_cases["cases"]:
            rows = zip(case["input_ids"], case["attention_mask"])
            ids = [np.array(row)[np.array(mask, bool)] for row, mask in rows]
            truth = expected[f"{case['name']}/pooled_l2_by_task"][place]
            np.testing.assert_allclose(encoder.encode_ids(ids), truth, rtol=0, atol=5e-6, err_msg=case["name"])


def test_jina_colbert_v2_backbone(isa: str, golden: Path) -> None:
    folder = golden / "jina-colbert-v2"
    encoder = Encoder(folder)
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
