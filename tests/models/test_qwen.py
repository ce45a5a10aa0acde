"""Qwen2, Qwen3 and the text side of Qwen2.5-VL: configs that lie, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, assert_refused, read_config, spoilt
from longspan import CheckpointError, Encoder

K_BIAS = "layers.1.self_attn.k_proj.bias"
Q_NORM = "layers.1.self_attn.q_norm.weight"
CODE, SMALL, MERGED = "jina-code/model", "jina-v5-text-small/model", "jina-v5-text-small/model-merged-retrieval"
V4 = "jina-v4/model"


@pytest.mark.parametrize(
    "name, change, config, message",
    [
        (CODE, lambda t: t.pop(K_BIAS), {}, f"tensor {K_BIAS} is missing"),
        (CODE, lambda t: t.update({K_BIAS: t[K_BIAS][1:]}), {}, rf"tensor {K_BIAS} must be \(32,\) .* got \(31,\)"),
        (CODE, lambda t: t.update({Q_NORM: np.ones(16, np.float32)}), {}, f"tensor {Q_NORM} is not part of"),
        (
            CODE,
            lambda t: [t.update({f"{n}_": t.pop(n)}) for n in list(t)],
            {},
            "tensors embed_tokens.weight, .* missing",
        ),
        (CODE, None, {"use_sliding_window": True}, "'use_sliding_window' must be False, got True; Qwen2 is supported"),
        (CODE, None, {"is_causal": False}, "'is_causal' must be True, got False"),
        (
            CODE,
            None,
            {"layer_types": ["full_attention", "sliding_attention"]},
            "'layer_types' must be 'full_attention'",
        ),
        (SMALL, None, {"layer_types": ["sliding_attention"] * 2}, "'layer_types' must be 'full_attention' throughout"),
        (
            CODE,
            None,
            {"rope_scaling": {"type": "longrope", "factor": 4.0}},
            "rope_scaling: 'type' must be one of default",
        ),
        (CODE, None, {"rope_theta": None}, "'rope_theta' is missing"),
        (CODE, None, {"rope_theta": -5}, r"'rope_theta' must be from 1 to 1e\+12, got -5"),
        (CODE, None, {"num_key_value_heads": 3}, "'num_attention_heads' 4 is no multiple of 'num_key_value_heads' 3"),
        (CODE, None, {"num_key_value_heads": 0}, "'num_key_value_heads' must be from 1 to 100000, got 0"),
        (CODE, None, {"num_key_value_heads": 4}, r"k_proj.weight must be \(64, 64\) by the config, got \(32, 64\)"),
        (CODE, None, {"head_dim": 15}, "RoPE must turn an even number of values of a head, from 2 to 15, got 15"),
        (CODE, None, {"hidden_act": None}, "'hidden_act' is missing"),
        (SMALL, lambda t: t.pop(Q_NORM), {}, f"tensor {Q_NORM} is missing"),
        (SMALL, lambda t: t.update({Q_NORM: t[Q_NORM][:8]}), {}, rf"tensor {Q_NORM} must be \(24,\) .* got \(8,\)"),
        (SMALL, None, {"head_dim": 16}, r"q_proj.weight must be \(64, 64\) by the config, got \(96, 64\)"),
        (SMALL, None, {"attention_bias": True}, "'attention_bias' must be False"),
        (SMALL, None, {"is_decoder": False}, r"k_norm.weight, .* are not part of this model as its config says"),
        (SMALL, None, {"head_dim": None}, r"k_norm.weight, .* are not part of this model as its config says"),
        (MERGED, None, {"rope_theta": 1e6}, "'rope_theta' is 1000000.0, but 3500000.0 in 'rope_parameters'"),
        (
            MERGED,
            None,
            {"rope_parameters": {"rope_type": "longrope"}},
            "rope_parameters: 'rope_type' must be one of default",
        ),
        (MERGED, None, {"head_dim": None}, r"q_proj.weight must be \(512, 64\)"),  # the class's default is 128
        (V4, lambda t: t.pop("model.norm.weight"), {}, "tensor model.norm.weight is missing"),
        (V4, lambda t: t.update({"model.norm.x": np.ones(2, np.float32)}), {}, "tensor model.norm.x is not part of"),
        (V4, None, {"single_vector_pool_strategy": "cls"}, "'single_vector_pool_strategy' must be 'mean', got 'cls'"),
    ],
)
def test_hostile(
    name: str, change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    assert_refused(golden / name, tmp_path, change, config, message)


def test_a_tied_head_is_left_out(golden: Path, tmp_path: Path) -> None:
    folder = spoilt(
        golden / CODE, tmp_path / "model", lambda t: t.update({"lm_head.weight": t["embed_tokens.weight"].copy()})
    )
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(golden / CODE).encode("a text"))


def test_v4_s_text_config_rules(golden: Path, tmp_path: Path) -> None:
    text = {**read_config(golden / V4)["text_config"], "rope_scaling": {"rope_type": "longrope", "factor": 2.0}}
    with pytest.raises(CheckpointError, match="text_config: rope_scaling: 'rope_type' must be one of default, mrope"):
        Encoder(spoilt(golden / V4, tmp_path / "yarn", text_config=text))
    text["rope_scaling"] = {"type": "mrope", "mrope_section": [2, 3, 3]}
    encoder = Encoder(spoilt(golden / V4, tmp_path / "mrope", text_config=text))
    expected = Encoder(golden / V4).encode("a text", task="code")
    np.testing.assert_array_equal(encoder.encode("a text", task="code"), expected)


def test_defaults_without_modules(golden: Path) -> None:
    v5, v4 = Encoder(golden / SMALL).spec, Encoder(golden / V4).spec
    assert (v5.default_pooling, v5.default_normalize, v5.max_tokens) == ("lasttoken", True, 4096)
    assert (v4.default_pooling, v4.default_normalize, v4.max_tokens) == ("mean", True, 32768)


def test_a_tokenizer_without_the_end_token_is_warned_of(golden: Path, tmp_path: Path) -> None:
    """As the first Qwen3-Embedding files had it: other vectors, and no error."""
    folder = tmp_path / "model"
    shutil.copytree(golden / "qwen3-embedding" / "model", folder)
    Encoder(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    with pytest.warns(UserWarning, match=r"texts do not end in '<\|endoftext\|>', whose state"):
        Encoder(folder)
