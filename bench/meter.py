"""Measures ceilings so that one bad moment cannot make them: readings over the whole run, of which the best counts.

A reading comes out low where something else had a core, where both threads were on one, or where the clock was down;
nothing makes it high. So one good reading would do, if it could be told from a bad one: a ceiling is believed when its
two best readings agree and it stands to that of the plain multiply-adds as the instructions' widths do.

The loops are ops/*_ceiling.cpp, compiled here for this processor. Without a compiler, or where the processor lacks the
instruction, that ceiling is absent, and shares of it stay empty.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from .cache import kept
from .ceilings import LOOPS, READ, READ_MB, Ceilings, moves_bytes, read_name

SOURCES: Final = Path(__file__).with_name("ops")
FLAGS: Final = ("-std=c++20", "-O2", "-march=native", "-pthread")
# No -ffast-math: it would make every process that loads the library flush denormals.
LIBRARY_FLAGS: Final = ("-std=c++20", "-O3", "-march=native", "-shared", "-fPIC", "-pthread")
RUNS: Final = "15"  # a few milliseconds each; the best counts
READ_SECONDS: Final = 0.05

MOST_READINGS: Final = 8  # of a ceiling that will not settle
APART: Final = 0.05  # seconds between readings: what disturbed one should be over at the next
AGREE: Final = 0.03  # the two best of the multipliers' readings; a register loop repeats to a part of that
AGREE_BYTES: Final = 0.15  # memory is shared with whoever else is on the machine
# Times the multiply-adds of a float32 instruction of that width; processors issue as many of them, or fewer.
USUAL: Final[Mapping[str, float]] = {"dpbf16": 2, "vpdpbusd": 4}
PLAIN: Final = "fma"
UNUSUAL: Final = 0.10

Reading: TypeAlias = Callable[[], float]  # GFLOP/s or GB/s


@dataclass(slots=True)
class Meter:
    """The ceilings of a device, as far as they have been read."""

    read: Mapping[str, Reading]
    absent: Mapping[str, str] = field(default_factory=dict)  # ceiling -> why there is none
    readings: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ceilings(self) -> Ceilings:
        """The best reading of each."""
        return Ceilings({name: max(values) for name, values in self.readings.items()})

    def take(self) -> None:
        """One more reading of each, in less than half a second."""
        for name in self.read:
            self._take(name)

    def settle(self, apart: float = APART) -> None:
        """Read until nothing is in doubt, or MOST_READINGS times."""
        for number in range(MOST_READINGS):
            doubtful = [name for name in self.read if doubt(name, self.readings) is not None]
            if not doubtful:
                return
            if number > 0:
                time.sleep(apart)
            for name in doubtful:
                self._take(name)

    def warnings(self) -> list[str]:
        """What is to be said of ceilings that stayed in doubt."""
        doubts = {name: doubt(name, self.readings) for name in self.read}
        return [f"the {name} ceiling is in doubt: {reason}" for name, reason in doubts.items() if reason is not None]

    def _take(self, name: str) -> None:
        self.readings.setdefault(name, []).append(self.read[name]())


def doubt(name: str, readings: Mapping[str, list[float]]) -> str | None:
    """Why a ceiling cannot be believed yet; None if it can."""
    best = sorted(readings.get(name, []))[-2:]
    if len(best) < 2:
        return "it was not read twice"
    second, first = best
    if second < (1 - (AGREE_BYTES if moves_bytes(name) else AGREE)) * first:
        return f"its two best readings of {len(readings[name])} are {first:.0f} and {second:.0f}"
    others = USUAL if name == PLAIN else {name: USUAL[name]} if name in USUAL else {}
    for other, usual in others.items():
        if PLAIN not in readings or other not in readings:
            continue
        times = max(readings[other]) / max(readings[PLAIN])
        is_low = times > usual * (1 + UNUSUAL) if name == PLAIN else times < usual * (1 - UNUSUAL)
        if is_low:
            return f"{other} is {times:.2f} times {PLAIN}, where {usual:g} times is usual"
    return None


def machine_meter(threads: int) -> Meter:
    """Of this machine's processor on so many threads; nothing has been read yet."""
    read: dict[str, Reading] = {}
    absent: dict[str, str] = {}
    for loop in dict.fromkeys(LOOPS.values()):
        try:
            run = partial(_loop_rate, _compiled(SOURCES / f"{loop}_ceiling.cpp", FLAGS), threads)
            run()  # once for nothing: it may compile, and then not run here
            read[loop] = run
        except (OSError, subprocess.CalledProcessError) as error:
            absent[loop] = _reason(error)
    try:
        read_all = load_read()
    except (OSError, subprocess.CalledProcessError) as error:
        return Meter(read, {**absent, READ: _reason(error)})
    for megabytes in READ_MB:
        read[read_name(megabytes)] = partial(_read_rate, read_all, megabytes, threads)
    return Meter(read, absent)


ReadAll: TypeAlias = Callable[[np.ndarray, int], float]  # data (f32), threads -> seconds of one pass


def load_read() -> ReadAll:
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


def _loop_rate(program: Path, threads: int) -> float:
    done = subprocess.run([program, str(threads), RUNS], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _read_rate(read_all: ReadAll, megabytes: float, threads: int) -> float:
    data = np.ones(int(megabytes * 1e6) // 4, np.float32)
    best, until = float("inf"), time.perf_counter() + READ_SECONDS
    while time.perf_counter() < until:
        best = min(best, read_all(data, threads))
    return data.nbytes / best * 1e-9


def _compiled(source: Path, flags: tuple[str, ...]) -> Path:
    """The program or library; compiled once a machine."""
    from .record import machine

    compiler = os.environ.get("CXX", "c++")

    def make(folder: Path) -> None:
        command = [compiler, *flags, str(source), "-o", str(folder / source.stem)]
        subprocess.run(command, check=True, capture_output=True, text=True)

    sources = [path.read_text(encoding="utf-8") for path in (source, SOURCES / "ceiling.h")]
    parts = (*sources, compiler, *flags, str(machine()["cpu"]), str(machine()["isa"]))
    return kept(source.stem, parts, make) / source.stem


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr).splitlines() if "error" in line] or [str(error)]
        return f"cannot be compiled or run here: {lines[0].rpartition('error: ')[2]}"
    return f"cannot be compiled here: {error}"
