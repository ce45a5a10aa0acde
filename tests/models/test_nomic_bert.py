"""NomicBERT: what is refused, the mixture of experts and scaled positions above all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, assert_refused, read_config, read_tensors, spoilt, write_checkpoint
from longspan import Encoder

FC = "encoder.layers.1.mlp.fc12.weight"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(FC), {}, f"tensor {FC} is missing"),
        (lambda t: t.update({FC: t[FC][:5]}), {}, rf"tensor {FC} must be \(128, 64\) .* got \(5, 64\)"),
        (
            lambda t: t.update({"encoder.layers.0.attn.Wqkv.bias": np.ones(192, np.float32)}),
            {},
            "Wqkv.bias is not part",
        ),
        (None, {"rotary_scaling_factor": 0.5}, "'rotary_scaling_factor' must be from 1 to 1024, got 0.5"),
        (None, {"rotary_emb_scale_base": 512}, "'rotary_emb_scale_base' must be absent or null"),
        (None, {"rotary_emb_interleaved": True}, "'rotary_emb_interleaved' must be False"),
        (None, {"num_experts": 8, "moe_top_k": 2}, "'moe_every_n_layers' must be 2 or more, got 0"),
        (None, {"activation_function": "gelu"}, "tensors encoder.layers.0.mlp.fc1.weight, .* are missing"),
        (None, {"activation_function": "relu"}, "'activation_function' must be 'swiglu' or 'gelu', got 'relu'"),
        (None, {"prenorm": True}, "'prenorm' must be False"),
        (None, {"causal": True}, "'causal' must be False"),
        (None, {"use_rms_norm": True}, "'use_rms_norm' must be False"),
        (None, {"qkv_proj_bias": True, "mlp_fc1_bias": True, "mlp_fc2_bias": True}, "Wqkv.bias, .* are missing"),
        (None, {"qkv_proj_bias": True, "mlp_fc1_bias": False}, "'mlp_fc1_bias' must be True, got False"),
        (None, {"rotary_emb_fraction": 0.1}, "RoPE must turn an even number of values of a head, from 2 to 16, got 1"),
        (None, {"rotary_emb_fraction": 2.0}, "RoPE must turn an even number of values of a head, from 2 to 16, got 32"),
        (None, {"n_head": 5}, "'n_embd' 64 is no multiple of 'n_head' 5"),
        (None, {"n_inner": 64}, r"fc11.weight must be \(64, 64\)"),
        (None, {"n_layer": None}, "'n_layer' is missing"),
    ],
)
def test_hostile(change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    assert_refused(golden / "nomic-bert", tmp_path, change, config, message)


NATIVE = {  # transformers' own keys, and the published ones that they stand for
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "vocab_size": "vocab_size",
    "type_vocab_size": "type_vocab_size",
}


def test_transformers_own_config_gives_the_same_vectors(golden: Path, tmp_path: Path) -> None:
    published = read_config(golden / "nomic-bert")
    native = {new: published[old] for new, old in NATIVE.items()}
    rope = {"rope_type": "default", "rope_theta": published["rotary_emb_base"]}
    native |= {"model_type": "nomic_bert", "hidden_act": "silu", "rope_parameters": rope}
    source = golden / "nomic-bert"
    encoder = Encoder(write_checkpoint(source, tmp_path / "native", read_tensors(source), native))
    np.testing.assert_array_equal(encoder.encode(["a text"]), Encoder(source).encode(["a text"]))


@pytest.mark.parametrize(
    "change, config, message",
    [
        (None, {"moe_top_k": 9}, "'moe_top_k' must be at most 'num_experts', got 9"),
        (None, {"moe_every_n_layers": 1}, "'moe_every_n_layers' must be 2 or more, got 1"),
        (None, {"moe_normalize_expert_weights": True}, "'moe_normalize_expert_weights' must be False, got True"),
        (None, {"num_shared_experts": 1}, "'num_shared_experts' must be 0, got 1"),
        (None, {"num_experts": 4}, r"router.layer.weight must be \(4, 48\) by the config, got \(8, 48\)"),
        (None, {"activation_function": "swiglu"}, "'activation_function' of a model with experts must not be 'swiglu'"),
        (
            lambda t: t.pop("encoder.layers.1.mlp.experts.mlp.w2"),
            {},
            "tensor encoder.layers.1.mlp.experts.mlp.w2 is missing",
        ),
    ],
)
def test_hostile_experts(
    change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    assert_refused(golden / "nomic-moe" / "model", tmp_path, change, config, message)


def test_dynamic_scaling_beyond_the_trained_length(golden: Path, tmp_path: Path) -> None:
    """Below it nothing changes, and a longer text's vector does not depend on its batch."""
    ids = [np.arange(size) % 500 for size in (30, 64, 90)]
    plain = Encoder(golden / "nomic-bert").encode_ids(ids)
    config = {"rotary_scaling_factor": 2.0, "max_trained_positions": 64}
    scaled = Encoder(spoilt(golden / "nomic-bert", tmp_path / "model", **config))
    together = scaled.encode_ids(ids)
    np.testing.assert_array_equal(together[:2], plain[:2])
    assert np.abs(together[2] - plain[2]).max() > 1e-4
    np.testing.assert_array_equal(together[2], scaled.encode_ids(ids[2:])[0])
