"""attention_varlen's Hopper kernels on the CPU: csrc's own sources, compiled for tests/cuda_emulator, by ctypes.

A bfloat16 array is a uint16 one of its bits here.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from emulated import DTYPES, address, compile_source, i64

SIGHTS = ("whole", "before", "behind", "edge")


class EmulatedAttention:
    """The kernel's launcher on NumPy arrays, and its pieces. A broken rule of CUDA's is a RuntimeError."""

    def __init__(self, folder: Path, compiler: str) -> None:
        """Compile into `folder`. Raises: subprocess.CalledProcessError, with what the compiler says."""
        self._library = compile_source("emulated_attention.cpp", folder, compiler)
        for name in ("describe", "further"):
            getattr(self._library, name).restype = ctypes.c_uint64
        self._library.list_tiles.restype = self._library.shared_bytes.restype = i64

    def seed(self, order: int, multiprocessors: int = 3) -> None:
        """Draw the order of threads and copies anew, on a GPU of so many multiprocessors."""
        self._library.seed(ctypes.c_uint(order), ctypes.c_int(multiprocessors))

    def _run(self, name: str, *args: object) -> None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_char_p
        if (failure := function(*args)) is not None:
            raise RuntimeError(failure.decode())

    def broken(self, kind: int) -> None:
        """Run a kernel that breaks a rule, none for 0; see emulated_attention.cpp."""
        self._run("broken", kind, address(aligned(np.zeros((64, 64), np.float16))))

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
        """As `_cuda.attention_varlen`."""
        rows = [part for x in (q, k, v, out) for part in (address(x), sizes_of(x))]
        offsets = (address(cu_seqlens_q), address(cu_seqlens_k), i64(len(cu_seqlens_q) - 1))
        options = (address(slopes), ctypes.c_float(softmax_scale), ctypes.c_int(causal), address(lse))
        self._run("attention_varlen", *rows, DTYPES[q.dtype], *offsets, *options)

    def list_tiles(self, cu_seqlens_q: np.ndarray, cu_seqlens_k: np.ndarray, causal: bool) -> np.ndarray:
        """(tiles, 6) row, rows, low, start_k, len_k, num_blocks, in the order of work."""
        sequences = len(cu_seqlens_q) - 1
        tiles = np.full((int(cu_seqlens_q[-1]) // 128 + sequences, 6), -7, np.int32)
        count = self._library.list_tiles(
            address(cu_seqlens_q), address(cu_seqlens_k), sequences, int(causal), address(tiles)
        )
        return tiles[:count]

    def sight_of(self, block: int, low: int, rows: int, len_k: int, causal: bool, biased: bool) -> tuple[str, bool]:
        """How queries see a block of keys: one of SIGHTS, and whether its first half is enough."""
        half, sight = divmod(self._library.sight_of(block, low, rows, len_k, int(causal), int(biased)), 8)
        return SIGHTS[sight], half == 1

    def swizzled(self, place: int) -> int:
        """Where in shared memory an address's value lies."""
        return int(self._library.swizzled(place))

    def describe(self, place: int, across: int, down: int) -> int:
        """A matrix's descriptor."""
        return int(self._library.describe(place, across, down))

    def further(self, descriptor: int, count: int) -> int:
        """That of the matrix so many bytes on."""
        return int(self._library.further(ctypes.c_uint64(descriptor), count))

    def fragments(self, thread: int) -> tuple[np.ndarray, np.ndarray]:
        """(64, 2) rows and columns of a thread's sums, and of its operand's values."""
        sums, operand = (np.empty((64, 2), np.int32) for _ in range(2))
        self._library.fragments(thread, address(sums), address(operand))
        return sums, operand

    def pack_pair(self, low: float, high: float, dtype: type) -> int:
        """Two values rounded to f16, or to bf16 for uint16."""
        return ctypes.c_uint32(
            self._library.pack_pair(ctypes.c_float(low), ctypes.c_float(high), int(dtype is np.float16))
        ).value

    def shared_bytes(self, head_dim: int) -> int:
        """What a block takes of shared memory."""
        return int(self._library.shared_bytes(head_dim))


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 16 bytes, as those of GPU allocators do."""
    memory = np.empty(array.nbytes + 16, np.uint8)
    start = -memory.ctypes.data % 16
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy


def sizes_of(rows: np.ndarray) -> ctypes.Array[ctypes.c_int64]:
    """Total, heads, head_dim, and the strides of the first two in values."""
    return (i64 * 5)(*rows.shape, *(stride // rows.itemsize for stride in rows.strides[:2]))
