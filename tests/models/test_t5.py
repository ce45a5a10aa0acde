"""T5: what its files may leave out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, assert_refused, spoilt
from longspan import Encoder

QUERY = "encoder.block.1.layer.0.SelfAttention.q.weight"
BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(QUERY), {}, f"tensor {QUERY} is missing"),
        (lambda t: t.pop("shared.weight"), {}, "tensor shared.weight is missing"),
        (lambda t: t.update({"encoder.block.1.x": np.ones(2, np.float32)}), {}, "encoder.block.1.x is not part of"),
        (lambda t: t.update({BIAS: t[BIAS][:, :-1]}), {}, rf"tensor {BIAS} must be \(32, 6\) .* got \(32, 5\)"),
        (lambda t: t[QUERY].__setitem__((0, 0), np.nan), {}, f"tensor '{QUERY}' holds nan"),
        (None, {"d_kv": 32}, r"SelfAttention.q.weight must be \(192, 64\) by the config, got \(96, 64\)"),
        (None, {"num_heads": 3}, r"SelfAttention.q.weight must be \(48, 64\)|relative_attention_bias.weight must be"),
        (None, {"num_layers": 3}, "tensors encoder.block.2.* are missing"),
        (None, {"num_layers": 10**12}, "'num_layers' is 1000000000000, but the weights have 19 tensors"),
        (None, {"feed_forward_proj": "gated-gelu"}, "DenseReluDense.wi_0.weight, .* are missing"),
        (None, {"feed_forward_proj": "gated-relu"}, "'feed_forward_proj' must be one of relu, gated-gelu, gated-silu"),
        (None, {"dense_act_fn": "silu"}, "'dense_act_fn' is 'silu', but 'feed_forward_proj' 'relu'"),
        (None, {"is_gated_act": True}, "'is_gated_act' must be False, got True"),
        (None, {"relative_attention_num_buckets": 64}, r"relative_attention_bias.weight must be \(64, 6\)"),
        (None, {"relative_attention_num_buckets": 30}, "'relative_attention_num_buckets' must be a multiple of 4"),
        (
            None,
            {"relative_attention_max_distance": 10**12},
            "'relative_attention_max_distance' must be from 9 to 65536",
        ),
        (None, {"layer_norm_epsilon": -1.0}, "'layer_norm_epsilon' must be from 1e-20 to 0.1, got -1.0"),
        (None, {"n_positions": 0}, "'n_positions' must be 1 or more, got 0"),
    ],
)
def test_hostile(change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    assert_refused(golden / "jina-v1-t5", tmp_path, change, config, message)


def test_the_table_may_be_stored_twice_or_under_its_other_name(golden: Path, tmp_path: Path) -> None:
    expected = Encoder(golden / "jina-v1-t5").encode("a text")
    twice = spoilt(
        golden / "jina-v1-t5",
        tmp_path / "twice",
        lambda t: t.update({"encoder.embed_tokens.weight": t["shared.weight"].copy(), "decoder.x": np.ones(1, "f4")}),
    )
    np.testing.assert_array_equal(Encoder(twice).encode("a text"), expected)
    other = spoilt(
        golden / "jina-v1-t5",
        tmp_path / "other",
        lambda t: t.update({"encoder.embed_tokens.weight": t.pop("shared.weight")}),
    )
    np.testing.assert_array_equal(Encoder(other).encode("a text"), expected)


def test_limits(golden: Path) -> None:
    spec = Encoder(golden / "jina-v1-t5").spec
    assert spec.default_max_tokens == 512  # the length it was trained on; the maths knows none
    assert spec.max_tokens > 8192
    assert spec.relative_bias is not None and spec.relative_bias.max_distance == 128  # the key is not in the config
