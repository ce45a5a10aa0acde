"""The Hopper kernel's forward pass with the Triton kernels' backward pass: on a GPU, or emulator and interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emulated import find_compiler
from emulated_attention import EmulatedAttention
from fake_cuda import FakeAttention, load_backend
from kernel_cases import ON_GPU, ROUNDING, cu_seqlens, normal, tensor, torch
from longspan import ops


@pytest.mark.parametrize("causal", [False, True])
def test_gradients(causal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far from those in f32 as the Triton kernels' own in f16 are, at most twice."""
    half = torch.float16
    offsets, offsets_k = cu_seqlens((40, 0, 70)), cu_seqlens((70, 9, 70))
    rows = [normal((n, heads, 64), n, heads, dtype=half) for n, heads in ((110, 2), (149, 1), (149, 1))]
    grad, slopes = normal((110, 2, 64), 4, dtype=half), tensor(np.array([0.5, 0.0625]), torch.float32)

    def gradients(run: object, dtype: torch.dtype, **options: object) -> list[torch.Tensor]:
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in rows]
        result = run(*leaves, offsets, offsets_k, slopes=slopes, causal=causal, **options)
        result.backward(grad.to(dtype))
        return [x.grad for x in leaves]

    if ON_GPU:
        if torch.cuda.get_device_capability() != (9, 0):
            pytest.skip("needs compute capability 9.0")
        got = gradients(ops.attention_varlen, half, backend="cuda_sm90")
    else:
        if (compiler := find_compiler()) is None:
            pytest.skip("no C++ compiler (g++ or c++) to build the kernels for the emulator with")
        fake = FakeAttention(EmulatedAttention(tmp_path, compiler))
        got = gradients(load_backend(fake, monkeypatch).attention_varlen, half, softmax_scale=None, out=None)
        assert fake.calls == 1
    truth, native = (gradients(ops.attention_varlen, dtype, backend="triton") for dtype in (torch.float32, half))
    for ours, true, theirs in zip(got, truth, native, strict=True):
        error, allowed = (x.float().sub(true).abs().max() for x in (ours, theirs))
        assert error <= 2 * allowed + ROUNDING[half] * 2 * true.abs().max()
