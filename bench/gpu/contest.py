"""Contestants timed in turn on a GPU, after each has been held against the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch

from bench.gpu.clock import OutOfTimeError, device_seconds, host_seconds
from bench.timing import Spread

OURS: Final = "longspan"

# Of work a millisecond: FLOPs, bytes, tokens (in thousands a second).
PER_MILLISECOND: Final = {"TFLOP/s": 1e-9, "GB/s": 1e-6, "ktok/s": 1.0}

Call = Callable[[], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long to measure. `dry`: tiny sizes in Triton's interpreter, to try the plumbing; no figures."""

    device: str
    dry: bool
    rounds: int = 30
    seconds: float = 3.0  # of a contest's rounds; fewer fit where a round takes long
    on_host: bool = False  # the host's clock, for calls whose results come back to it
    until: float = math.inf  # on time.monotonic: no contest begins later

    def size(self, real: int, tiny: int) -> int:
        """A size for this setting."""
        return tiny if self.dry else real

    @property
    def half(self) -> torch.dtype:
        """bf16; f16 in the interpreter, which multiplies bf16 matrices wrongly."""
        return torch.float16 if self.dry else torch.bfloat16

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Standard normal values."""
        return torch.randn(shape, device=self.device, dtype=torch.float32).to(dtype or self.half)


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant in one case."""

    case: str
    contestant: str
    milliseconds: Spread
    rate: float  # work / median
    unit: str  # of the rate: one of PER_MILLISECOND
    error: float  # |out - truth| / |truth|
    our_speedup: float  # how many times faster we are; 1 for ourselves
    target: str = ""  # what we are to reach here

    def text(self) -> str:
        """A line of the table."""
        ours = "" if self.contestant == OURS else f"{self.our_speedup:.2f}x"
        return (
            f"{self.case:<44} {self.contestant:<26} {self.milliseconds.text(3):>24} {self.rate:>8.1f} {self.unit:<8}"
            f"{self.error:>9.1e} {ours:>7}  {self.target}"
        )


def contest(
    setting: Setting,
    case: str,
    calls: Mapping[str, Call],
    truth: torch.Tensor,
    *,
    work: float,
    unit: str,
    limit: float,
    target: str = "",
) -> list[Row]:
    """Check each contestant (`OURS` among them), then time those that agree in turn.

    Args:
        truth: what all of them are to give, in f32 or more.
        work: FLOPs, bytes or tokens of one call.
        limit: largest |out - truth| / |truth|. A peer beyond it is named and left out; ours is an error.
    Raises: OutOfTimeError, the setting's time is over.
    """
    if time.monotonic() > setting.until:
        raise OutOfTimeError(case)
    errors = {}
    for name, call in list(calls.items()):
        try:
            out = call().double()
        except (RuntimeError, NotImplementedError, torch.cuda.OutOfMemoryError) as error:
            if name == OURS:
                raise
            print(f"{case}: {name} left out, {str(error).splitlines()[0][:100]}")
            continue
        error = float((out - truth.double()).norm() / truth.double().norm())
        if error <= limit:
            errors[name] = error
        elif name == OURS:
            raise ValueError(f"{case}: {name} is off by {error:.2g}, allowed is {limit:.2g}")
        else:
            print(f"{case}: {name} left out, off by {error:.2g}")
    times = {name: Spread.of(values) for name, values in _in_turn(setting, {n: calls[n] for n in errors}).items()}
    return [
        Row(
            case,
            name,
            spread,
            work / spread.median * PER_MILLISECOND[unit],
            unit,
            errors[name],
            spread.median / times[OURS].median,
            target if name == OURS else "",
        )
        for name, spread in times.items()
    ]


def _in_turn(setting: Setting, calls: Mapping[str, Call]) -> dict[str, list[float]]:
    """Milliseconds of each call."""
    how = {"rounds": setting.rounds, "seconds": setting.seconds}
    if setting.dry:
        times: dict[str, list[float]] = {name: [] for name in calls}
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    elif setting.on_host:
        times = host_seconds(calls, **how)
    else:
        times = device_seconds(calls, device=setting.device, **how)
    return {name: [1e3 * each for each in taken] for name, taken in times.items()}
