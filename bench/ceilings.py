"""What this machine can do at best, multiplying and reading, and what that allows of a piece of work.

The loops are ops/*_ceiling.cpp, compiled here for this processor. Without a compiler, or where the
processor lacks the instruction, that ceiling is absent, and shares of it stay empty.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from .cache import kept
from .case import Numerics, Work

SOURCES: Final = Path(__file__).with_name("ops")
FLAGS: Final = ("-std=c++20", "-O2", "-march=native", "-pthread")
LIBRARY_FLAGS: Final = ("-std=c++20", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-pthread")
RUNS: Final = "15"  # a few milliseconds each; the best counts

# The instruction that a numerics' products are made of at best; float16 is widened, bits are not multiplied.
LOOPS: Final[Mapping[Numerics, str]] = {
    "float32": "fma", "float16": "fma", "bfloat16": "dpbf16", "int8": "vpdpbusd"
}  # fmt: skip
READ: Final = "read"
# Memory that one read works through, all threads together: a private cache's, the shared cache's, the memory's.
READ_MB: Final = (0.5, 8, 24, 256)
READ_SECONDS: Final = 0.08

Read = Callable[[np.ndarray, int], float]  # data (f32), threads -> seconds of one pass


@dataclass(frozen=True, slots=True)
class Ceilings:
    """GFLOP/s of a loop, and GB/s of reading by how many MB are read."""

    rates: Mapping[str, float] = field(default_factory=dict)

    def joined(self, other: Ceilings) -> Ceilings:
        """The higher of both."""
        names = {**self.rates, **other.rates}
        return Ceilings({name: max(self.rates.get(name, 0), other.rates.get(name, 0)) for name in names})

    def read_rate(self, num_bytes: float) -> float | None:
        """GB/s of reading again what takes so much room: caches are faster than memory."""
        sizes = [size for size in READ_MB if read_name(size) in self.rates]
        if not sizes:
            return None
        fitting = [size for size in sizes if num_bytes <= size * 1e6]
        return self.rates[read_name(min(fitting) if fitting else max(sizes))]

    def least_seconds(self, work: Work, numerics: Numerics) -> tuple[float, str] | None:
        """What `work` takes at least, and the ceiling that says so; None where a ceiling that matters is not known."""
        bounds: list[tuple[float, str]] = []
        if work.flops:
            loop = LOOPS.get(numerics)
            if loop is None or loop not in self.rates:
                return None
            bounds.append((work.flops / self.rates[loop] * 1e-9, loop))
        if work.bytes and (rate := self.read_rate(work.bytes)):
            bounds.append((work.bytes / rate * 1e-9, READ))
        return max(bounds, default=None)


def read_name(megabytes: float) -> str:
    """A reading ceiling's name, `read 8 MB`."""
    return f"{READ} {megabytes:g} MB"


def measure_ceilings(threads: int) -> tuple[Ceilings, dict[str, str]]:
    """The ceilings on so many threads, in half a second; and of those that are absent, why.

    A busy moment lowers them, and nothing raises them: measure often, and join.
    """
    rates: dict[str, float] = {}
    absent: dict[str, str] = {}
    for loop in dict.fromkeys(LOOPS.values()):
        try:
            program = _compiled(SOURCES / f"{loop}_ceiling.cpp", FLAGS)
            done = subprocess.run([program, str(threads), RUNS], check=True, capture_output=True, text=True)
            rates[loop] = float(done.stdout)
        except (OSError, subprocess.CalledProcessError) as error:
            absent[loop] = _reason(error)
    try:
        read = load_read()
    except (OSError, subprocess.CalledProcessError) as error:
        return Ceilings(rates), {**absent, READ: _reason(error)}
    for megabytes in READ_MB:
        data = np.ones(int(megabytes * 1e6) // 4, np.float32)
        best, until = float("inf"), time.perf_counter() + READ_SECONDS
        while time.perf_counter() < until:
            best = min(best, read(data, threads))
        rates[read_name(megabytes)] = data.nbytes / best * 1e-9
    return Ceilings(rates), absent


def load_read() -> Read:
    """Reads an array with all threads, often enough that starting them is nothing. Raises: OSError,
    CalledProcessError: it cannot be compiled."""
    library = ctypes.CDLL(str(_compiled(SOURCES / "read_ceiling.cpp", LIBRARY_FLAGS)))
    read_all = library.read_all
    read_all.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
    read_all.restype = ctypes.c_float

    def read(data: np.ndarray, threads: int) -> float:
        passes = max(1, int(64e6) // data.nbytes)
        started = time.perf_counter()
        read_all(data.ctypes.data, data.size, threads, passes)
        return (time.perf_counter() - started) / passes

    return read


def _compiled(source: Path, flags: tuple[str, ...]) -> Path:
    """The program or library; compiled once a machine."""
    compiler = os.environ.get("CXX", "c++")

    def make(folder: Path) -> None:
        command = [compiler, *flags, str(source), "-o", str(folder / source.stem)]
        subprocess.run(command, check=True, capture_output=True, text=True)

    from .record import machine

    sources = [path.read_text(encoding="utf-8") for path in (source, SOURCES / "ceiling.h")]
    parts = (*sources, compiler, *flags, str(machine()["cpu"]), str(machine()["isa"]))
    return kept(source.stem, parts, make) / source.stem


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr).splitlines() if "error" in line] or [str(error)]
        return f"cannot be compiled or run here: {lines[0].rpartition('error: ')[2]}"
    return f"cannot be compiled here: {error}"
