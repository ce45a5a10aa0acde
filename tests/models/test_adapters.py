"""Adapters of one's own beside the published ones, and hostile ones of every kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints import Change, Tensors, assert_refused, merge_peft, read_config, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError, Encoder

POOLED_LIMIT = 5e-6  # the golden README's, for a float32 runtime
V3, SMALL, V4, CLIP = "jina-v3", "jina-v5-text-small/model", "jina-v4/model", "jina-clip-v2/model"
TEXTS = [
    "what is late chunking?",
    "A",
    "Crème brûlée coûte 3,50 €",
    "快速的棕色狐狸",
    "def add(a, b):\n    return a + b",
]


def peft_folder(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    """An adapter as PEFT writes it."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["query", "dense"]}
    settings |= {"use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}, **config}
    (folder / "adapter_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v != "absent"}))
    if tensors:
        save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def bert_factors() -> dict[str, np.ndarray]:
    """Of rank 4, for the query and every dense layer of bert-minilm's golden."""
    rng = np.random.default_rng(3)
    tensors = {}
    for layer in range(2):
        at = f"base_model.model.encoder.layer.{layer}"
        for module, out, inputs in (
            ("attention.self.query", 64, 64),
            ("attention.output.dense", 64, 64),
            ("intermediate.dense", 128, 64),
            ("output.dense", 64, 128),
        ):
            tensors[f"{at}.{module}.lora_A.weight"] = (0.1 * rng.standard_normal((4, inputs))).astype(np.float32)
            tensors[f"{at}.{module}.lora_B.weight"] = (0.1 * rng.standard_normal((out, 4))).astype(np.float32)
    return tensors


def test_an_adapter_of_one_s_own(isa: str, golden: Path, tmp_path: Path) -> None:
    base = golden / "bert-minilm"
    adapter = peft_folder(tmp_path / "adapter", bert_factors())
    encoder = Encoder(base)
    before = encoder.encode(TEXTS)
    encoder.load_adapter("mine", adapter)
    assert encoder.tasks == ("mine",)
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)
    merged = Encoder(
        write_checkpoint(base, tmp_path / "merged", merge_peft(read_tensors(base), adapter), read_config(base))
    )
    mine = encoder.encode(TEXTS, task="mine")
    np.testing.assert_allclose(mine, merged.encode(TEXTS), rtol=0, atol=POOLED_LIMIT)
    assert np.abs(mine - before).max() > 0.01
    # Another rank, other modules, other wrappers, a single one of the stacked q, k and v.
    factors = {
        f"base_model.model.bert.encoder.layer.1.attention.self.key.lora_{part}.weight": np.full(shape, 0.1, np.float32)
        for part, shape in (("A", (7, 64)), ("B", (64, 7)))
    }
    other = peft_folder(tmp_path / "other", factors, r=7, lora_alpha=7, target_modules="all-linear")
    encoder.load_adapter("other", str(other))
    np.testing.assert_array_equal(encoder.encode(TEXTS, task="mine"), mine)
    tasks = ["other", "mine", None, "other", "base"]
    mixed = encoder.encode(TEXTS, task=tasks)
    for place, task in enumerate(tasks):
        np.testing.assert_array_equal(mixed[place], encoder.encode(TEXTS[place], task=task))
    alone = Encoder(base)
    alone.load_adapter("other", other)
    np.testing.assert_array_equal(alone.encode(TEXTS, task="other"), encoder.encode(TEXTS, task="other"))


def test_an_adapter_beside_the_published_ones(golden: Path) -> None:
    """v5's own folder as a fifth task is its first task again, bit for bit."""
    encoder = Encoder(golden / SMALL)
    before = encoder.encode(TEXTS, task="clustering")
    encoder.load_adapter("again", golden / SMALL / "adapters" / "retrieval")
    assert encoder.tasks[-2:] == ("classification", "again")
    np.testing.assert_array_equal(encoder.encode(TEXTS, task="clustering"), before)
    both = encoder.encode([TEXTS[0], TEXTS[0]], task=["again", "retrieval"])
    np.testing.assert_array_equal(both[0], both[1])


QUERY = "base_model.model.encoder.layer.1.attention.self.query"


def reshaped(part: str, shape: tuple[int, int]) -> Callable[[Tensors], object]:
    return lambda t: t.update({f"{QUERY}.lora_{part}.weight": np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    "change, config, message",
    [
        (None, {"peft_type": "IA3"}, "'peft_type' must be 'LORA' or absent, got 'IA3'; only plain LoRA is supported"),
        (None, {"peft_type": "absent"}, "'peft_type' is missing"),
        (None, {"use_dora": True}, "'use_dora' must be False or absent, got True"),
        (None, {"use_rslora": True}, "'use_rslora' must be False or absent, got True"),
        (None, {"bias": "all"}, "'bias' must be 'none' or absent, got 'all'"),
        (None, {"lora_bias": True}, "'lora_bias' must be False"),
        (None, {"modules_to_save": ["classifier"]}, r"'modules_to_save' must be \[\] or absent, got \['classifier'\]"),
        (None, {"rank_pattern": {"query": 8}}, "'rank_pattern' must be {} or absent"),
        (None, {"alpha_pattern": {"query": 8}}, "'alpha_pattern' must be {} or absent"),
        (None, {"fan_in_fan_out": True}, "'fan_in_fan_out' must be False"),
        (None, {"r": 0}, "'r' must be 1 or more, got 0"),
        (None, {"r": "absent"}, "'r' is missing; it must be an integer"),
        (None, {"lora_alpha": "absent"}, "'lora_alpha' is missing"),
        (None, {"r": 8}, r"lora_A.weight must be \(8, in\) by 'r', got \(4, 64\)"),
        (reshaped("B", (64, 5)), {}, r"query.lora_B.weight must be \(out, 4\) by 'r', got \(64, 5\)"),
        (reshaped("B", (63, 4)), {}, r"layer.1.attention.self.query must be for \(64, 64\) .* got \(63, 64\)"),
        (reshaped("A", (4, 65)), {}, r"layer.1.attention.self.query must be for \(64, 64\) .* got \(64, 65\)"),
        (lambda t: t.pop(f"{QUERY}.lora_B.weight"), {}, "layer.1.attention.self.query.lora_B.weight is missing"),
        (
            lambda t: [t.pop(f"{QUERY}.lora_{part}.weight") for part in "AB"],
            {},
            "tensor encoder.layer.1.attention.self.query.lora_A.weight is missing, a target of the adapter",
        ),
        (
            lambda t: t.update({name.replace("layer.1", "layer.7"): t[name] for name in list(t)}),
            {},
            "encoder.layer.7.* has an adapter, but is no linear layer of this model",
        ),
        (
            lambda t: t.update({f"{QUERY}.lora_magnitude_vector": np.ones(4, np.float32)}),
            {},
            "query.lora_magnitude_vector is no factor of a linear layer's adapter; names must end with lora_A.weight",
        ),
        (
            lambda t: t.update(
                {"base_model.model.embeddings.word_embeddings.lora_embedding_A": np.ones((4, 9), np.float32)}
            ),
            {},
            "word_embeddings.lora_embedding_A is no factor of a linear layer's adapter",
        ),
        (
            lambda t: t.update({name.replace("model.enc", "model.bert.enc"): t[name] for name in list(t)}),
            {},
            "are the same factor",
        ),
        (
            lambda t: t[f"{QUERY}.lora_B.weight"].__setitem__((3, 2), np.nan),
            {},
            "'base_model.model.encoder.layer.1.attention.self.query.lora_B.weight' holds nan",
        ),
        (lambda t: t.clear(), {}, "adapter has no adapter_model.safetensors"),
    ],
)
def test_hostile_adapters(
    change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    encoder = Encoder(golden / "bert-minilm")
    factors = bert_factors()
    if change is not None:
        change(factors)
    with pytest.raises(CheckpointError, match=message):
        encoder.load_adapter("bad", peft_folder(tmp_path / "adapter", factors, **config))
    assert encoder.tasks == ()


def test_load_adapter_s_arguments(golden: Path, tmp_path: Path) -> None:
    encoder = Encoder(golden / V3)
    with pytest.raises(ValueError, match="load_adapter: name must be a str that is not empty, got ''"):
        encoder.load_adapter("", tmp_path)
    for name in ("base", "separation"):
        with pytest.raises(ValueError, match=f"load_adapter: there is a task '{name}' already; choose another name"):
            encoder.load_adapter(name, tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder; give the folder that holds adapter_config"):
        encoder.load_adapter("mine", tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing"):
        encoder.load_adapter("mine", tmp_path)


FC1 = "roberta.encoder.layers.1.mlp.fc1.parametrizations.weight.0"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(f"{FC1}.lora_A"), {}, f"tensor {FC1}.lora_A is missing"),
        (
            lambda t: t.update({f"{FC1}.lora_A": t[f"{FC1}.lora_A"][:4]}),
            {},
            r"lora_A must be \(5, 4, 64\) .* \(4, 4, 64\)",
        ),
        (lambda t: t.update({f"{FC1}.lora_B": t[f"{FC1}.lora_B"][..., :3]}), {}, r"lora_B must be \(5, 128, 4\)"),
        (lambda t: t[f"{FC1}.lora_B"].__setitem__((4, 1, 1), np.inf), {}, f"tensor '{FC1}.lora_B' holds inf"),
        (None, {"lora_rank": 8}, r"Wqkv.*lora_A must be \(5, 8, 64\) by the config, got \(5, 4, 64\)"),
        (None, {"lora_rank": None}, "'lora_rank' is missing"),
        (None, {"lora_alpha": 0}, "'lora_alpha' must be above 0, got 0"),
        (None, {"lora_adaptations": None}, "'lora_adaptations' is missing"),
        (None, {"lora_adaptations": ["a", "a"]}, "'lora_adaptations' must be a list of different names"),
        (None, {"lora_adaptations": ["base"]}, r"'lora_adaptations' must be a list of different names, got \['base'\]"),
        (None, {"lora_adaptations": ["a"]}, r"Wqkv.*lora_A must be \(1, 4, 64\) by the config, got \(5, 4, 64\)"),
        (None, {"matryoshka_dimensions": [8, 65]}, "'matryoshka_dimensions' must be different integers from 1 to 64"),
        (None, {"task_instructions": {"separation": 3}}, "task_instructions: 'separation' must be a string, got 3"),
    ],
)
def test_hostile_stacked_adapters(
    change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    assert_refused(golden / V3, tmp_path, change, config, message)


def test_hostile_published_folders(golden: Path, tmp_path: Path) -> None:
    small = spoilt(golden / SMALL, tmp_path / "small")
    shutil.rmtree(small / "adapters" / "clustering")
    with pytest.raises(CheckpointError, match="clustering is missing: it holds the adapter of the task 'clustering'"):
        Encoder(small)
    with pytest.raises(CheckpointError, match="'task_names' is missing; it must be a list"):
        Encoder(spoilt(golden / SMALL, tmp_path / "none", task_names=None))
    v4 = spoilt(golden / V4, tmp_path / "v4")
    factors = read_tensors(v4 / "adapters", "adapter_model")
    dropped = next(name for name in factors if ".mlp.down_proj.lora_A.code." in name)
    factors.pop(dropped)
    (v4 / "adapters" / "adapter_model.safetensors").unlink()
    save_file(factors, v4 / "adapters" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers.0.mlp.down_proj.lora_A.code.weight is missing"):
        Encoder(v4)
    with pytest.raises(
        CheckpointError, match="is no factor of a linear layer's adapter; names must end with lora_A.<cod"
    ):
        Encoder(spoilt(golden / V4, tmp_path / "fewer", task_names=["retrieval", "code"]))
    config = read_config(golden / CLIP)["text_config"]
    config["default_lora_task"] = "separation"
    with pytest.raises(CheckpointError, match="'default_lora_task' must be one of retrieval.query, got 'separation'"):
        Encoder(spoilt(golden / CLIP, tmp_path / "clip", text_config=config))
