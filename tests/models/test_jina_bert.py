"""JinaBERT: which variant a checkpoint is, what its files may leave out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, assert_refused, read_config, read_tensors, spoilt, write_checkpoint
from longspan import Encoder

GATED = "encoder.layer.0.mlp.gated_layers.weight"
NORM_Q = "encoder.layer.1.attention.self.layer_norm_q.weight"
EN, CODE = "jina-v2-en", "jina-v2-code"


@pytest.mark.parametrize(
    "name, change, config, message",
    [
        (EN, lambda t: t.pop(GATED), {}, f"tensor {GATED} is missing"),
        (EN, lambda t: t.update({"encoder.x": np.ones(2, np.float32)}), {}, "tensor encoder.x is not part of"),
        (EN, lambda t: t.update({GATED: t[GATED][1:]}), {}, rf"tensor {GATED} must be \(192, 64\) .* got \(191, 64\)"),
        (CODE, lambda t: t.pop(NORM_Q), {}, f"tensor {NORM_Q} is missing"),
        (CODE, lambda t: t.update({NORM_Q: t[NORM_Q][:8]}), {}, rf"tensor {NORM_Q} must be \(96,\) .* got \(8,\)"),
        (CODE, lambda t: t.update({GATED: np.ones((256, 96), np.float32)}), {}, f"tensor {GATED} is not part of"),
        (
            EN,
            None,
            {"position_embedding_type": "absolute"},
            "'position_embedding_type' must be 'alibi', got 'absolute'",
        ),
        (EN, None, {"position_embedding_type": None}, "'position_embedding_type' must be 'alibi', got 'absolute'"),
        (EN, None, {"feed_forward_type": None}, "'feed_forward_type' must be one of geglu, reglu, got 'original'"),
        (EN, None, {"emb_pooler": "max"}, "'emb_pooler' must be one of mean, cls, got 'max'"),
        (EN, None, {"num_attention_heads": 5}, "'hidden_size' 64 is no multiple of 'num_attention_heads' 5"),
        (EN, None, {"intermediate_size": 128}, rf"tensor {GATED} must be \(256, 64\)"),
        (EN, None, {"type_vocab_size": 3}, r"token_type_embeddings.weight must be \(3, 64\)"),
        (EN, None, {"max_position_embeddings": 0}, "'max_position_embeddings' must be from 1 to 2147483648, got 0"),
    ],
)
def test_hostile(
    name: str, change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path
) -> None:
    assert_refused(golden / name, tmp_path, change, config, message)


@pytest.mark.parametrize("name", [EN, CODE])
def test_a_fine_tune_is_known_by_its_tensors(name: str, golden: Path, tmp_path: Path) -> None:
    """Without auto_map, with another name, under the prefix that language models write, and with their head."""
    expected = Encoder(golden / name).encode("a text")
    tensors = {f"bert.{tensor}": values for tensor, values in read_tensors(golden / name).items()}
    tensors["cls.predictions.bias"] = np.ones(3, np.float32)
    config = read_config(golden / name)
    config = {key: config[key] for key in config if key not in ("auto_map", "_name_or_path", "layer_norm_eps")}
    folder = write_checkpoint(golden / name, tmp_path / "model", tensors, config)
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), expected)


def test_reglu(golden: Path, tmp_path: Path) -> None:
    spec = Encoder(spoilt(golden / EN, tmp_path / "model", feed_forward_type="reglu")).spec
    assert (spec.activation, spec.gate) == ("relu", "first")


def test_class_default_of_the_length(golden: Path, tmp_path: Path) -> None:
    encoder = Encoder(spoilt(golden / EN, tmp_path / "model", max_position_embeddings=None))
    assert encoder.max_length == encoder.spec.max_tokens == 512
