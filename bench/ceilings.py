"""What a device can do at best, multiplying and moving bytes, and what that allows of a piece of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .case import Numerics, Work

# The instruction that a numerics' products are made of at best; float16 is widened, bits are not multiplied.
LOOPS: Final[Mapping[Numerics, str]] = {
    "float32": "fma", "float16": "fma", "bfloat16": "dpbf16", "int8": "vpdpbusd"
}  # fmt: skip
READ: Final = "read"
# Memory that one read works through, all threads together: a private cache's, the shared cache's, the memory's.
READ_MB: Final = (0.5, 8, 24, 256)
COPY: Final = "copy"  # of a GPU: bytes read and bytes written


@dataclass(frozen=True, slots=True)
class Ceilings:
    """GFLOP/s of a loop or of matrix products, and GB/s of reading by how many MB are read, or of a GPU's copies."""

    rates: Mapping[str, float] = field(default_factory=dict)

    def joined(self, other: Ceilings) -> Ceilings:
        """The higher of both."""
        names = {**self.rates, **other.rates}
        return Ceilings({name: max(self.rates.get(name, 0), other.rates.get(name, 0)) for name in names})

    def read_rate(self, num_bytes: float) -> tuple[float, str] | None:
        """GB/s of reading again what takes so much room, caches being faster than memory; of a GPU, of a cold copy."""
        if COPY in self.rates:
            return self.rates[COPY], COPY
        sizes = [size for size in READ_MB if read_name(size) in self.rates]
        if not sizes:
            return None
        fitting = [size for size in sizes if num_bytes <= size * 1e6]
        return self.rates[read_name(min(fitting) if fitting else max(sizes))], READ

    def least_seconds(self, work: Work, numerics: Numerics) -> tuple[float, str] | None:
        """What `work` takes at least, and the ceiling that says so; None where a ceiling that matters is not known."""
        bounds: list[tuple[float, str]] = []
        if work.flops:
            names = (matrix_name(numerics), LOOPS.get(numerics, ""))
            loop = next((name for name in names if name in self.rates), None)
            if loop is None:
                return None
            bounds.append((work.flops / self.rates[loop] * 1e-9, loop))
        if work.bytes and (found := self.read_rate(work.bytes)):
            bounds.append((work.bytes / found[0] * 1e-9, found[1]))
        return max(bounds, default=None)


def read_name(megabytes: float) -> str:
    """A reading ceiling's name, `read 8 MB`."""
    return f"{READ} {megabytes:g} MB"


def matrix_name(numerics: Numerics) -> str:
    """The name of a GPU's rate of matrix products, `matrix bfloat16`."""
    return f"matrix {numerics}"


def moves_bytes(name: str) -> bool:
    """Whether a ceiling is of GB/s; the others are of GFLOP/s."""
    return name.split(maxsplit=1)[0] in (READ, COPY)
