"""The CUDA attention kernel for sm_90a beside the Triton kernel, which is the default; last, as it may trap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.gpu import attention
from bench.gpu.contest import Row, Setting


def rows(setting: Setting) -> Iterator[Row]:
    """The cases that it takes."""
    last = replace(setting, is_last=True)
    for part in (attention.uniform, attention.ragged, attention.causal):
        yield from part(last)
