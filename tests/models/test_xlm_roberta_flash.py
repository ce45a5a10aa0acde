"""XLM-RoBERTa with RoPE: jina-embeddings-v3's and jina-colbert-v2's layouts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Tensors, merge_stacked, read_config, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError, Encoder, MultiVectorEncoder

FC1 = "roberta.encoder.layers.1.mlp.fc1"
ORIGINAL = f"{FC1}.parametrizations.weight.original"
V3, COLBERT = "jina-v3", "jina-colbert-v2"
TURNED = "RoPE must turn an even number of values of a head, from 2 to 16"


@pytest.mark.parametrize(
    "name, change, config, message",
    [
        (COLBERT, lambda t: t.pop(f"{FC1}.bias"), {}, f"tensor {FC1}.bias is missing"),
        (V3, lambda t: t.pop(ORIGINAL), {}, f"tensor {ORIGINAL} is missing"),
        (
            V3,
            lambda t: t.update({ORIGINAL: t[ORIGINAL][1:]}),
            {},
            rf"{ORIGINAL} must be \(128, 64\) .* got \(127, 64\)",
        ),
        (V3, lambda t: t.update({f"{FC1}.weight": t[ORIGINAL]}), {}, f"tensor {FC1}.weight is not part of"),
        (COLBERT, lambda t: t.update({"roberta.encoder.x": np.ones(2, np.float32)}), {}, "encoder.x is not part of"),
        (
            COLBERT,
            None,
            {"position_embedding_type": "absolute"},
            "tensor roberta.embeddings.position_embeddings.weight is missing",
        ),
        (
            V3,
            None,
            {"position_embedding_type": "alibi"},
            "'position_embedding_type' must be 'rotary' or 'absolute', got 'alibi'",
        ),
        (V3, None, {"rotary_emb_base": -1.0}, r"'rotary_emb_base' must be from 1 to 1e\+12, got -1.0"),
        (V3, None, {"rotary_emb_scale_base": 512}, "'rotary_emb_scale_base' must be absent or null, got 512"),
        (V3, None, {"rotary_emb_dim": 7}, f"{TURNED}, got 7"),
        (V3, None, {"rotary_emb_dim": 32}, f"{TURNED}, got 32"),
        (V3, None, {"pad_vocab_size_multiple": 64}, "'pad_vocab_size_multiple' must be 1, got 64"),
        (V3, None, {"emb_pooler": "max"}, "'emb_pooler' must be one of mean, cls, got 'max'"),
        (V3, None, {"num_hidden_layers": 4}, "tensors roberta.encoder.layers.3.* are missing"),
        (V3, None, {"num_hidden_layers": 2}, "tensors roberta.encoder.layers.2.* are not part of"),
        (V3, None, {"vocab_size": 1003}, r"word_embeddings.parametrizations.weight.original must be \(1003, 64\)"),
        (V3, None, {"hidden_act": "swiglu"}, "'hidden_act' must be one of gelu, .* got 'swiglu'"),
    ],
)
def test_hostile(
    name: str,
    change: Callable[[Tensors], object] | None,
    config: dict[str, object],
    message: str,
    golden: Path,
    tmp_path: Path,
) -> None:
    folder = spoilt(golden / name, tmp_path / "model", change or (lambda _: None), **config)
    with pytest.raises(CheckpointError, match=message):
        (MultiVectorEncoder if name == COLBERT else Encoder)(folder)


def test_a_table_of_absolute_positions_takes_the_place_of_rope(golden: Path, tmp_path: Path) -> None:
    """As jina-reranker-v2 has it, in this layout; its golden holds the values."""
    table = {"roberta.embeddings.position_embeddings.weight": np.ones((8194, 64), np.float32)}
    folder = spoilt(golden / COLBERT, tmp_path / "model", lambda t: t.update(table), position_embedding_type="absolute")
    spec = MultiVectorEncoder(folder).spec
    assert (spec.position_offset, spec.max_tokens, spec.layers[0].rotary) == (2, 8192, None)


def test_a_fine_tune_of_v3_has_a_model_type(golden: Path, tmp_path: Path) -> None:
    folder = spoilt(golden / V3, tmp_path / "model", model_type="xlm-roberta", architectures=["XLMRobertaLoRA"])
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(golden / V3).encode("a text"))


def test_own_weights_are_the_default(golden: Path, tmp_path: Path) -> None:
    """Without a task v3 runs without adapters; and a file without a prefix loads."""
    plain = merge_stacked(read_tensors(golden / V3), 0, 0.0)
    bare = {name.removeprefix("roberta."): values for name, values in plain.items()}
    folder = write_checkpoint(golden / V3, tmp_path / "model", bare, read_config(golden / V3))
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(golden / V3).encode("a text"))


def test_code_default_of_the_base(golden: Path, tmp_path: Path) -> None:
    folder = spoilt(golden / COLBERT, tmp_path / "model", rotary_emb_base=None)
    rotary = MultiVectorEncoder(folder).spec.layers[0].rotary
    assert rotary is not None and rotary.theta == 10000.0


def test_transformers_own_config_gives_the_same_vectors(golden: Path, tmp_path: Path) -> None:
    """As `save_pretrained` writes jina-embeddings-v3 without adapters: the published tensors, newer keys."""
    source = golden / V3
    tensors = {
        name.removeprefix("roberta."): values for name, values in merge_stacked(read_tensors(source), 0, 0.0).items()
    }
    keys = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "max_position_embeddings")
    published = read_config(source)
    rope = {"rope_type": "default", "rope_theta": published["rotary_emb_base"]}
    native = {key: published[key] for key in (*keys, "layer_norm_eps", "hidden_act", "vocab_size", "type_vocab_size")}
    native |= {"model_type": "jina_embeddings_v3", "rope_parameters": rope}
    encoder = Encoder(write_checkpoint(source, tmp_path / "native", tensors, native))
    expected = Encoder(source).encode(["a text"], task="base")
    np.testing.assert_allclose(encoder.encode(["a text"]), expected, rtol=0, atol=1e-6)
