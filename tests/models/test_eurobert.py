"""EuroBERT: which of the two jina-v5 sizes a checkpoint is, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, assert_refused, read_config, read_tensors, spoilt, write_checkpoint
from longspan import Encoder

Q_PROJ = "layers.1.self_attn.q_proj.weight"
NANO, MERGED = "jina-v5-text-nano/model", "jina-v5-text-nano/model-merged-retrieval"


@pytest.mark.parametrize(
    "name, change, config, message",
    [
        (NANO, lambda t: t.pop(Q_PROJ), {}, f"tensor {Q_PROJ} is missing"),
        (
            NANO,
            lambda t: t.update({Q_PROJ: t[Q_PROJ][1:]}),
            {},
            rf"tensor {Q_PROJ} must be \(64, 64\) .* got \(63, 64\)",
        ),
        (NANO, lambda t: t.update({"norm.bias": np.ones(2, np.float32)}), {}, "tensor norm.bias is not part of"),
        (NANO, None, {"is_decoder": True}, "'is_decoder' must be False, got True; EuroBERT is supported so only"),
        (
            NANO,
            None,
            {"is_decoder": True, "head_dim": 16},
            r"k_norm.weight, .* are missing",
        ),  # then a Qwen3 by its config
        (NANO, None, {"attention_bias": True}, "'attention_bias' must be False"),
        (NANO, None, {"num_attention_heads": 6}, "'hidden_size' 64 is no multiple of 'num_attention_heads' 6"),
        (NANO, None, {"rope_theta": None}, "'rope_theta' is missing"),
        (NANO, None, {"rms_norm_eps": 0}, "'rms_norm_eps' must be from 1e-20 to 0.1, got 0"),
        (MERGED, None, {"mlp_bias": True}, "'mlp_bias' must be False"),
        (MERGED, None, {"intermediate_size": 100}, r"gate_proj.weight must be \(100, 64\)"),
        (MERGED, None, {"max_position_embeddings": None}, "'max_position_embeddings' is missing"),
    ],
)
def test_hostile(
    name: str, change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    assert_refused(golden / name, tmp_path, change, config, message)


def test_nano_is_known_without_is_decoder(golden: Path, tmp_path: Path) -> None:
    """It then has no head_dim, which small always has."""
    config = {key: value for key, value in read_config(golden / NANO).items() if key != "is_decoder"}
    encoder = Encoder(write_checkpoint(golden / NANO, tmp_path / "model", read_tensors(golden / NANO), config))
    assert encoder.spec == Encoder(golden / NANO).spec
    assert not encoder.spec.causal


def test_other_eurobert_models_pool_as_sentence_transformers_does(golden: Path, tmp_path: Path) -> None:
    folder = spoilt(golden / MERGED, tmp_path / "model")
    (folder / "modules.json").unlink()
    spec = Encoder(folder).spec
    assert (spec.default_pooling, spec.default_normalize) == ("mean", False)
