"""torch.compile traces through every op without a break: what runs is the registered op, with its fake kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernel_cases import cu_seqlens, normal, tensor, torch
from longspan import ops
from longspan.kernels import attention_varlen, gated, layer_norm, maxsim, multi_lora, pool_mean, span_mean

HALF = torch.float16
OFFSETS = cu_seqlens((3, 0, 9))
IDS = tensor(OFFSETS.cpu().numpy()[[0, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1]])  # 0 or 3 of 4 adapters


def rows(*shape: int, grad: bool = False) -> torch.Tensor:
    return normal(shape, 1, dtype=torch.float32).requires_grad_(grad)


CALLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "layer_norm": lambda x: ops.layer_norm(x, x[0], x[1], eps=1e-5, residual=x, backend="triton"),
    "rms_norm": lambda x: ops.rms_norm(x, x[0], eps=1e-5, backend="triton"),
    "pool_mean": lambda x: ops.pool_mean(x, OFFSETS, backend="triton"),
    "span_mean": lambda x: ops.span_mean(x, OFFSETS[None, [0, 3]], normalize=True, backend="triton"),
    "attention_varlen": lambda x: ops.attention_varlen(
        *(x.view(12, 2, 16),) * 3, OFFSETS, OFFSETS, slopes=x[0, :2].detach(), causal=True, backend="triton"
    ),
    "maxsim": lambda x: ops.maxsim(x, x, OFFSETS, OFFSETS[[0, 3]], backend="triton"),
    "multi_lora": lambda x: ops.multi_lora(
        x, x[:8].view(4, 2, 32), x[:4].view(4, 16, 2).contiguous(), IDS, backend="triton"
    ),
    "gated": lambda x: gated.gated(x, x[0], activation="gelu", gate="first"),
}
DIFFERENTIABLE = ("span_mean", "attention_varlen")  # and the others alike: `test_registrations` has them


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("op", CALLS)
def test_traces_without_a_break(op: str) -> None:
    x = rows(12, 32)
    expected = CALLS[op](x)
    compiled = torch.compile(CALLS[op], fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), expected)


@pytest.mark.parametrize("op", DIFFERENTIABLE)
def test_gradients_of_a_traced_op(op: str) -> None:
    grads = []
    for run in (CALLS[op], torch.compile(CALLS[op], fullgraph=True, backend="aot_eager")):
        x = rows(12, 32, grad=True)
        run(x).sin().sum().backward()
        grads.append(x.grad)
    assert grads[0].abs().max() > 0 and torch.equal(*grads)


def test_registrations() -> None:
    """torch's own checks: schema, what is changed in place, the fake kernels' shapes and strides, autograd."""
    x = rows(12, 32)
    q = x.view(12, 2, 16).detach()
    offsets, scales = OFFSETS, torch.ones(12, device=x.device)
    nothing = (None, None, None, None, False, False, None, None)
    out, lse = attention_varlen._attention_varlen_op(q, q, q, offsets, offsets, 0.25, *nothing)
    spans = torch.stack([offsets[:1], offsets[-1:]], 1)
    pairs = torch.tensor([[2, 0]], dtype=torch.int32, device=x.device)
    cases = [
        (layer_norm._layer_norm_op, (x, x[0], x[1], 1e-5, x)),
        (layer_norm._rms_norm_op, (x, x[0], 1e-5, None)),
        (gated._gated_op, (x, None, "silu", "second", None)),
        (span_mean._span_mean_op, (x.clone().requires_grad_(), spans, 20, True)),
        (span_mean._span_mean_backward_op, (x[:1, :20].clone(), x, spans, True)),
        (attention_varlen._attention_varlen_op, (q.clone().requires_grad_(), q, q, offsets, offsets, 0.25, *nothing)),
        (attention_varlen._attention_varlen_backward_op, (q, q, q, q, out, lse, offsets, offsets, 0.25, *nothing)),
        (maxsim._maxsim_op, (x.clone().requires_grad_(), x, None, offsets, offsets[[0, 3]], None)),
        (maxsim._maxsim_op, (x, x.to(torch.int8), scales, offsets, offsets[[0, 3]], pairs)),
        (maxsim._maxsim_backward_op, (x[:3, :1].clone(), x, x, None, offsets, offsets[[0, 3]])),
        (
            multi_lora.add_multi_lora,
            (x.clone(), x, x[:8].view(4, 2, 32).clone(), x[:8].view(4, 32, 2).clone(), IDS, scales[:4]),
        ),
    ]
    assert pool_mean.pool_mean(x, offsets).shape == (3, 32)
    for op, args in cases:
        # Compiling is tested above; in the interpreter it takes seconds an op.
        torch.library.opcheck(op, args, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))
