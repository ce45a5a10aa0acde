"""Strict loading: a tensor that is missing, unexpected, misshapen or not finite, and a config that lies, are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from longspan import CheckpointError, Encoder

Tensors = dict[str, np.ndarray]
QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def spoilt(golden: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of bert-minilm: spoilt(change of the tensors, changed keys of config.json)."""

    def make(change: Callable[[Tensors], object] = lambda _: None, **config: object) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(golden / "bert-minilm", folder)
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        values = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**values, **config}))
        return folder

    return make


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop(QUERY), f"tensor {QUERY} is missing"),
        (lambda t: t.update({"encoder.layer.2.x": np.ones(3, np.float32)}), "tensor encoder.layer.2.x is not part of"),
        (lambda t: t.update({QUERY: t[QUERY][:, :-1].copy()}), rf"tensor {QUERY} must be \(64, 64\) .* got \(64, 63\)"),
        (lambda t: t[QUERY].__setitem__((3, 4), np.nan), f"tensor '{QUERY}' holds nan at flat position 196"),
        (lambda t: t["embeddings.LayerNorm.bias"].__setitem__(0, np.inf), "'embeddings.LayerNorm.bias' holds inf"),
        (lambda t: t["embeddings.word_embeddings.weight"].__setitem__((7, 1), np.nan), "word_embeddings.*holds nan"),
    ],
)
def test_spoilt_tensors(spoilt: Callable[..., Path], change: Callable[[Tensors], object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Encoder(spoilt(change))


@pytest.mark.parametrize(
    "config, message",
    [
        (
            {"num_hidden_layers": 3},
            r"tensors encoder.layer.2.attention.output.LayerNorm.bias, .* and 13 more are missing",
        ),
        ({"num_hidden_layers": 1}, "tensors encoder.layer.1.* and 13 more are not part of this model"),
        ({"hidden_size": 128}, r"must be \(\d+, 128\) by the config, got \(\d+, 64\)"),
        ({"vocab_size": 901}, r"embeddings.word_embeddings.weight must be \(901, 64\)"),
        ({"max_position_embeddings": 513}, r"embeddings.position_embeddings.weight must be \(513, 64\)"),
        ({"type_vocab_size": 1}, r"embeddings.token_type_embeddings.weight must be \(1, 64\)"),
        ({"num_attention_heads": 5}, "'hidden_size' 64 is no multiple of 'num_attention_heads' 5"),
        ({"num_attention_heads": 0}, "'num_attention_heads' must be from 1 to 100000, got 0"),
        ({"hidden_act": "mish"}, "'hidden_act' must be one of gelu, .* got 'mish'"),
        ({"is_decoder": True}, "'is_decoder' is true; BERT is supported as an encoder only"),
        ({"model_type": "mamba"}, "model_type 'mamba' .* is not supported; supported are: BERT with absolute"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is not supported"),
    ],
)
def test_configs_that_lie(spoilt: Callable[..., Path], config: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Encoder(spoilt(**config))


def test_published_variants_of_the_names_load(spoilt: Callable[..., Path], golden: Path) -> None:
    """A `bert.` prefix, a pooler, gamma and beta, and the position ids that old versions saved."""
    expected = Encoder(golden / "bert-minilm").encode(["a text"])

    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            new = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[f"bert.{new}"] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = np.arange(512)[None]
        tensors["cls.predictions.bias"] = np.ones(3, np.float32)

    np.testing.assert_array_equal(Encoder(spoilt(rename)).encode(["a text"]), expected)


def test_float16_weights_load_without_overflow(spoilt: Callable[..., Path], golden: Path) -> None:
    def halve(tensors: Tensors) -> None:
        for name, values in tensors.items():
            tensors[name] = values.astype(np.float16)

    got = Encoder(spoilt(halve)).encode(["a text"])
    np.testing.assert_allclose(got, Encoder(golden / "bert-minilm").encode(["a text"]), atol=2e-3)


def test_dense_module(spoilt: Callable[..., Path], golden: Path) -> None:
    folder = spoilt()
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    settings = {
        "in_features": 64,
        "out_features": 24,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((24, 64), np.float32), rng.standard_normal(24, np.float32)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")

    encoder = Encoder(folder)
    pooled = Encoder(golden / "bert-minilm").encode(["a text", "b"], normalize_embeddings=False)
    expected = np.tanh(pooled.astype(np.float64) @ weight.T + bias)
    assert encoder.dim == 24
    np.testing.assert_allclose(encoder.encode(["a text", "b"], normalize_embeddings=False), expected, atol=1e-5)

    save_file({"linear.weight": weight[:, 1:].copy(), "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"linear.weight must be \(24, 64\), got \(24, 63\)"):
        Encoder(folder)
    (folder / "2_Dense" / "config.json").write_text(json.dumps({**settings, "activation_function": "x.Mish"}))
    with pytest.raises(CheckpointError, match="'activation_function' must be one of Identity, .* got 'Mish'"):
        Encoder(folder)


def test_heads_of_other_tasks_are_left_out_with_one_warning(spoilt: Callable[..., Path], golden: Path) -> None:
    def add(tensors: Tensors) -> None:
        tensors["classifier.weight"] = np.ones((2, 64), np.float32)
        tensors["classifier.bias"] = np.ones(2, np.float32)
        tensors["embeddings.token_type_ids"] = np.zeros((1, 512), np.int64)

    with pytest.warns(UserWarning, match=r"classifier.bias, .* embeddings.token_type_ids are not needed") as caught:
        got = Encoder(spoilt(add)).encode(["a text"])
    assert len(caught) == 1
    np.testing.assert_array_equal(got, Encoder(golden / "bert-minilm").encode(["a text"]))


@pytest.mark.parametrize("name", ["embeddings.more.weight", "teacher.encoder.layer.0.output.dense.weight"])
def test_what_looks_like_the_encoder_s_is_an_error(spoilt: Callable[..., Path], name: str) -> None:
    with pytest.raises(CheckpointError, match=f"tensor {name} is not part of"):
        Encoder(spoilt(lambda tensors: tensors.update({name: np.ones((2, 2), np.float32)})))


@pytest.mark.parametrize("prefix", ["module.bert.", "0.auto_model.", "encoder.model."])
def test_a_wrapper_s_prefix_is_found(spoilt: Callable[..., Path], prefix: str, golden: Path) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    np.testing.assert_array_equal(
        Encoder(spoilt(rename)).encode(["a text"]), Encoder(golden / "bert-minilm").encode(["a text"])
    )
