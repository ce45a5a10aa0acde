"""NomicBERT: what is refused, the mixture of experts and scaled positions above all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Tensors, spoilt
from longspan import CheckpointError, Encoder

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
        (None, {"rotary_scaling_factor": 2}, "'rotary_scaling_factor' must be absent or null, got 2; NomicBERT is"),
        (None, {"rotary_emb_scale_base": 512}, "'rotary_emb_scale_base' must be absent or null"),
        (None, {"rotary_emb_interleaved": True}, "'rotary_emb_interleaved' must be False"),
        (None, {"num_experts": 8, "moe_top_k": 2}, "'num_experts' must be absent or null, got 8"),
        (None, {"activation_function": "gelu"}, "'activation_function' must be 'swiglu', got 'gelu'"),
        (None, {"prenorm": True}, "'prenorm' must be False"),
        (None, {"causal": True}, "'causal' must be False"),
        (None, {"use_rms_norm": True}, "'use_rms_norm' must be False"),
        (None, {"qkv_proj_bias": True}, "'qkv_proj_bias' must be False"),
        (None, {"rotary_emb_fraction": 0.1}, "RoPE must turn an even number of values of a head, from 2 to 16, got 1"),
        (None, {"rotary_emb_fraction": 2.0}, "RoPE must turn an even number of values of a head, from 2 to 16, got 32"),
        (None, {"n_head": 5}, "'n_embd' 64 is no multiple of 'n_head' 5"),
        (None, {"n_inner": 64}, r"fc11.weight must be \(64, 64\)"),
        (None, {"n_layer": None}, "'n_layer' is missing"),
    ],
)
def test_hostile(
    change: Callable[[Tensors], object] | None,
    config: dict[str, object],
    message: str,
    golden: Path,
    tmp_path: Path,
) -> None:
    folder = spoilt(golden / "nomic-bert", tmp_path / "model", change or (lambda _: None), **config)
    with pytest.raises(CheckpointError, match=message):
        Encoder(folder)
