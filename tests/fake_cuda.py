"""For tests of the Python around longspan._cuda: capsules, and its attention_varlen on CPU tensors by the emulator."""

from __future__ import annotations

import ctypes
import importlib
import sys
from types import ModuleType

import numpy as np
import pytest

from emulated_attention import EmulatedAttention

torch = pytest.importorskip("torch")


def array_of(capsule: object) -> np.ndarray:
    """What a DLPack capsule shows; bfloat16 as its bits."""
    tensor = torch.utils.dlpack.from_dlpack(capsule)
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def capsule_of(*shape: int, dtype: torch.dtype = torch.uint8, column_stride: int = 1, gpu: int = 0) -> object:
    """A capsule that says its tensor is on a GPU; for calls that are refused before they look at it."""
    tensor = torch.zeros(*shape[:-1], shape[-1] * column_stride, dtype=dtype)[..., ::column_stride]
    made = tensor.__dlpack__()
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    device = (ctypes.c_int32 * 2).from_address(address(made, b"dltensor") + 8)  # behind the data pointer
    device[:] = [2, gpu]
    return made


class FakeAttention(ModuleType):
    """The function of longspan._cuda, and how often it ran."""

    WORKSPACE = 96

    def __init__(self, emulated: EmulatedAttention) -> None:
        super().__init__("longspan._cuda")
        self._emulated = emulated
        self.calls = 0

    def attention_varlen_workspace(self, total_q: int, num_sequences: int) -> int:
        return self.WORKSPACE + total_q + num_sequences

    def attention_varlen(
        self,
        q: object,
        k: object,
        v: object,
        cu_seqlens_q: object,
        cu_seqlens_k: object,
        slopes: object | None,
        softmax_scale: float,
        causal: bool,
        workspace: object,
        out: object,
        lse: object | None,
        stream: int,
    ) -> None:
        rows, offsets = [array_of(x) for x in (q, k, v)], [array_of(x) for x in (cu_seqlens_q, cu_seqlens_k)]
        needed = self.attention_varlen_workspace(len(rows[0]), len(offsets[0]) - 1)
        assert array_of(workspace).shape == (needed,)
        given = None if slopes is None else array_of(slopes)
        logarithms = None if lse is None else array_of(lse)
        self._emulated.attention_varlen(*rows, *offsets, given, softmax_scale, causal, array_of(out), logarithms)
        self.calls += 1


def load_backend(module: ModuleType, patch: pytest.MonkeyPatch) -> ModuleType:
    """longspan.ops.cuda_attention above `module`, until the patch ends."""
    patch.setitem(sys.modules, "longspan._cuda", module)
    patch.setattr("longspan._cuda", module, raising=False)
    for name in ("longspan.ops.cuda", "longspan.ops.cuda_attention"):
        patch.delitem(sys.modules, name, raising=False)
    backend = importlib.import_module("longspan.ops.cuda_attention")
    patch.setattr(backend, "stream_of", lambda tensor: 0)
    for name in ("longspan.ops.cuda", "longspan.ops.cuda_attention"):
        patch.setitem(sys.modules, name, sys.modules[name])  # put back as it was when the patch ends
    return backend
