"""Which engine an encoder's `device` and `dtype` name."""

from __future__ import annotations

import re
from typing import Final

from longspan.integers import checked_int
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.engine import OpsEngine
from longspan.ops.dispatch import backend_of_process
from longspan.ops.linear import COMPUTE_TYPES

CUDA_TYPES: Final = ("bfloat16", "float16", "float32")
MAX_THREADS: Final = 1024  # of the pool, csrc/core/parallel.cpp


def engine_for(
    caller: str, device: str | None, dtype: str, num_threads: int | None, cuda_graphs: bool = True
) -> OpsEngine:
    """The engine for what the constructors of both encoders take. `dtype` "auto" is float32 on the CPU, which agrees
    with every reference, and bfloat16 on a GPU. A backend that LONGSPAN_BACKEND names takes every op of the model.

    Raises: ValueError, there is no such engine, or what it needs is not there.
    """
    device = "cpu" if device is None else str(device)
    if num_threads is not None and not 1 <= checked_int(f"{caller}: num_threads", num_threads) <= MAX_THREADS:
        raise ValueError(f"{caller}: num_threads must be None (all) or from 1 to {MAX_THREADS}, got {num_threads}")
    if device == "cpu":
        return _cpu_engine(caller, dtype)
    if re.fullmatch(r"cuda(:\d+)?", device) is None:
        raise ValueError(f"{caller}: device must be None, 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    if dtype not in ("auto", *CUDA_TYPES):
        known = ", ".join(map(repr, ("auto", *CUDA_TYPES)))
        raise ValueError(f"{caller}: dtype must be one of {known} on a GPU, got {dtype!r}")
    return _cuda_engine(caller, device, "bfloat16" if dtype == "auto" else dtype, cuda_graphs)


def _cpu_engine(caller: str, dtype: str) -> OpsEngine:
    chosen = next((name for name in COMPUTE_TYPES if name == ("float32" if dtype == "auto" else dtype)), None)
    if chosen is None:
        known = ", ".join(map(repr, ("auto", *COMPUTE_TYPES)))
        raise ValueError(f"{caller}: dtype must be one of {known} on the CPU, got {dtype!r}")
    return CpuEngine(chosen) if backend_of_process() == "auto" else OpsEngine(chosen)


def _cuda_engine(caller: str, device: str, dtype: str, cuda_graphs: bool) -> OpsEngine:
    try:
        import torch

        from longspan.models.engines.torch_engine import TorchEngine
    except ImportError as error:
        raise ValueError(
            f"{caller}: device {device!r} needs torch and triton ({error}); pip install 'longspan[cuda]'"
        ) from error
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= found:
        raise ValueError(f"{caller}: device {device!r} is not there: torch finds {found} CUDA devices")
    return TorchEngine(device, dtype, cuda_graphs=cuda_graphs)
