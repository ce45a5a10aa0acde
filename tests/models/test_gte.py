"""GTE: what is refused, and its layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, Tensors, assert_refused, read_config, read_tensors, spoilt, write_checkpoint
from longspan import Encoder

QKV = "new.encoder.layer.1.attention.qkv_proj.weight"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(QKV), {}, f"tensor {QKV} is missing"),
        (lambda t: t.update({QKV: t[QKV][:5]}), {}, rf"tensor {QKV} must be \(192, 64\) .* got \(5, 64\)"),
        (None, {"layer_norm_type": "rms_norm"}, "'layer_norm_type' must be 'layer_norm', got 'rms_norm'"),
        (None, {"logn_attention_scale": True}, "'logn_attention_scale' must be False, got True"),
        (None, {"rope_scaling": {"type": "ntk", "factor": 0.1}}, "'factor' must be from 1 to 1024, got 0.1"),
        (None, {"rope_scaling": {"type": "ntk", "factor": 2, "mixed_b": 1.0}}, "'mixed_b' must be absent or null"),
        (None, {"rope_scaling": {"type": "su", "factor": 2}}, "'type' must be one of default, ntk, linear, dynamic"),
        (None, {"position_embedding_type": "absolute"}, "'position_embedding_type' must be 'rope', got 'absolute'"),
        (None, {"type_vocab_size": 2}, r"token_type_embeddings.weight must be \(2, 64\)"),
    ],
)
def test_hostile(change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    assert_refused(golden / "gte-new" / "model", tmp_path, change, config, message)


def test_q_k_and_v_apart_and_transformers_own_config(golden: Path, tmp_path: Path) -> None:
    source = golden / "gte-new" / "model"
    tensors: Tensors = {}
    for published, values in read_tensors(source).items():
        name = published.removeprefix("new.")
        if ".qkv_proj." in name:
            for part, own in zip("qkv", np.split(values, 3), strict=True):
                tensors[name.replace("qkv_proj", f"{part}_proj")] = own
        else:
            tensors[name] = values
    config = {key: value for key, value in read_config(source).items() if not key.startswith(("rope_", "pack_qkv"))}
    rope = {"rope_type": "ntk", "rope_theta": 20000.0, "factor": 8.0}
    folder = write_checkpoint(
        source, tmp_path / "apart", tensors, {**config, "model_type": "gte", "rope_parameters": rope}
    )
    np.testing.assert_array_equal(Encoder(folder).encode(["a text"]), Encoder(source).encode(["a text"]))


def test_a_folder_without_modules_pools_the_first_token(golden: Path, tmp_path: Path) -> None:
    encoder = Encoder(spoilt(golden / "gte-new" / "model", tmp_path / "model"))
    (tmp_path / "model" / "modules.json").unlink()
    alone = Encoder(tmp_path / "model")
    np.testing.assert_array_equal(alone.encode("one text"), encoder.encode("one text"))
    first = alone.encode("one text", output_value="token_embeddings")[0]
    np.testing.assert_allclose(alone.encode("one text"), first / np.linalg.norm(first), rtol=1e-5, atol=1e-6)
