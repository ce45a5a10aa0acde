"""ModernBERT: old and new configs, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, Tensors, assert_refused, read_config, read_tensors, spoilt, write_checkpoint
from longspan import Encoder

WI = "layers.2.mlp.Wi.weight"
OLD_KEYS = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
NEW_CONFIG = {
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(WI), {}, f"tensor {WI} is missing"),
        (
            lambda t: t.update({"layers.0.attn_norm.weight": np.ones(64, np.float32)}),
            {},
            "layers.0.attn_norm.weight is",
        ),
        (lambda t: t.update({WI: t[WI][:-1]}), {}, rf"tensor {WI} must be \(192, 64\) .* got \(191, 64\)"),
        (None, {"norm_bias": True}, "'norm_bias' must be False, got True; ModernBERT is supported so only"),
        (None, {"attention_bias": True}, "'attention_bias' must be False"),
        (None, {"mlp_bias": True}, "'mlp_bias' must be False"),
        (None, {"rope_scaling": {"rope_type": "yarn"}}, "'rope_scaling' must be absent or null"),
        (None, {"hidden_activation": "mish"}, "'hidden_activation' must be one of gelu, .* got 'mish'"),
        (None, {"global_attn_every_n_layers": 0}, "'global_attn_every_n_layers' must be 1 or more, got 0"),
        (None, {"local_attention": 1}, "'local_attention' must be 2 or more, got 1"),
        (None, {"global_rope_theta": 0}, r"'global_rope_theta' must be from 1 to 1e\+12, got 0"),
        (None, {"layer_types": ["full_attention"]}, "'layer_types' must be 4 of 'full_attention' and 'sliding_att"),
        (None, {"layer_types": ["full_attention"] * 3 + ["mamba"]}, "'layer_types' must be 4 of 'full_attention'"),
        (
            None,
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}},
            "rope_parameters: full_attention: 'rope_type' must be 'default', got 'yarn'",
        ),
    ],
)
def test_hostile(change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    assert_refused(golden / "modernbert", tmp_path, change, config, message)


def test_a_new_config_says_the_same(golden: Path, tmp_path: Path) -> None:
    source = golden / "modernbert"
    expected = Encoder(source)
    old = read_config(source)
    config = {**{key: old[key] for key in old if key not in OLD_KEYS}, **NEW_CONFIG}
    encoder = Encoder(write_checkpoint(source, tmp_path / "new", read_tensors(source), config))
    assert encoder.spec == expected.spec
    defaults = {key: old[key] for key in old if key not in OLD_KEYS}  # the class's agree with the golden's
    assert Encoder(write_checkpoint(source, tmp_path / "bare", read_tensors(source), defaults)).spec == expected.spec


def test_a_language_model_s_file(golden: Path, tmp_path: Path) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[f"model.{name}"] = tensors.pop(name)
        tensors["head.dense.weight"] = tensors["decoder.bias"] = np.ones(3, np.float32)

    folder = spoilt(golden / "modernbert", tmp_path / "model", rename)
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(golden / "modernbert").encode("a text"))
