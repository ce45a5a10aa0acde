"""The GPU's CUDA kernels on the CPU: csrc's own sources, compiled for tests/cuda_emulator and called through ctypes.

A bfloat16 array is a uint16 one of its bits here.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
EMULATOR = ROOT / "tests" / "cuda_emulator"
WARNINGS = ("-Wall", "-Wextra", "-Wno-unknown-pragmas")
FLAGS = ("-std=c++20", "-O1", "-U_FORTIFY_SOURCE", "-fPIC", "-shared", *WARNINGS)  # fibers jump between stacks
DTYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.uint16): 2}
ROUTES = {"whole": 0, "histogram": 1, "sampled": 2}

i64, i32 = ctypes.c_int64, ctypes.c_int32


def find_compiler() -> str | None:
    """A C++ compiler's path."""
    return shutil.which("g++") or shutil.which("c++")


def compile_source(name: str, folder: Path, compiler: str) -> ctypes.CDLL:
    """One of the emulator's sources as a library. Raises: subprocess.CalledProcessError, with the compiler's words."""
    library = folder / f"{name}.so"
    command = [compiler, *FLAGS, f"-I{ROOT / 'csrc'}", f"-I{EMULATOR}", "-x", "c++", str(EMULATOR / name)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search is to be done."""

    route: str
    blocks: int
    rows_per_block: int
    capacity: int
    group: int
    workspace: int
    steps: list[int]


class Emulated:
    """The kernels' launchers on NumPy arrays. A broken rule of CUDA's is a RuntimeError."""

    def __init__(self, folder: Path, compiler: str) -> None:
        """Compile into `folder`. Raises: subprocess.CalledProcessError, with the compiler's words."""
        self._library = compile_source("emulated.cpp", folder, compiler)
        self._library.half_to_float.restype = ctypes.c_float
        self._library.topk_plan.restype = i64

    def seed(self, order: int, multiprocessors: int = 3) -> None:
        """Draw the threads' order anew, on a GPU of so many multiprocessors."""
        self._library.seed(ctypes.c_uint(order), ctypes.c_int(multiprocessors))

    def _run(self, name: str, *args: object) -> None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_char_p
        failure = function(*args)
        if failure is not None:
            raise RuntimeError(f"{name}: {failure.decode()}")

    def broken(self, kind: int) -> np.ndarray:
        """What 64 threads read of their left neighbours in a kernel that breaks a rule; see emulated.cpp."""
        out = np.empty(64, np.int32)
        self._run("broken", kind, address(out))
        return out

    def binarize(self, x: np.ndarray, thresholds: np.ndarray | None = None) -> np.ndarray:
        """As ops.binarize."""
        codes = np.full((x.shape[0], (x.shape[1] + 7) // 8), 0xA5, np.uint8)
        self._run("binarize", address(x), DTYPES[x.dtype], *sizes(x), address(thresholds), address(codes))
        return codes

    def span_mean(self, hidden: np.ndarray, spans: np.ndarray, out_dim: int, normalize: bool = False) -> np.ndarray:
        """As ops.span_mean."""
        out = np.full((len(spans), out_dim), np.nan, np.float32)
        self._run(
            "span_mean",
            *(address(hidden), DTYPES[hidden.dtype], *sizes(hidden), address(spans), i64(len(spans)), normalize),
            *(address(out), i64(out_dim), i64(out_dim)),
        )
        return out

    def hamming(self, q: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """As ops.hamming."""
        out = np.full((len(q), len(codes)), -1, np.int32)
        self._run("hamming", *rows_of(q), *rows_of(codes), i32(codes.shape[1]), address(out), i64(len(codes)))
        return out

    def hamming_topk(
        self, q: np.ndarray, codes: np.ndarray, k: int, filter: np.ndarray | None = None, capacity: int = 0
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """As ops.hamming_topk, with padding to k columns, and the route taken."""
        distances, rows = np.full((len(q), k), -7, np.int32), np.full((len(q), k), -7, np.int64)
        route = ctypes.c_int()
        self._run(
            "hamming_topk",
            *(*rows_of(q), *rows_of(codes), i32(codes.shape[1]), address(filter), i64(k), i64(capacity)),
            *(address(distances), address(rows), ctypes.byref(route)),
        )
        return distances, rows, next(name for name, number in ROUTES.items() if number == route.value)

    def plan(self, num_queries: int, n: int, code_bytes: int, k: int, multiprocessors: int = 132) -> Plan:
        """How a search of that size is done."""
        fields = (i64 * 14)()
        levels = self._library.topk_plan(i64(num_queries), i64(n), i32(code_bytes), i64(k), multiprocessors, fields)
        route = next(name for name, number in ROUTES.items() if number == fields[0])
        return Plan(route, *fields[1:6], fields[6 : 6 + levels])

    def lanes_for(self, parts: int) -> int:
        """Threads to a row of so many reads."""
        return int(self._library.lanes_for(parts))

    def half_to_float(self, bits: int) -> float:
        """A half's value."""
        return float(self._library.half_to_float(ctypes.c_uint16(bits)))


def address(array: np.ndarray | None) -> ctypes.c_void_p:
    """Where an array's first value lies; null for None."""
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def sizes(array: np.ndarray) -> tuple[i64, i64, i64]:
    """Rows, columns and the stride between rows, in values."""
    return i64(array.shape[0]), i64(array.shape[1]), i64(array.strides[0] // array.itemsize)


def rows_of(codes: np.ndarray) -> tuple[ctypes.c_void_p, i64, i64]:
    """Address, row stride and number of rows."""
    return address(codes), i64(codes.strides[0]), i64(len(codes))
