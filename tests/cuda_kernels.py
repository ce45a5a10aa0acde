"""Two ways to run the CUDA kernels on NumPy arrays, with the same methods: on the CPU in an emulator, and on a GPU."""

from __future__ import annotations

import importlib
from typing import Protocol

import numpy as np

from longspan import ops


class CudaKernels(Protocol):
    """The kernels. A bfloat16 array is a uint16 one of its bits."""

    def binarize(self, x: np.ndarray, thresholds: np.ndarray | None = None) -> np.ndarray:
        """As ops.binarize."""

    def span_mean(self, hidden: np.ndarray, spans: np.ndarray, out_dim: int, normalize: bool = False) -> np.ndarray:
        """As ops.span_mean."""

    def hamming(self, q: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """As ops.hamming."""

    def hamming_topk(
        self, q: np.ndarray, codes: np.ndarray, k: int, filter: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """As ops.hamming_topk, with padding to k columns, and the route taken ("" where that cannot be known)."""


class OnDevice:
    """The kernels on the GPU, through the public ops."""

    def __init__(self) -> None:
        import torch

        self._torch = torch

    def _put(self, array: np.ndarray | None) -> object:
        """`array` on the GPU, with rows as far apart as they are here, and as far from a multiple of 16 bytes."""
        if array is None:
            return None
        kind = {np.dtype(np.uint16): self._torch.bfloat16}.get(array.dtype)
        base = array.base if isinstance(array.base, np.ndarray) and array.base.ndim == array.ndim else array
        whole = self._torch.from_numpy(base.view(np.int16) if kind else base).to("cuda")
        shift = (array.ctypes.data - base.ctypes.data) // array.itemsize
        strides = [stride // array.itemsize for stride in array.strides]
        return (whole.view(kind) if kind else whole).as_strided(array.shape, strides, shift)

    def _put_rows(self, array: np.ndarray) -> object:
        """16-bit values on the GPU with the strides that they have here, in memory of their own."""
        strides = [stride // array.itemsize for stride in array.strides]
        extent = 1 + sum(stride * (count - 1) for stride, count in zip(strides, array.shape, strict=True))
        memory = self._torch.zeros(max(extent, 0), dtype=self._torch.int16, device="cuda")
        rows = memory.as_strided(array.shape, strides)
        rows.copy_(self._torch.from_numpy(np.ascontiguousarray(array).view(np.int16)))
        return rows.view(self._torch.bfloat16 if array.dtype == np.uint16 else self._torch.float16)

    def why_no_hopper(self) -> str | None:
        """Why attention_varlen's kernel for sm_90a cannot run."""
        major, minor = self._torch.cuda.get_device_capability()
        if (major, minor) != (9, 0):
            return f"needs compute capability 9.0, got {major}.{minor}"
        try:
            importlib.import_module("longspan.ops.cuda_attention")
        except ImportError as error:
            return str(error)
        return None

    def attention_varlen(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        cu_seqlens_q: np.ndarray,
        cu_seqlens_k: np.ndarray,
        slopes: np.ndarray | None,
        softmax_scale: float,
        causal: bool,
        out: np.ndarray,
        lse: np.ndarray | None,
    ) -> None:
        """As EmulatedAttention's."""
        attend = importlib.import_module("longspan.ops.cuda_attention").attend
        offsets = [self._put(x) for x in (cu_seqlens_q, cu_seqlens_k, slopes)]
        targets = [self._put_rows(out), self._put(lse)]
        attend(*map(self._put_rows, (q, k, v)), *offsets, softmax_scale, causal, *targets)
        for array, tensor in zip((out, lse), targets, strict=True):
            if array is not None:
                is_bf16 = array.dtype == np.uint16
                values = (tensor.view(self._torch.int16) if is_bf16 else tensor).cpu().contiguous().numpy()
                array[...] = values.view(array.dtype)

    def binarize(self, x: np.ndarray, thresholds: np.ndarray | None = None) -> np.ndarray:
        """As CudaKernels'."""
        return ops.binarize(self._put(x), thresholds=self._put(thresholds), backend="cuda").cpu().numpy()

    def span_mean(self, hidden: np.ndarray, spans: np.ndarray, out_dim: int, normalize: bool = False) -> np.ndarray:
        """As CudaKernels'."""
        options = {"truncate_dim": out_dim, "normalize": normalize}
        return ops.span_mean(self._put(hidden), self._put(spans), **options, backend="cuda").cpu().numpy()

    def hamming(self, q: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """As CudaKernels'."""
        return ops.hamming(self._put(q), self._put(codes), backend="cuda").cpu().numpy()

    def hamming_topk(
        self, q: np.ndarray, codes: np.ndarray, k: int, filter: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """As CudaKernels'."""
        found = ops.hamming_topk(self._put(q), self._put(codes), k, filter=self._put(filter), backend="cuda")
        return found[0].cpu().numpy(), found[1].cpu().numpy(), ""


def rounded(values: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """`values` as the kernel gets them (bfloat16 as its bits), and what they then are in f32."""
    if dtype is np.uint16:
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        return bits, (bits.astype(np.uint32) << 16).view(np.float32)
    given = values.astype(dtype)
    return given, given.astype(np.float32)
