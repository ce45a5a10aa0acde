"""What is no array is refused by every op, in one sentence that names the op, the argument and what came."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import numpy as np
import pytest

from longspan import ops


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def offsets(*values: int, dtype: type = np.int32) -> np.ndarray:
    return np.array(values, dtype)


LAYER = ops.pack_linear([floats(6, 8)])
CSR = {"indptr": offsets(0, 1, 2, dtype=np.int64), "indices": offsets(1, 0)}
ROPE = {"cos": floats(4, 4), "sin": floats(4, 4)}
TOKENS = {"q": floats(4, 8), "d": floats(4, 8), "cu_seqlens_q": offsets(0, 4), "cu_seqlens_d": offsets(0, 4)}
HEADS = {"q": floats(4, 2, 8), "k": floats(4, 2, 8), "v": floats(4, 2, 8)}
LENGTHS = {"cu_seqlens_q": offsets(0, 4), "cu_seqlens_k": offsets(0, 4)}
CODES = {"q": np.zeros((2, 4), np.uint8), "codes": np.zeros((5, 4), np.uint8)}

# One good call of each op, with every argument that takes an array.
CALLS: dict[str, dict[str, object]] = {
    "attention_varlen": HEADS | LENGTHS | ROPE | {"slopes": floats(2), "out": floats(4, 2, 8)},
    "binarize": {"x": floats(4, 8), "thresholds": floats(8)},
    "group_sums": {"vectors": floats(2, 8)} | CSR | {"scale": floats(2), "out": floats(2, 8)},
    "hamming": CODES,
    "hamming_topk": CODES | {"k": 2, "filter": np.ones(5, bool), "tie_ranks": np.arange(5)},
    "layer_norm": {"x": floats(4, 8), "weight": floats(8), "bias": floats(8), "eps": 1e-5, "residual": floats(4, 8)},
    "linear": {"x": floats(4, 8), "weight": floats(6, 8), "bias": floats(6), "residual": floats(4, 6)},
    "maxsim": TOKENS,
    "maxsim_pairs": TOKENS | {"pairs": np.zeros((1, 2), np.int32)},
    "maxsim_topk": TOKENS | {"k": 1},
    "multi_lora": {
        "x": floats(4, 8),
        "lora_a": floats(2, 3, 8),
        "lora_b": floats(2, 6, 3),
        "lora_ids": offsets(0, 1, -1, 0),
    },
    "pack_lora": {"lora_a": floats(2, 3, 8), "lora_b": floats(2, 6, 3), "scaling": 1.0, "base": LAYER},
    "pool_logits": {"x": floats(4, 8), "weight": floats(6, 8), "cu_seqlens": offsets(0, 4), "bias": floats(6)},
    "pool_mean": {"hidden": floats(4, 8), "cu_seqlens": offsets(0, 4)},
    "rescore": {"q": floats(2, 8), "candidates": np.zeros((2, 1), np.int64), "documents": floats(4, 8)},
    "retrofit_step": {"vectors": floats(2, 8)}
    | CSR
    | {"weights": floats(2), "base": floats(2, 8), "anchor": floats(2)},
    "rms_norm": {"x": floats(4, 8), "weight": floats(8), "eps": 1e-5, "out": floats(4, 8)},
    "span_mean": {"hidden": floats(4, 8), "spans": offsets(0, 4).reshape(1, 2), "out": floats(1, 8)},
    "to_bfloat16": {"x": floats(4, 8)},
    "to_int8": {"x": floats(4, 8)},
}
OTHERS = ([[1.0]], "abc", 3, object(), {}, b"abc", 1j)


def op_named(name: str) -> Callable[..., object]:
    op: Callable[..., object] = getattr(ops, name)
    return op


def test_every_op_is_here() -> None:
    functions = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    assert functions == CALLS.keys() | {"pack_linear"}  # whose weights are a list


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_array(name: str) -> None:
    op, call = op_named(name), CALLS[name]
    op(**call)
    optional = {parameter.name for parameter in inspect.signature(op).parameters.values() if parameter.default is None}
    for argument in (key for key, value in call.items() if isinstance(value, np.ndarray)):
        for other in OTHERS if argument in optional else (*OTHERS, None):
            message = f"{name}: {argument} must be a NumPy array or a torch tensor, got {type(other).__name__}"
            with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
                op(**call | {argument: other})


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # what np.matrix is to its own library
@pytest.mark.parametrize("name", CALLS)
def test_other_kinds_of_arrays_are_arrays(name: str) -> None:
    op, call = op_named(name), CALLS[name]
    want = op(**call)
    matrices = {key: np.matrix(value) if np.ndim(value) == 2 else value for key, value in call.items()}  # type: ignore[arg-type]
    got = op(**matrices)
    if isinstance(want, (np.ndarray, tuple)):
        np.testing.assert_equal(got, want)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("layer_norm", {"eps": "1e-5"}),
        ("rms_norm", {"eps": None}),
        ("attention_varlen", {"softmax_scale": 1j}),
        ("multi_lora", {"scaling": b"ab"}),
        ("multi_lora", {"scaling": {1.0, 2.0}}),
        ("multi_lora", {"scaling": ["1", "2"]}),
        ("pack_lora", {"scaling": None}),
    ],
)
def test_what_is_no_number(name: str, wrong: dict[str, object]) -> None:
    [argument] = wrong
    with pytest.raises(TypeError, match=f"^{name}: {argument} must be a number, got "):
        op_named(name)(**CALLS[name] | wrong)


def test_what_is_not_packed() -> None:
    with pytest.raises(TypeError, match="^pack_lora: base must be what pack_linear makes, got str$"):
        ops.pack_lora(floats(2, 3, 8), floats(2, 6, 3), 1.0, "base")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^linear: lora must be what pack_lora makes, got ndarray$"):
        ops.linear(floats(1, 8), LAYER, lora=floats(1), lora_ids=offsets(0))  # type: ignore[arg-type]


def test_an_error_of_rms_norm_names_it() -> None:
    with pytest.raises(ValueError, match=r"^rms_norm: weight must be float32, got int64"):
        ops.rms_norm(floats(2, 8), np.ones(8, np.int64), eps=1e-5)


def test_tensors_that_numpy_cannot_view() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(3)
    opposite = torch.complex(torch.zeros(2, 3), torch.arange(6.0).reshape(2, 3)).conj().imag
    assert opposite.is_neg()
    got = ops.rms_norm(opposite, weight, eps=1e-5)
    np.testing.assert_array_equal(got, ops.rms_norm(opposite.numpy(force=True), np.ones(3, np.float32), eps=1e-5))
    with pytest.raises(ValueError, match="^rms_norm: out must hold its values as they are"):
        ops.rms_norm(torch.ones(2, 3), weight, eps=1e-5, out=opposite)
    with pytest.raises(TypeError, match="^hamming: q must be a strided tensor on the CPU, .*, got sparse_coo uint8"):
        ops.hamming(torch.ones((2, 3), dtype=torch.uint8).to_sparse(), torch.ones((2, 3), dtype=torch.uint8))
