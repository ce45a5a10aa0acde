"""Products with an activation: cuBLAS and a pass behind it, cuBLAS's own epilogue, a kernel that finishes its tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812

from bench.gpu.contest import OURS, Call, Row, Setting, contest
from longspan.kernels.gated import launch_gated
from longspan.kernels.product import launch_product

LIMIT = 1e-2


class Shape(NamedTuple):
    """The first product of an MLP."""

    name: str
    depth: int
    width: int
    activation: str
    gate: str | None


SHAPES = (
    Shape("BERT base", 768, 3072, "gelu", None),
    Shape("v3, tanh", 1024, 4096, "gelu_tanh", None),
    Shape("v2 base, pair", 768, 3072, "gelu", "first"),
    Shape("v5 small, pair", 1024, 3072, "silu", "first"),
)


def rows(setting: Setting) -> Iterator[Row]:
    """At a full batch's tokens, and at those of a few queries, where the weight is most of the bytes."""
    for shape in SHAPES:
        for tokens in (setting.size(16384, 40), setting.size(256, 20)):
            yield from _contest(setting, shape, tokens)


def _contest(setting: Setting, shape: Shape, tokens: int) -> Iterator[Row]:
    depth, width = setting.size(shape.depth, 48), setting.size(shape.width, 80)
    outputs = width if shape.gate is None else 2 * width
    x, bias = setting.normal(tokens, depth), setting.normal(outputs)
    weight = setting.normal(outputs, depth) * depth**-0.5
    out = x.new_empty((tokens, width))

    def behind() -> torch.Tensor:
        launch_gated(torch.mm(x, weight.T), bias, shape.activation, shape.gate, None, out)
        return out

    def fused() -> torch.Tensor:
        launch_product(x, weight, bias, shape.activation, shape.gate, None, out)
        return out

    calls: dict[str, Call] = {OURS: fused, "cuBLAS and a pass": behind}
    if shape.gate is None and shape.activation == "gelu_tanh" and x.is_cuda:
        calls["cuBLAS's epilogue"] = lambda: torch._addmm_activation(bias, x, weight.T, use_gelu=True)
    u = x.float() @ weight.float().T + bias.float()
    how = {"gelu": F.gelu, "gelu_tanh": lambda u: F.gelu(u, approximate="tanh"), "silu": F.silu}[shape.activation]
    truth = how(u) if shape.gate is None else how(u[:, :width]) * u[:, width:]
    case, goal = f"product {shape.name}, {tokens} rows", "< the pass's time: LONGSPAN_GPU_PRODUCT=fused pays"
    work = 2.0 * tokens * depth * outputs
    yield from contest(setting, case, calls, truth, work=work, unit="TFLOP/s", limit=LIMIT, target=goal)
