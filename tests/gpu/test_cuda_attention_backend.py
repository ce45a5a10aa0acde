"""backend="cuda_sm90" of attention_varlen: what it refuses, and torch tensors in and out, by the emulator."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

import inputs
from emulated_attention import EmulatedAttention, aligned
from fake_cuda import FakeAttention, capsule_of, load_backend, torch
from longspan import BackendError, ops, reference
from longspan.ops.attention_varlen import ATTENTION_VARLEN
from longspan.ops.dispatch import explain

OFFSETS = inputs.cu_seqlens([40, 0, 130])
NOTHING = {"cos": None, "sin": None, "interleaved": False, "bias_table": None, "window": None, "dtype": "float32"}


def tensor(*shape: int, seed: int = 1) -> torch.Tensor:
    """f16 rows at a multiple of 16 bytes."""
    return torch.from_numpy(aligned(inputs.normal(shape, seed, dtype=np.float16)))


def test_tensors_in_and_out(emulated_attention: EmulatedAttention, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any float slopes; into any `out`; rows whose last axis is not contiguous are copied."""
    fake = FakeAttention(emulated_attention)
    run = load_backend(fake, monkeypatch).attention_varlen
    rows, slopes = [tensor(170, 2, 64, seed=seed) for seed in range(3)], torch.tensor([0.5, 0.25], dtype=torch.float64)
    offsets = torch.from_numpy(OFFSETS)
    options = {"slopes": slopes, "causal": True, "softmax_scale": None, **NOTHING}
    result = run(*rows, offsets, offsets, **options, out=None)
    values = [x.numpy().astype(np.float64) for x in rows]
    truth = reference.attention_varlen(*values, OFFSETS, OFFSETS, slopes=slopes.numpy(), causal=True)
    np.testing.assert_allclose(result.numpy(), truth, atol=2.0**-9)  # tests/gpu/test_cuda_attention.py bounds it
    columns = torch.zeros(2, 64, 170, dtype=torch.float16).permute(2, 0, 1)
    odd = torch.zeros(170, 2, 68, dtype=torch.float16)[..., :64]
    for out in (torch.zeros_like(result), tensor(170, 2, 72)[..., :64], odd, columns):
        assert run(*rows, offsets, offsets, **options, out=out) is out
        assert torch.equal(out, result)
    sparse = torch.zeros(170, 2, 128, dtype=torch.float16)[..., ::2].copy_(rows[0])
    assert torch.equal(run(sparse, *rows[1:], offsets, offsets, **options, out=None), result)
    assert fake.calls == 6
    steep = {**options, "slopes": torch.ones(2, requires_grad=True)}
    with pytest.raises(ValueError, match="gradients reach q, k and v only; give slopes detached"):
        run(*rows, offsets, offsets, **steep, out=None)


def test_a_build_for_other_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportError, match="no kernels for sm_90a; add 90a to LONGSPAN_CUDA_ARCHITECTURES"):
        load_backend(ModuleType("longspan._cuda"), monkeypatch)


def test_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tensors that seem to be on a GPU."""
    capability = (9, 0)
    monkeypatch.setattr("longspan.ops.dispatch.device_of", lambda array: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    refuses = ATTENTION_VARLEN.backends[ATTENTION_VARLEN.names.index("cuda_sm90")].refuses
    good, offsets = tensor(9, 2, 64), torch.tensor([0, 9], dtype=torch.int32)

    def reason(q: torch.Tensor = good, k: torch.Tensor = good, **options: object) -> str | None:
        return refuses(q, k, good, offsets, offsets, **{**NOTHING, **options})

    assert reason() is None and reason(window=(-1, -1)) is None
    assert reason(slopes=torch.ones(2)) is None
    assert reason(tensor(9, 2, 128)[..., ::2]) is None, "copied before it is read"
    assert reason(tensor(1, 1, 68)[..., :64]) is None, "strides that are never taken"
    assert reason(dtype="bfloat16") == "multiplies rows in their own dtype; give bfloat16 rows"
    assert reason(good.float()) == "takes float16 and bfloat16 with head_dim 64 or 128, got float32 with 64"
    assert reason(tensor(9, 2, 96)) == "takes float16 and bfloat16 with head_dim 64 or 128, got float16 with 96"
    for options in ({"cos": good}, {"bias_table": good}, {"window": (5, -1)}):
        assert reason(**options) == "has no RoPE, no bias_table and no window"
    words = "{} must have its rows and heads at multiples of 16 bytes, got {}; make it contiguous"
    assert reason(tensor(9, 2, 68)[..., :64]) == words.format("q", "strides of 272 and 136 bytes")
    assert reason(k=tensor(9, 2, 72)[..., 4:68]) == words.format("k", "an address 8 bytes beyond one")
    assert reason(good[:1].expand(9, 2, 64)) == words.format("q", "strides of 0 and 128 bytes")
    assert reason(good.as_subclass(type("Other", (torch.Tensor,), {}))) == "cannot be traced"
    capability = (8, 0)
    assert reason() == "needs compute capability 9.0, got 8.0"


def test_only_who_names_it_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    good, offsets = tensor(9, 2, 64), torch.tensor([0, 9], dtype=torch.int32)
    with pytest.raises(BackendError, match="attention_varlen: every backend refused; cuda_sm90: tensors are on cpu"):
        ops.attention_varlen(good, good, good, offsets, offsets, backend="cuda_sm90")
    monkeypatch.setattr("longspan.ops.dispatch.device_of", lambda array: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    options = {"slopes": None, "causal": False, "softmax_scale": None, "out": None, **NOTHING}
    assert "cuda_sm90: only on request" in explain(ATTENTION_VARLEN, good, good, good, offsets, offsets, **options)
    monkeypatch.setattr(ATTENTION_VARLEN, "_loaded", {})  # another test of this process may have loaded it
    monkeypatch.delitem(sys.modules, "longspan.ops.cuda", raising=False)
    monkeypatch.delitem(sys.modules, "longspan.ops.cuda_attention", raising=False)
    monkeypatch.setitem(sys.modules, "longspan._cuda", None)
    monkeypatch.delattr("longspan._cuda", raising=False)
    with pytest.raises(BackendError, match="cuda_sm90: cannot be loaded \\(this build has no CUDA kernels"):
        ATTENTION_VARLEN(good, good, good, offsets, offsets, **options, backend="cuda_sm90")


def test_the_module_itself_refuses_what_it_cannot_read() -> None:
    """Where it is built; a GPU is not needed for that."""
    _cuda = pytest.importorskip("longspan._cuda", reason="longspan._cuda is not built", exc_type=ImportError)
    if not hasattr(_cuda, "attention_varlen"):
        pytest.skip("longspan._cuda is built without sm_90a")
    f16, f32, i32 = torch.float16, torch.float32, torch.int32

    def refuses(message: str, **changes: object) -> None:
        sizes = {"q": (9, 2, 64), "k": (5, 1, 64), "v": (5, 1, 64), "out": (9, 2, 64)}
        given = {name: capsule_of(*shape, dtype=f16) for name, shape in sizes.items()}
        given |= {name: capsule_of(2, dtype=i32) for name in ("cu_seqlens_q", "cu_seqlens_k")}
        given |= {"slopes": capsule_of(2, dtype=f32), "lse": capsule_of(2, 9, dtype=f32), "workspace": capsule_of(4096)}
        options = {"softmax_scale": 1.0, "causal": False, "stream": 0}
        with pytest.raises(ValueError, match=message):
            _cuda.attention_varlen(**{**given, **options, **changes})

    refuses("q must be float16 or bfloat16", **{x: capsule_of(5, 1, 64, dtype=f32) for x in ("q", "k", "v", "out")})
    refuses("head_dim must be 64 or 128, got 96", q=capsule_of(9, 2, 96, dtype=f16))
    refuses("k must have DLPack type 2 of 16 bits, got 4 of 16", k=capsule_of(5, 1, 64, dtype=torch.bfloat16))
    refuses("q's 2 heads must be a multiple of k's, got 3", k=capsule_of(5, 3, 64, dtype=f16))
    refuses(r"v must be \(5, 1, 64\), got \(4, 1, 64\)", v=capsule_of(4, 1, 64, dtype=f16))
    refuses(r"out must be \(9, 2, 64\), got \(9, 1, 64\)", out=capsule_of(9, 1, 64, dtype=f16))
    refuses(r"cu_seqlens_k must be \(2\), got \(3\)", cu_seqlens_k=capsule_of(3, dtype=i32))
    refuses("cu_seqlens_q must have one offset at least", cu_seqlens_q=capsule_of(0, dtype=i32))
    refuses(r"slopes must be \(2\), got \(1\)", slopes=capsule_of(1, dtype=f32))
    refuses(r"lse must be \(2, 9\), got \(2, 8\)", lse=capsule_of(2, 8, dtype=f32))
    refuses("workspace must have [0-9]+ bytes at a multiple of 16, got 8", workspace=capsule_of(8))
    refuses("softmax_scale must be above 0, got 0", softmax_scale=0.0)
    refuses("on one device, got cuda:0 and cuda:1", v=capsule_of(5, 1, 64, dtype=f16, gpu=1))
