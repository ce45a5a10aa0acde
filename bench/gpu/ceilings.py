"""What a GPU can do at best: torch's own matrix products, and copies of what no cache holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import torch

from bench.ceilings import COPY, matrix_name
from bench.gpu.contest import Setting
from bench.meter import Meter

SIZE: Final = 8192  # of the square matrices: 1.1 TFLOP a product
COPIED: Final = 1 << 28  # numbers in half precision: half a gigabyte read, as much written
CALLS: Final = 8  # of a reading; the fastest counts


def gpu_meter(setting: Setting) -> Meter:
    """Of the device in the setting's half precision; nothing has been read yet."""
    size = setting.size(SIZE, 64)
    a, b = setting.normal(size, size), setting.normal(size, size)
    source = setting.normal(setting.size(COPIED, 1 << 12))
    target = torch.empty_like(source)
    moved = 2.0 * source.numel() * source.element_size()
    return Meter(
        {
            matrix_name(setting.half_numerics): partial(rate, setting, lambda: a @ b, 2.0 * size**3),
            COPY: partial(rate, setting, lambda: target.copy_(source), moved),
        }
    )


def rate(setting: Setting, call: Callable[[], object], work: float) -> float:
    """Work of the fastest of some calls, in 1e9 a second."""
    if setting.dry:
        started = time.perf_counter()
        call()
        return work / (time.perf_counter() - started) * 1e-9
    best = float("inf")
    for _ in range(CALLS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) * 1e-3)
    return work / best * 1e-9
