"""Contestants on a GPU, in the frame of the suite: held against the truth, then timed in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import torch

from bench.case import OURS as OUR_NAME
from bench.case import Case, Contest, Contestant, Numerics, Work
from bench.case import Setting as FrameSetting
from bench.contest import run_case
from bench.gpu.clock import OutOfTimeError, device_seconds, host_seconds
from bench.results import Result
from bench.timing import Times

OURS: Final = OUR_NAME  # for the parts, which know this module alone

# How a case's work is counted: by its FLOPs, by the bytes that it must move, or by its tokens.
COUNTS: Final[Mapping[str, Callable[[float], Work]]] = {
    "TFLOP/s": lambda work: Work(flops=work),
    "GB/s": lambda work: Work(bytes=work),
    "ktok/s": lambda work: Work(items=work, item="tokens"),
}

Call = Callable[[], torch.Tensor]
Row: TypeAlias = Result  # what a part yields: a case with all that took part


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long to measure. `dry`: tiny sizes in Triton's interpreter, to try the plumbing; no figures."""

    device: str
    dry: bool
    rounds: int = 30
    seconds: float = 3.0  # of a contest's rounds; fewer fit where a round takes long
    on_host: bool = False  # the host's clock, for calls whose results come back to it
    until: float = math.inf  # on time.monotonic: no contest begins later
    is_last: bool = False  # what may take the device with it takes part

    def size(self, real: int, tiny: int) -> int:
        """A size for this setting."""
        return tiny if self.dry else real

    @property
    def half(self) -> torch.dtype:
        """bf16; f16 in the interpreter, which multiplies bf16 matrices wrongly."""
        return torch.float16 if self.dry else torch.bfloat16

    @property
    def half_numerics(self) -> Numerics:
        """Its name in the records."""
        return "float16" if self.dry else "bfloat16"

    @property
    def frame(self) -> FrameSetting:
        """What the rest of the suite takes."""
        return FrameSetting(torch.get_num_threads(), rounds=1 if self.dry else self.rounds, is_short=False)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Standard normal values."""
        return torch.randn(shape, device=self.device, dtype=torch.float32).to(dtype or self.half)


def contest(
    setting: Setting,
    case: str,
    calls: Mapping[str, Call],
    truth: torch.Tensor,
    *,
    work: float | Work,
    unit: str = "",
    limit: float,
    target: str = "",
    numerics: Numerics | None = None,
    truths: Mapping[str, torch.Tensor] | None = None,
) -> list[Row]:
    """Check each contestant (ours among them), then time those that agree in turn.

    Args:
        case: its first word names the bench, the rest the shape.
        truth: what all of them are to give, in f32 or more.
        work: FLOPs, bytes or tokens of one call, as `unit` says; or all of them as the frame counts them.
        limit: largest |out - truth| / |truth|; 0 asks for the very same numbers.
        target: what we are to reach here.
        numerics: of all contestants; bits where the limit is 0, else the setting's half precision.
        truths: by name, of contestants that do the same work on other numbers, and so are to give something else.
    Returns: the case's record. Whoever has no parity is in it with the reason, and without a time.
    Raises: OutOfTimeError, the setting's time is over.
    """
    if time.monotonic() > setting.until:
        raise OutOfTimeError(case)
    kind: Numerics = numerics or ("bits" if limit == 0 else setting.half_numerics)
    truth, others = truth.double(), {name: other.double() for name, other in (truths or {}).items()}
    everyone = tuple(
        Contestant(
            name,
            call,
            kind,
            partial(relative_error, truth=others.get(name, truth)),
            target=target if name == OURS else "",
        )
        for name, call in calls.items()
    )
    counted = work if isinstance(work, Work) else COUNTS[unit](work)
    bench, _, shape = case.partition(" ")
    made = Contest(everyone, np.zeros(1), {kind: limit})
    in_turn = partial(_in_turn, setting)
    result, _ = run_case(Case(f"gpu {bench}", {"case": shape}, counted, lambda _: made), setting.frame, in_turn)
    return [_in_tera(result)]


def relative_error(out: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """(1,) |out - truth| / |truth| in f64, on the device: results are too large to bring to the host.

    Raises: ValueError, the shapes differ.
    """
    if out.shape != truth.shape:
        raise ValueError(f"its result has shape {tuple(out.shape)}, not {tuple(truth.shape)}")
    norm, off = float(truth.norm()), float((out.double() - truth).norm())
    return np.array([off / norm if norm > 0 else off])


def _in_tera(result: Result) -> Result:
    """A GPU's rates in numbers that can be read."""
    if result.rate_unit != "GFLOP/s":
        return result
    entries = tuple(replace(entry, rate=None if entry.rate is None else entry.rate * 1e-3) for entry in result.entries)
    return replace(result, rate_unit="TFLOP/s", entries=entries)


def _in_turn(setting: Setting, calls: Mapping[str, Callable[[], object]], _: FrameSetting) -> dict[str, Times]:
    """Seconds of each call."""
    how = {"rounds": setting.rounds, "seconds": setting.seconds}
    if setting.dry:
        taken: dict[str, list[float]] = {}
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name] = [time.perf_counter() - started]
    elif setting.on_host:
        taken = host_seconds(calls, **how)
    else:
        taken = device_seconds(calls, device=setting.device, **how)
    return {name: Times(seconds, list(seconds)) for name, seconds in taken.items()}
