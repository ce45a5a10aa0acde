"""MPNet: what is refused, and the real all-mpnet-base-v2 where its folder is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, Tensors, assert_refused, spoilt
from longspan import Encoder

BIAS = "encoder.relative_attention_bias.weight"
WEIGHTS = "LONGSPAN_TEST_MPNET"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(BIAS), {}, f"tensor {BIAS} is missing"),
        (lambda t: t.update({BIAS: t[BIAS][:31]}), {}, rf"tensor {BIAS} must be \(32, 4\) .* got \(31, 4\)"),
        (lambda t: t.update({"encoder.x": np.ones(2, np.float32)}), {}, "tensor encoder.x is not part of"),
        (None, {"relative_attention_num_buckets": 64}, "'relative_attention_num_buckets' must be 32, got 64"),
        (None, {"num_attention_heads": 6}, rf"tensor {BIAS} must be \(32, 6\)"),
        (None, {"max_position_embeddings": 2}, "'max_position_embeddings' must be 3 or more"),
        (None, {"max_position_embeddings": 512}, r"position_embeddings.weight must be \(512, 48\) .* got \(514, 48\)"),
        (None, {"hidden_act": "mish"}, "'hidden_act' must be one of gelu, .* got 'mish'"),
    ],
)
def test_hostile(change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    assert_refused(golden / "mpnet", tmp_path, change, config, message)


def test_a_language_model_s_file(golden: Path, tmp_path: Path) -> None:
    def rename(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[f"mpnet.{name}"] = tensors.pop(name)
        tensors["lm_head.bias"] = np.ones(3, np.float32)

    folder = spoilt(golden / "mpnet", tmp_path / "model", rename)
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(golden / "mpnet").encode("a text"))


@pytest.fixture(scope="module")
def mpnet_path() -> Path:
    """The folder of the real weights, 438 MB, so never fetched by a test."""
    named = os.environ.get(WEIGHTS)
    if not named:
        pytest.skip(f"real MPNet weights not named: set {WEIGHTS} to the folder of all-mpnet-base-v2")
    return Path(named)


def test_real_mpnet_agrees_with_transformers(mpnet_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    encoder = Encoder(mpnet_path)
    texts = ["A man is playing a guitar.", "", "naïve café, 東京タワー", "one word after the other " * 90]
    model = transformers.MPNetModel.from_pretrained(mpnet_path, attn_implementation="eager").double().eval()
    for text, got in zip(encoder.tokenize(texts), encoder.encode(texts, on_truncate="ignore")):
        with torch.no_grad():
            hidden = model(torch.from_numpy(text.ids[None].astype(np.int64))).last_hidden_state[0].numpy()
        pooled = hidden.mean(0)
        np.testing.assert_allclose(got, pooled / np.linalg.norm(pooled), rtol=0, atol=5e-6)
    assert encoder.max_length == 384
