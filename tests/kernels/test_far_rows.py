"""Rows that lie more than 2^31 values apart: kernels compute places in 64 bits, of all that grows with a batch."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import pytest

from kernel_cases import DEVICE, ON_GPU, cu_seqlens, normal, tensor, torch
from longspan import ops
from longspan.kernels import embed, gated, layer_norm, maxsim, maxsim_backward, multi_lora, pool_logits, product, rope

APART = (1 << 30) + 16  # values between rows, so that the third row lies beyond 2^31
ROWS, HALF = 4, torch.float16
OFFSETS = cu_seqlens((1, 3))
IDS = tensor(OFFSETS.cpu().numpy()[[0, 1, 1, 0]])  # 0 or 1 of two adapters


def far(x: torch.Tensor) -> torch.Tensor:
    """The same values with rows far apart, in memory of which only what is touched is there."""
    rows, *rest = x.shape
    size = ((rows - 1) * APART + x[0].numel()) * x.element_size()
    if ON_GPU:
        if torch.cuda.mem_get_info()[0] < 2 * size:
            pytest.skip(f"the GPU has no {size >> 30} GB to spare")
        memory = torch.empty(size, dtype=torch.uint8, device=DEVICE)
    else:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        memory = torch.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=torch.uint8)
    inner = torch.empty(rest).stride()
    return memory.view(x.dtype).as_strided(x.shape, (APART, *inner)).copy_(x)


def into(run: Callable[[torch.Tensor], object], like: torch.Tensor, place: Callable[..., torch.Tensor]) -> torch.Tensor:
    out = place(torch.full_like(like, torch.nan))
    run(out)
    return out


X = normal((ROWS, 32), 1, dtype=HALF)
W = normal((ROWS, 32), 2, dtype=HALF)  # of a product: four outputs
HEADS = normal((ROWS, 2, 16), 3, dtype=HALF)
TABLE = {"cos": torch.rand(8, 8, device=DEVICE), "sin": torch.rand(8, 8, device=DEVICE)}
A, B = normal((8, 32), 4, dtype=HALF), normal((2, 32, 4), 5, dtype=HALF)
ONES = torch.ones(2, device=DEVICE)


def queries_of(place: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Gradients of queries where the best tokens' list is longer than 2^31: one row a document."""
    best = place(tensor([[0, 1, 0, 1], [1, 0, 1, 0], [2, 3, 2, 3], [3, 2, 3, 2]]).to(torch.int32))
    out = torch.zeros((ROWS, 32), dtype=HALF, device=DEVICE)
    grad, query_of = normal((2, ROWS), 6, dtype=torch.float32), tensor([0, 0, 1, 1]).to(torch.int32)
    numbers = (ROWS, ROWS, 32, *grad.stride(), W.stride(0), best.stride(0), out.stride(0))
    how = {"BLOCK": 32, "BLOCK_DIM": 32, "num_warps": 4}
    maxsim_backward._maxsim_queries_kernel[(1, 1)](grad, W, None, best, query_of, out, *numbers, **how)
    return out


def documents_of(place: Callable[..., torch.Tensor]) -> torch.Tensor:
    """The same of documents, one token each."""
    best = place(tensor([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]).to(torch.int32))
    out = torch.zeros((ROWS, 32), dtype=HALF, device=DEVICE)
    grad, query_of = normal((2, ROWS), 6, dtype=torch.float32), tensor([0, 0, 1, 1]).to(torch.int32)
    offsets = cu_seqlens((1,) * ROWS)
    numbers = (ROWS, ROWS, 32, *grad.stride(), X.stride(0), best.stride(0), out.stride(0))
    how = {"BLOCK": 32, "BLOCK_DIM": 32, "num_warps": 4}
    maxsim_backward._maxsim_docs_kernel[(ROWS, 1)](grad, X, best, query_of, offsets, out, *numbers, **how)
    return out


CALLS: dict[str, Callable[[Callable[..., torch.Tensor]], torch.Tensor]] = {
    "layer_norm": lambda at: into(
        lambda out: layer_norm.launch_norm(at(X), X[0], X[1], 1e-5, at(W), out, centred=True), X, at
    ),
    "gated": lambda at: into(lambda out: gated.launch_gated(at(X), None, "gelu", "first", None, out), X[:, :16], at),
    "embed": lambda at: into(
        lambda out: embed.embed(IDS + 2, at(W), out, positions=IDS + 1, places=at(X), norm=(X[0], X[1]), eps=1e-5),
        X,
        at,
    ),
    "rotate": lambda at: into(lambda out: rope.rotate(out.copy_(HEADS), IDS, **TABLE, interleaved=False), HEADS, at),
    "rope": lambda at: rope.rope(at(HEADS), OFFSETS, OFFSETS, **TABLE, interleaved=True),
    "attention": lambda at: into(
        lambda out: ops.attention_varlen(
            at(HEADS), at(HEADS), at(HEADS), OFFSETS, OFFSETS, **TABLE, out=out, backend="triton"
        ),
        HEADS,
        at,
    ),
    "shrink": lambda at: into(lambda out: multi_lora.launch_shrink(at(X), A, 4, IDS, out), A[:4, :8], at),
    "multi_lora": lambda at: into(
        lambda out: multi_lora.launch_multi_lora(out.copy_(X), at(X), A.view(2, 4, 32), B, IDS, ONES), X, at
    ),
    "product": lambda at: into(
        lambda out: product.launch_product(at(X), at(W), None, "silu", None, at(X[:, :4]), out), X[:, :4], at
    ),
    "pool_logits": lambda at: pool_logits.pool_logits(at(X), at(W), OFFSETS),
    "span_mean": lambda at: ops.span_mean(at(X), OFFSETS[None, 1:], normalize=True, backend="triton"),
    "maxsim": lambda at: maxsim.maxsim(at(X), at(W), OFFSETS, OFFSETS),
    "maxsim_backward, queries": queries_of,
    "maxsim_backward, documents": documents_of,
    "block_keys": lambda at: maxsim.block_keys(at(X.float())),
}


@pytest.mark.parametrize("name", CALLS)
def test_rows_far_apart_give_the_same_bits(name: str) -> None:
    expected = CALLS[name](lambda x: x.clone())
    assert torch.equal(CALLS[name](far), expected)
    assert not expected.is_floating_point() or (expected.isfinite().all() and expected.any())
