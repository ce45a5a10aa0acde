"""The scoring kernel of maxsim on a GPU: a document's tokens against the tokens of some queries at once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import Launcher, on_device, power_of_2

BLOCK_DOC = 64  # document tokens of a tile
WIDE_DOC = 128  # the same, of a tile that reads the queries half as often and has half the programs; for benches
COLUMNS = 128  # query tokens that a program scores at once, of one query or of several short ones
RESIDENT_DIM = 256  # up to that the queries' tile stays on the chip; wider ones are read again for each tile
BLOCK_DIM = 128  # of wider ones
_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@triton.jit
def load_part(x_ptr, rows, rows_ok, first, dim, stride, TYPE: tl.constexpr, BLOCK: tl.constexpr):
    """(rows, BLOCK) values of packed rows from column `first` on, as TYPE."""
    k = first + tl.arange(0, BLOCK)
    mask = rows_ok[:, None] & (k < dim)[None, :]
    return tl.load(x_ptr + rows.to(tl.int64)[:, None] * stride + k[None, :], mask=mask, other=0.0).to(TYPE)


@triton.jit
def products_of(
    q,  # (COLUMNS, BLOCK_DIM), or None: read here
    q_ptr,
    q_rows,
    q_ok,
    d_ptr,
    d_rows,
    d_ok,
    scales_ptr,
    dim,
    stride_q,
    stride_d,
    TYPE: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """(document tokens, query tokens) f32 dot products."""
    if q is not None:
        d = load_part(d_ptr, d_rows, d_ok, 0, dim, stride_d, TYPE, BLOCK_DIM)
        products = tl.dot(d, tl.trans(q), input_precision="ieee")
    else:
        products = tl.zeros((d_rows.shape[0], q_rows.shape[0]), tl.float32)
        for first in range(0, dim, BLOCK_DIM):
            part = load_part(q_ptr, q_rows, q_ok, first, dim, stride_q, TYPE, BLOCK_DIM)
            d = load_part(d_ptr, d_rows, d_ok, first, dim, stride_d, TYPE, BLOCK_DIM)
            products = tl.dot(d, tl.trans(part), products, input_precision="ieee")
    if scales_ptr is not None:
        products *= tl.load(scales_ptr + d_rows, mask=d_ok, other=0.0)[:, None]
    return products


# maxsim: score[a, b] = sum over i of max over j of <q[i], d[j]>, i in query a, j in document b.
#   q (total_q, dim)   d (total_d, dim) floats, or int8 with scales (total_d,) f32   out (num_queries, num_docs) f32
# Grid (num_docs * groups of QUERIES queries,), groups next to each other: they share the document in the L2 cache; or
# one program for each given pair. A tile of products is (document tokens, query tokens), so that documents fill the
# matrix unit's rows and a short query only narrows it; tiles meet by the larger value of each place, and places only
# once a document.
# FLOPs = 2 * dim * (document tokens) * (query slots). Bytes = sizeof(T) * dim * (document tokens) once, and again from
# L2 for each further group. Limit: memory for one query of up to some hundred tokens, tensor cores beyond.
@triton.jit(do_not_specialize=["num_queries", "num_groups", "stride_out_q"])
def _maxsim_kernel(
    q_ptr,
    d_ptr,
    scales_ptr,
    cu_seqlens_q_ptr,
    cu_seqlens_d_ptr,
    pairs_ptr,  # (num_pairs, 2) int32, or None
    out_ptr,
    num_queries,
    num_groups,
    stride_out_q,
    dim,
    stride_q,
    stride_d,
    stride_out_d,
    TYPE: tl.constexpr,  # in which the products are multiplied
    QUERIES: tl.constexpr,
    SLOTS: tl.constexpr,  # tokens of each query in a pass
    BLOCK_DOC: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    RESIDENT: tl.constexpr,
):
    program = tl.program_id(0)
    column = tl.arange(0, QUERIES * SLOTS)
    if pairs_ptr is not None:
        query = tl.load(pairs_ptr + program.to(tl.int64) * 2) + column // SLOTS
        doc = tl.load(pairs_ptr + program.to(tl.int64) * 2 + 1)
    else:
        query = program % num_groups * QUERIES + column // SLOTS
        doc = program // num_groups
    start_q = tl.load(cu_seqlens_q_ptr + query, mask=query < num_queries, other=0)
    end_q = tl.load(cu_seqlens_q_ptr + query + 1, mask=query < num_queries, other=0)
    start_d = tl.load(cu_seqlens_d_ptr + doc)
    len_d = tl.load(cu_seqlens_d_ptr + doc + 1) - start_d
    totals = tl.zeros((QUERIES * SLOTS,), tl.float32)
    for first in range(0, tl.max(end_q - start_q), SLOTS):
        q_rows = start_q + first + column % SLOTS
        q_ok = q_rows < end_q
        q = None
        if RESIDENT:
            q = load_part(q_ptr, q_rows, q_ok, 0, dim, stride_q, TYPE, BLOCK_DIM)
        best = tl.full((BLOCK_DOC, QUERIES * SLOTS), float("-inf"), tl.float32)
        for block in range(0, tl.cdiv(len_d, BLOCK_DOC)):
            j = block * BLOCK_DOC + tl.arange(0, BLOCK_DOC)
            d_ok = j < len_d
            products = products_of(
                q, q_ptr, q_rows, q_ok, d_ptr, start_d + j, d_ok, scales_ptr, dim, stride_q, stride_d, TYPE, BLOCK_DIM
            )
            products = tl.where(d_ok[:, None], products, float("-inf"))
            best = tl.maximum(best, products, propagate_nan=tl.PropagateNan.ALL)
        has_nan = tl.max((best != best).to(tl.int32), axis=0) > 0  # which the maximum over an axis would drop
        totals += tl.where(q_ok, tl.where(has_nan, float("nan"), tl.max(best, axis=0)), 0.0)
    scores = tl.sum(tl.reshape(totals, (QUERIES, SLOTS)), axis=1)
    member = tl.arange(0, QUERIES)
    if pairs_ptr is not None:
        tl.store(out_ptr + program.to(tl.int64) + member, scores)
    else:
        query = (program % num_groups).to(tl.int64) * QUERIES + member
        place = query * stride_out_q + doc.to(tl.int64) * stride_out_d
        tl.store(out_ptr + place, scores, mask=query < num_queries)


MAXSIM = Launcher(_maxsim_kernel)


def type_of(q: torch.Tensor, d: torch.Tensor) -> torch.dtype:
    """What a query's and a document's values are multiplied in: the CPU's rule, and half precision for halves.

    A query is rounded to bf16 for bf16 documents; f16 documents take an f16 query as it is; int8 ones any query.
    """
    if d.dtype in (torch.bfloat16, q.dtype):
        return d.dtype
    return q.dtype if d.dtype == torch.int8 else torch.float32


def block_dim_of(dim: int) -> tuple[int, bool]:
    """Columns of a tile, and whether that is all of them."""
    return (power_of_2(dim, 16), True) if dim <= RESIDENT_DIM else (BLOCK_DIM, False)


def launch_maxsim(
    q: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_d: torch.Tensor,
    pairs: torch.Tensor | None,
    out: torch.Tensor,
    block_doc: int = BLOCK_DOC,
) -> None:
    """Fill `out`: (num_queries, num_docs), or (num_pairs,) if pairs are given; `block_doc` document tokens a tile."""
    num_queries, num_docs = cu_seqlens_q.shape[0] - 1, cu_seqlens_d.shape[0] - 1
    if out.numel() == 0:
        return
    mean = triton.cdiv(q.shape[0], num_queries)
    slots = min(COLUMNS, power_of_2(mean, 16))
    queries = 1 if pairs is not None else min(COLUMNS // slots, power_of_2(num_queries))
    groups = triton.cdiv(num_queries, queries)
    block_dim, resident = block_dim_of(q.shape[1])
    multiplied = type_of(q, d)
    block_doc = 32 if multiplied == torch.float32 else block_doc
    of_query, of_doc = out.stride() if pairs is None else (0, 0)
    with on_device(q):
        MAXSIM(
            (num_docs * groups if pairs is None else out.shape[0],),
            (q, d, scales, cu_seqlens_q, cu_seqlens_d, pairs, out),
            (num_queries, groups, of_query),
            (q.shape[1], q.stride(0), d.stride(0), of_doc),
            (_TYPES[multiplied], queries, slots, block_doc, block_dim, resident),
            num_warps=8 if queries * slots > 64 else 4,  # more columns need the registers of more threads
            num_stages=2 if multiplied == torch.float32 or block_dim > 128 else 3,
        )
