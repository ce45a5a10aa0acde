"""PyTorch's FlexAttention: packed sequences by a mask of blocks, ALiBi by a score function; compiled for the shape."""

from __future__ import annotations

import shutil

import numpy as np
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ..case import Contestant, Setting
from . import AbsentError


def attention(
    setting: Setting, q: np.ndarray, k: np.ndarray, v: np.ndarray, lengths: np.ndarray, slopes: np.ndarray | None
) -> list[Contestant]:
    """q, k, v (total_tokens, heads, head_dim) f32, sequences of `lengths`, as one row without padding."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise AbsentError("FlexAttention on a CPU needs a C++ compiler")
    torch.set_num_threads(setting.threads)
    total = len(q)
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.from_numpy(lengths.astype(np.int64)))
    slope = None if slopes is None else torch.from_numpy(slopes)

    def same_sequence(b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return sequence[i] == sequence[j]

    def alibi(score: torch.Tensor, b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        assert slope is not None
        return score - slope[h] * (i - j).abs()

    mask = create_block_mask(same_sequence, None, None, total, total, device="cpu")
    rows = [torch.from_numpy(np.ascontiguousarray(part)).transpose(0, 1)[None].contiguous() for part in (q, k, v)]
    torch.compiler.reset()  # a compiler that has seen another shape makes code for any, which it then fails to build
    compiled = torch.compile(flex_attention, dynamic=False)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return compiled(*rows, score_mod=None if slope is None else alibi, block_mask=mask)

    return [Contestant("flex-attention", run, read=lambda out: out[0].transpose(0, 1).numpy())]
