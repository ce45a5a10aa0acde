"""EmbeddingGemma: what is refused, and what newer configs write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, assert_refused, read_config
from longspan import Encoder
from longspan.models.families.gemma import _embedding_scale

NORM = "layers.1.post_feedforward_layernorm.weight"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(NORM), {}, f"tensor {NORM} is missing"),
        (lambda t: t.update({NORM: t[NORM][:5]}), {}, rf"tensor {NORM} must be \(48,\) .* got \(5,\)"),
        (None, {"use_bidirectional_attention": False}, "'use_bidirectional_attention' must be true"),
        (None, {"attn_logit_softcapping": 50.0}, "'attn_logit_softcapping' must be absent or null, got 50.0"),
        (None, {"rope_scaling": {"type": "linear", "factor": 8.0}}, "'rope_scaling' must be absent or null"),
        (None, {"sliding_window": 1}, "'sliding_window' must be 2 or more, got 1"),
        (None, {"layer_types": ["full_attention"]}, "'layer_types' must be 4 of 'full_attention' and"),
        (None, {"layer_types": [["x"]] * 4}, "'layer_types' must be 4 of"),
        (None, {"query_pre_attn_scalar": 0}, "'query_pre_attn_scalar' must be above 0"),
        (None, {"num_key_value_heads": 2}, "'num_attention_heads' 3 is no multiple of 'num_key_value_heads' 2"),
    ],
)
def test_hostile(change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    assert_refused(golden / "embeddinggemma" / "model", tmp_path, change, config, message)


def test_newer_keys_say_the_same(golden: Path, tmp_path: Path) -> None:
    source = golden / "embeddinggemma" / "model"
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    config = {"rope_parameters": rope, "rope_theta": None, "rope_local_base_freq": None}
    expected = Encoder(source).encode(["a text"])
    for name, changed in {"newer": config, "pattern": {"layer_types": None, "_sliding_window_pattern": 3}}.items():
        folder = tmp_path / name
        shutil.copytree(source, folder)
        (folder / "config.json").write_text(json.dumps({**read_config(source), **changed}))
        np.testing.assert_array_equal(Encoder(folder).encode(["a text"]), expected)


@pytest.mark.parametrize("dtype, scale", [("BF16", 27.75), ("F32", 27.712812423706055)])
def test_the_embedding_s_scale_has_the_table_s_dtype(dtype: str, scale: float) -> None:
    class Tensors:
        @staticmethod
        def dtype(_name: str) -> str:
            return dtype

    class Checkpoint:
        tensor_names = ("embed_tokens.weight",)
        tensors = Tensors()

    assert _embedding_scale(Checkpoint(), "embed_tokens.weight", 768) == scale  # type: ignore[arg-type]


def test_silent_configs_have_the_published_bases(golden: Path, tmp_path: Path) -> None:
    """Gemma 3's: 1e6 where all is seen, 1e4 in windows."""
    source = golden / "embeddinggemma" / "model"
    shutil.copytree(source, tmp_path / "model")
    config = {key: value for key, value in read_config(source).items() if not key.startswith("rope_")}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    silent = Encoder(tmp_path / "model").spec.layers
    assert silent == Encoder(source).spec.layers and len(set(silent)) == 2
