"""Which engine an encoder's `device` and `dtype` name."""

from __future__ import annotations

import os

from longspan.models.engine import COMPUTE_TYPES, CpuEngine, OpsEngine


def engine_for(caller: str, device: str | None, dtype: str, num_threads: int | None) -> OpsEngine:
    """The engine for what the constructors of both encoders take. `dtype` "auto" is float32, which agrees with every
    reference. A backend that LONGSPAN_BACKEND names takes every op of the model.

    Raises: ValueError, there is no such engine.
    """
    if device not in (None, "cpu"):
        raise ValueError(f"{caller}: device must be None or 'cpu', got {device!r}; this version has no GPU engine")
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"{caller}: num_threads must be 1 or more, got {num_threads}")
    chosen = next((name for name in COMPUTE_TYPES if name == ("float32" if dtype == "auto" else dtype)), None)
    if chosen is None:
        known = ", ".join(map(repr, ("auto", *COMPUTE_TYPES)))
        raise ValueError(f"{caller}: dtype must be one of {known}, got {dtype!r}")
    return CpuEngine(chosen) if os.environ.get("LONGSPAN_BACKEND", "auto") == "auto" else OpsEngine(chosen)
