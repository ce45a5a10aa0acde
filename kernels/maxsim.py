"""maxsim, maxsim_pairs and maxsim_topk on a GPU: torch.library registration, gradients, the k best documents."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import Launcher, needs_dispatcher, on_device, rows_readable
from longspan.kernels.maxsim_backward import launch_backward
from longspan.kernels.maxsim_kernel import launch_maxsim

SCORES_AT_ONCE = 1 << 24  # of maxsim_topk: 64 MB of scores, and twice that of their keys
LOWEST_KEY = -(2**31)
BLOCK_DOCS = 64  # documents that `best_keys` takes as one
BLOCKS = 16  # of a program
MANY = 4  # blocks for each of the k best, from which on they are worth it


# block_keys: of each block of documents the key of its best score, with the block's number for a document's.
#   scores (num_queries, num_docs) f32   out (num_queries, num_blocks) int64; `keys_of` says what a key is
# Grid (num_queries, ceil(num_blocks / BLOCKS)). Bytes = 4 * num_queries * num_docs, and 8 for each block.
# Limit: memory. On an H200 16 M scores take 64 MB, 16 us expected; keys of all of them moved 1 GB, 0.3 ms.
@triton.jit(do_not_specialize=["num_docs", "num_blocks", "stride_scores", "stride_out"])
def _block_keys_kernel(
    scores_ptr,
    out_ptr,
    num_docs,
    num_blocks,
    stride_scores,
    stride_out,
    IS_ALIGNED: tl.constexpr,  # a row of scores begins at a multiple of 16
    BLOCKS: tl.constexpr,
    BLOCK_DOCS: tl.constexpr,
):
    if IS_ALIGNED:
        stride_scores = tl.multiple_of(stride_scores, 16)
    block = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    query = tl.program_id(0).to(tl.int64)
    doc = block[:, None].to(tl.int64) * BLOCK_DOCS + tl.arange(0, BLOCK_DOCS)[None, :]
    ok = doc < num_docs
    score = tl.load(scores_ptr + query * stride_scores + doc, mask=ok, other=float("nan"))
    bits = (score + 0.0).to(tl.int32, bitcast=True)  # + 0.0: a zero has no sign
    order = tl.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    order = tl.where(score != score, -2147483648, order)
    best = tl.max(order, axis=1).to(tl.int64)
    key = best * 4294967296 + (4294967295 - block.to(tl.int64))
    tl.store(out_ptr + query * stride_out + block, key, mask=block < num_blocks)


BLOCK_KEYS = Launcher(_block_keys_kernel)


class Quantized(Protocol):
    """int8 vectors with a scale each: `longspan.ops.Int8Tokens`."""

    @property
    def values(self) -> torch.Tensor:
        """(total_d, dim) int8."""

    @property
    def scales(self) -> torch.Tensor:
        """(total_d,) f32."""


Documents: TypeAlias = "torch.Tensor | Quantized"


def _run(
    q: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_d: torch.Tensor,
    pairs: torch.Tensor | None,
) -> torch.Tensor:
    cu_seqlens_q, cu_seqlens_d = cu_seqlens_q.contiguous(), cu_seqlens_d.contiguous()
    pairs = None if pairs is None else pairs.contiguous()
    shape = _shape(cu_seqlens_q, cu_seqlens_d, pairs)
    out = torch.empty(shape, dtype=torch.float32, device=q.device)
    launch_maxsim(rows_readable(q), rows_readable(d), scales, cu_seqlens_q, cu_seqlens_d, pairs, out)
    return out


def _shape(cu_seqlens_q: torch.Tensor, cu_seqlens_d: torch.Tensor, pairs: torch.Tensor | None) -> tuple[int, ...]:
    return (cu_seqlens_q.shape[0] - 1, cu_seqlens_d.shape[0] - 1) if pairs is None else (pairs.shape[0],)


@torch.library.custom_op("longspan::maxsim", mutates_args=())
def _maxsim_op(
    q: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_d: torch.Tensor,
    pairs: torch.Tensor | None,
) -> torch.Tensor:
    return _run(q, d, scales, cu_seqlens_q, cu_seqlens_d, pairs)


@_maxsim_op.register_fake
def _(
    q: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_d: torch.Tensor,
    pairs: torch.Tensor | None,
) -> torch.Tensor:
    return q.new_empty(_shape(cu_seqlens_q, cu_seqlens_d, pairs), dtype=torch.float32)


@torch.library.custom_op("longspan::maxsim_backward", mutates_args=())
def _maxsim_backward_op(
    grad: torch.Tensor,
    q: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_d: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    offsets = cu_seqlens_q.contiguous(), cu_seqlens_d.contiguous()
    return launch_backward(grad.float(), rows_readable(q), rows_readable(d), scales, *offsets)


@_maxsim_backward_op.register_fake
def _(
    grad: torch.Tensor,
    q: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_d: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = d.shape if scales is None else (0, d.shape[1])
    return q.new_empty(q.shape), d.new_empty(rows, dtype=d.dtype if scales is None else q.dtype)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    q, d, scales, cu_seqlens_q, cu_seqlens_d, pairs = ctx.saved_tensors
    if pairs is not None:  # scores that nobody asked for have no gradient; a pair that is named twice has two
        every = grad.new_zeros(_shape(cu_seqlens_q, cu_seqlens_d, None))
        grad = every.index_put((pairs[:, 0].long(), pairs[:, 1].long()), grad, accumulate=True)
    grad_q, grad_d = _maxsim_backward_op(grad, q, d, scales, cu_seqlens_q, cu_seqlens_d)
    return grad_q, None if scales is not None else grad_d, None, None, None, None


_maxsim_op.register_autograd(_backward, setup_context=_keep)


def _score(
    q: torch.Tensor, d: Documents, cu_seqlens_q: torch.Tensor, cu_seqlens_d: torch.Tensor, pairs: torch.Tensor | None
) -> torch.Tensor:
    values, scales = _parts(d)
    run = _maxsim_op if needs_dispatcher((q, values, cu_seqlens_q, cu_seqlens_d)) else _run
    return run(q, values, scales, cu_seqlens_q, cu_seqlens_d, pairs)


def _parts(d: Documents) -> tuple[torch.Tensor, torch.Tensor | None]:
    if isinstance(d, torch.Tensor):
        return d, None
    return d.values, d.scales.contiguous()


def maxsim(q: torch.Tensor, d: Documents, cu_seqlens_q: torch.Tensor, cu_seqlens_d: torch.Tensor) -> torch.Tensor:
    """As `longspan.ops.maxsim`; differentiable in `q` and, if it is a tensor, `d`.

    Halves are multiplied on tensor cores with f32 sums. A query is rounded to bf16 for bf16 documents; `Int8Tokens`
    take it in its own dtype. f32 with f32 or f16 is multiplied in f32, without tensor cores.
    """
    return _score(q, d, cu_seqlens_q, cu_seqlens_d, None)


def maxsim_pairs(
    q: torch.Tensor, d: Documents, cu_seqlens_q: torch.Tensor, cu_seqlens_d: torch.Tensor, pairs: torch.Tensor
) -> torch.Tensor:
    """As `longspan.ops.maxsim_pairs`, with maxsim's arithmetic; differentiable like it, by a backward pass that looks
    at every query and document, in pairs or not: hand over those alone that some pair names."""
    return _score(q, d, cu_seqlens_q, cu_seqlens_d, pairs)


def maxsim_topk(
    q: torch.Tensor, d: Documents, cu_seqlens_q: torch.Tensor, cu_seqlens_d: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `longspan.ops.maxsim_topk`: documents are scored some at a time, and the k best so far kept."""
    values, scales = _parts(d)
    num_queries, num_docs = cu_seqlens_q.shape[0] - 1, cu_seqlens_d.shape[0] - 1
    at_once = max(k, SCORES_AT_ONCE // max(num_queries, 1))
    best = torch.empty((num_queries, 0), dtype=torch.int64, device=q.device)
    for first in range(0, num_docs, at_once):
        offsets = cu_seqlens_d[first : first + at_once + 1]
        scores = _run(q.detach(), values.detach(), scales, cu_seqlens_q, offsets, None)
        keys = torch.cat([best, best_keys(scores, first, k)], dim=1)
        best = keys.topk(min(k, keys.shape[1]), dim=1).values  # sorted, and no two keys are equal
    return scores_of(best), 2**32 - 1 - (best & (2**32 - 1))


def best_keys(scores: torch.Tensor, first: int, k: int) -> torch.Tensor:
    """The keys of (num_queries, documents) scores, as `sort_keys` has them, or enough of them to hold the k largest.

    Documents are looked at in blocks: the k best lie in the k blocks whose own best are best, of equal ones the first,
    since each of those has a document that comes before all of any other block. So all scores are read once, and the
    keys of k blocks are all that is sorted.
    """
    num_docs = scores.shape[1]
    blocks = triton.cdiv(num_docs, BLOCK_DOCS)
    if blocks < MANY * k:  # the blocks that are left are too large a part to be worth it
        return sort_keys(scores, first)
    chosen = 2**32 - 1 - (block_keys(scores).topk(k, dim=1).values & (2**32 - 1))
    docs = (chosen[:, :, None] * BLOCK_DOCS + torch.arange(BLOCK_DOCS, device=scores.device)).flatten(1)
    inside = docs < num_docs
    found = scores.gather(1, torch.where(inside, docs, 0))
    return torch.where(inside, keys_of(found, docs + first), torch.iinfo(torch.int64).min)


def block_keys(scores: torch.Tensor) -> torch.Tensor:
    """(num_queries, blocks) int64, as the kernel's header has them."""
    num_queries, num_docs = scores.shape
    blocks = triton.cdiv(num_docs, BLOCK_DOCS)
    leading = torch.empty((num_queries, blocks), dtype=torch.int64, device=scores.device)
    grid, constants = (num_queries, triton.cdiv(blocks, BLOCKS)), (scores.stride(0) % 16 == 0, BLOCKS, BLOCK_DOCS)
    varying = (num_docs, blocks, scores.stride(0), leading.stride(0))
    with on_device(scores):
        BLOCK_KEYS(grid, (scores, leading), varying, (), constants, num_warps=4)
    return leading


def sort_keys(scores: torch.Tensor, first: int) -> torch.Tensor:
    """`keys_of` (num_queries, documents from `first` on) scores."""
    return keys_of(scores, torch.arange(first, first + scores.shape[1], device=scores.device))


def keys_of(scores: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """int64 keys that rise as the f32 scores of these documents do, and of equal ones as documents
    fall; those of NaN are lowest. The upper half is the score's bits in two's complement, the lower one counts
    documents from the last.
    """
    bits = (scores + 0.0).view(torch.int32).to(torch.int64)  # + 0.0: a zero has no sign
    order = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    order = torch.where(scores.isnan(), LOWEST_KEY, order)
    return order * 2**32 + (2**32 - 1 - documents)


def scores_of(keys: torch.Tensor) -> torch.Tensor:
    """The f32 scores of `sort_keys`' keys."""
    order = keys >> 32
    bits = torch.where(order >= 0, order, -order - 2**31)  # the sign's bit set, as an int32 has it
    scores = bits.to(torch.int32).view(torch.float32)
    return scores.masked_fill(order == LOWEST_KEY, torch.nan)
