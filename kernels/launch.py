"""What the launchers share: tile maps over packed rows, the device to launch on, when to go past torch's dispatcher.

Triton compiles a kernel anew for a number that is 1, one that is a multiple of 16, and any other. Kernels name in
`do_not_specialize` the numbers that change from batch to batch and gain nothing by it, such as that of the sequences.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
import triton
import triton.language as tl

LAUNCH = {"enable_fp_fusion": True}  # Triton 3.10 will otherwise stop fusing multiply and add
SEARCH = tl.constexpr(256)  # offsets that one step of `find_sequence` looks at


@triton.jit
def find_sequence(cu_seqlens_ptr, num_sequences, tile, BLOCK: tl.constexpr):
    """The sequence that owns `tile`, and how many of its tiles come before.

    Sequence s owns the tiles from cu_seqlens[s] // BLOCK + s up to that of s + 1: as many as it has rows to fill, and
    at most one more. So a grid of total // BLOCK + num_sequences tiles covers any batch, and neither a pass over the
    lengths nor a copy to the host is needed to know it.
    """
    owner = -1
    for start in range(0, num_sequences, SEARCH):
        s = start + tl.arange(0, SEARCH)
        first = tl.load(cu_seqlens_ptr + s, mask=s < num_sequences, other=0) // BLOCK + s
        owner += tl.sum(((first <= tile) & (s < num_sequences)).to(tl.int32))
    return owner, tile - (tl.load(cu_seqlens_ptr + owner) // BLOCK + owner)


def num_tiles(total: int, num_sequences: int, block: int) -> int:
    """The length of a grid over tiles of `block` packed rows, none of which holds rows of two sequences."""
    return total // block + num_sequences


def power_of_2(n: int, least: int = 1) -> int:
    """The smallest power of 2 that is at least `n` and `least`."""
    return max(least, 1 << max(n - 1, 0).bit_length())


def rows_readable(x: torch.Tensor) -> torch.Tensor:
    """`x`, or a copy if its last axis is not contiguous: kernels take any other strides."""
    return x if x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


def on_device(x: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Launches within it go to the device of `x`, which need not be the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def architecture(x: torch.Tensor) -> int:
    """The compute capability of the device of `x`, as 90 for 9.0; 90 too where kernels are interpreted."""
    if not x.is_cuda:
        return 90
    major, minor = torch.cuda.get_device_capability(x.device)
    return 10 * major + minor


def needs_dispatcher(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether a call must go through torch's dispatcher: it is traced, a gradient is asked for, or a tensor is not a
    plain one. Otherwise its launcher is called at once, which saves some tens of microseconds."""
    if torch.compiler.is_compiling():
        return True
    present = [x for x in tensors if x is not None]
    if torch.is_grad_enabled() and any(x.requires_grad for x in present):
        return True
    return any(type(x) not in (torch.Tensor, torch.nn.Parameter) for x in present)


def fill(out: torch.Tensor | None, result: torch.Tensor) -> torch.Tensor:
    """`result`, or `out` holding it."""
    return result if out is None else out.copy_(result)
