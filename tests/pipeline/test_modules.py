"""What stands behind the encoder in modules.json: poolings, joined ones, heads; against the formulas in float64."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from longspan import CheckpointError, Encoder

TEXTS = ["one", "a text of some more words than one", "of", "The library's formulas, written out again in float64."]
ERROR = 2e-6


@pytest.fixture
def copy(golden: Path, tmp_path: Path) -> Path:
    """A copy of the tiny MiniLM, to be changed, that normalises nothing."""
    folder = tmp_path / "model"
    shutil.copytree(golden / "bert-minilm", folder, ignore=shutil.ignore_patterns("expected.npz", "cases.json"))
    write_modules(folder, "Transformer", "Pooling")
    return folder


def write_modules(folder: Path, *kinds: str) -> None:
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {"idx": place, "name": str(place), "path": paths.get(kind, f"{place}_{kind}"),
         "type": f"sentence_transformers.models.{kind}"}
        for place, kind in enumerate(kinds)
    ]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))


def write_pooling(folder: Path, *modes: str, newer: bool = False, **more: object) -> None:
    flags = {f"pooling_mode_{mode.removesuffix('_tokens')}_tokens": True for mode in modes}
    flags |= {"pooling_mode_mean_tokens": "mean" in modes, "pooling_mode_cls_token": "cls" in modes}
    said: dict[str, object] = {"pooling_mode": list(modes)} if newer else {**flags}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64, **said, **more}))


def weighted(tokens: np.ndarray, places: np.ndarray) -> np.ndarray:
    return (tokens * (places + 1)[:, None]).sum(0) / (places + 1).sum()


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cls": lambda tokens, places: tokens[0],
    "max": lambda tokens, places: tokens.max(0),
    "mean": lambda tokens, places: tokens.mean(0),
    "mean_sqrt_len_tokens": lambda tokens, places: tokens.sum(0) / np.sqrt(len(tokens)),
    "weightedmean": weighted,
    "lasttoken": lambda tokens, places: tokens[-1],
}


def pooled(encoder: Encoder, modes: tuple[str, ...]) -> np.ndarray:
    tokens = [np.asarray(one, np.float64) for one in encoder.encode(TEXTS, output_value="token_embeddings")]
    return np.stack([np.concatenate([FORMULAS[mode](one, np.arange(len(one))) for mode in modes]) for one in tokens])


@pytest.mark.parametrize("mode", FORMULAS)
def test_each_pooling(mode: str, copy: Path) -> None:
    write_pooling(copy, mode, newer=mode in ("lasttoken", "weightedmean", "mean_sqrt_len_tokens"))
    encoder = Encoder(copy)
    assert encoder.pooling == mode
    got = encoder.encode(TEXTS)
    assert np.abs(got - pooled(encoder, (mode,))).max() < ERROR
    assert np.array_equal(got[1], encoder.encode(TEXTS[1]))


@pytest.mark.parametrize("flag", ["max", "weightedmean"])
def test_older_flags(flag: str, copy: Path) -> None:
    write_pooling(copy, flag)
    assert Encoder(copy).pooling == flag


def test_joined_poolings_keep_their_order(copy: Path) -> None:
    write_pooling(copy, "cls", "mean")
    encoder = Encoder(copy)
    assert (encoder.pooling, encoder.dim) == (("cls", "mean"), 128)
    assert np.abs(encoder.encode(TEXTS) - pooled(encoder, ("cls", "mean"))).max() < ERROR
    every = tuple(FORMULAS)[::-1]
    write_pooling(copy, *every, newer=True)
    encoder = Encoder(copy)
    assert encoder.dim == 6 * 64
    assert np.abs(encoder.encode(TEXTS) - pooled(encoder, every)).max() < ERROR
    assert encoder.encode(TEXTS, truncate_dim=100).shape == (4, 100)


def test_an_unknown_pooling_is_named(copy: Path) -> None:
    write_pooling(copy, "attention", newer=True)
    with pytest.raises(CheckpointError, match=r"'pooling_mode' must be of .*mean_sqrt_len_tokens.*, got"):
        Encoder(copy)


@pytest.mark.parametrize("modes", [("cls",), ("max",), ("weightedmean",), ("mean", "cls", "lasttoken")])
def test_the_prompt_left_out(modes: tuple[str, ...], copy: Path) -> None:
    """As many tokens go as the prompt has by itself, special ones included but the last."""
    write_pooling(copy, *modes, newer=True, include_prompt=False)
    encoder = Encoder(copy)
    prompt = "find it: "
    alone = len(encoder.tokenize([prompt])[0].ids) - 1
    texts = encoder.encode(TEXTS, prompt=prompt, output_value="token_embeddings")
    places = [np.arange(alone, len(one)) for one in texts]
    want = [
        np.concatenate([FORMULAS[mode](np.asarray(one, np.float64)[own], own) for mode in modes])
        for one, own in zip(texts, places, strict=True)
    ]
    assert np.abs(encoder.encode(TEXTS, prompt=prompt) - np.stack(want)).max() < ERROR


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "SiLU": lambda x: x / (1 + np.exp(-x)),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_dense_activations(name: str, copy: Path) -> None:
    plain = Encoder(copy).encode(TEXTS).astype(np.float64)
    write_modules(copy, "Transformer", "Pooling", "Dense", "Dropout", "LayerNorm")
    rng = np.random.default_rng(3)
    weight, bias = rng.standard_normal((24, 64)).astype(np.float32), rng.standard_normal(24).astype(np.float32)
    scale, shift = rng.standard_normal(24).astype(np.float32), rng.standard_normal(24).astype(np.float32)
    for folder, config, tensors in (
        ("2_Dense", {"in_features": 64, "out_features": 24,
                     "activation_function": f"torch.nn.modules.activation.{name}"},
         {"linear.weight": weight, "linear.bias": bias}),
        ("4_LayerNorm", {"dimension": 24}, {"norm.weight": scale, "norm.bias": shift}),
    ):  # fmt: skip
        (copy / folder).mkdir()
        (copy / folder / "config.json").write_text(json.dumps(config))
        save_file(tensors, copy / folder / "model.safetensors")
    dense = ACTIVATIONS[name](plain @ weight.T.astype(np.float64) + bias)
    centred = dense - dense.mean(1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * scale + shift
    encoder = Encoder(copy)
    assert encoder.dim == 24
    assert np.abs(encoder.encode(TEXTS) - want).max() < 2e-5
    (copy / "4_LayerNorm" / "config.json").write_text(json.dumps({"dimension": 23}))
    with pytest.raises(CheckpointError, match=r"'dimension' must be 24, the width of what comes, got 23"):
        Encoder(copy)


def test_max_length_may_be_set(copy: Path) -> None:
    encoder = Encoder(copy)
    text = "word " * 400
    short = encoder.encode(text, on_truncate="ignore")
    encoder.max_seq_length = 512
    assert (encoder.max_length, encoder.max_seq_length) == (512, 512)
    assert not np.array_equal(encoder.encode(text, on_truncate="ignore"), short)
    with pytest.raises(ValueError, match="encode: max_length must be from 3 to 512, got 1600"):
        encoder.max_length = 1600
    assert encoder.max_length == 512


def write_dense(folder: Path, rng: np.random.Generator, shape: tuple[int, int], **config: object) -> np.ndarray:
    """A Dense module without a bias or an activation; its weight, (out, in)."""
    folder.mkdir()
    weight = rng.standard_normal(shape).astype(np.float32)
    save_file({"linear.weight": weight}, folder / "model.safetensors")
    own = {"in_features": shape[1], "out_features": shape[0], "bias": False, "activation_function": "torch.Identity"}
    (folder / "config.json").write_text(json.dumps({**own, **config}))
    return weight.astype(np.float64)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_normalize_stands_where_it_stands(copy: Path) -> None:
    """Before a Dense it is a step of its own, at the end what `normalize_embeddings` overrides."""
    weight = write_dense(copy / "3_Dense", np.random.default_rng(5), (32, 64))
    write_modules(copy, "Transformer", "Pooling")
    plain = Encoder(copy).encode(TEXTS).astype(np.float64)
    write_modules(copy, "Transformer", "Pooling", "Normalize", "Dense")
    between = Encoder(copy)
    assert not between.normalizes and between.dim == 32
    np.testing.assert_allclose(between.encode(TEXTS), unit(plain) @ weight.T, rtol=0, atol=1e-5)
    write_modules(copy, "Transformer", "Pooling", "Normalize", "Dense", "Normalize", "Dropout")
    both = Encoder(copy)
    assert both.normalizes
    np.testing.assert_allclose(both.encode(TEXTS), unit(unit(plain) @ weight.T), rtol=0, atol=1e-6)
    (copy / "3_Dense").rename(copy / "2_Dense")
    write_modules(copy, "Transformer", "Pooling", "Dense", "Normalize")
    np.testing.assert_allclose(Encoder(copy).encode(TEXTS), unit(plain @ weight.T), rtol=0, atol=1e-6)


def test_the_fingerprint_knows_a_normalize_before_others(copy: Path) -> None:
    write_dense(copy / "2_Dense", np.random.default_rng(5), (32, 64))
    write_modules(copy, "Transformer", "Pooling", "Dense")
    without = Encoder(copy).fingerprint
    (copy / "2_Dense").rename(copy / "3_Dense")
    write_modules(copy, "Transformer", "Pooling", "Normalize", "Dense")
    assert Encoder(copy).fingerprint != without


@pytest.mark.parametrize("kind", ["Dense", "Normalize"])
def test_layers_before_the_pooling_are_refused(kind: str, copy: Path) -> None:
    """They would change tokens; taken for layers behind it, they made other vectors without a word."""
    tokens = {"module_input_name": "token_embeddings"}
    write_dense(copy / f"1_{kind}", np.random.default_rng(5), (64, 64), **tokens)
    entries = [("Transformer", ""), (kind, f"1_{kind}"), ("Pooling", "1_Pooling")]
    listed = [{"idx": 0, "name": "0", "path": path, "type": f"models.{one}"} for one, path in entries]
    (copy / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match=f"nothing between its Transformer and its Pooling, got {kind}"):
        Encoder(copy)


def test_layers_of_tokens_behind_the_pooling_change_no_text(copy: Path) -> None:
    write_modules(copy, "Transformer", "Pooling")
    plain = Encoder(copy).encode(TEXTS)
    write_dense(copy / "2_Dense", np.random.default_rng(5), (32, 64), module_input_name="token_embeddings")
    write_modules(copy, "Transformer", "Pooling", "Dense")
    np.testing.assert_array_equal(Encoder(copy).encode(TEXTS), plain)
    config = {"module_input_name": "sentence_embedding", "module_output_name": "other"}
    (copy / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 64, "out_features": 32, **config}))
    with pytest.raises(CheckpointError, match="a Dense must change 'sentence_embedding' or 'token_embeddings'"):
        Encoder(copy)
