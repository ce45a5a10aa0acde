"""What only moves memory: norms, activations, means, beside torch and the rate of a plain copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from bench.gpu.contest import OURS, Row, Setting, contest
from longspan.kernels.gated import gated
from longspan.kernels.layer_norm import layer_norm, rms_norm
from longspan.kernels.pool_mean import pool_mean
from longspan.kernels.span_mean import span_mean

LIMIT = 1e-2
TARGET = ">= 85 % of the copy's rate"


def rows(setting: Setting) -> Iterator[Row]:
    """Each at v2-base's or v3's width, 64k tokens: several times the L2 cache."""
    tokens, dim = setting.size(65536, 40), setting.size(768, 64)
    x, residual = setting.normal(tokens, dim), setting.normal(tokens, dim)
    weight, bias = setting.normal(dim), setting.normal(dim)
    size = x.numel() * x.element_size()
    moved: dict[str, Any] = {"unit": "GB/s", "limit": LIMIT}

    total = x.float() + residual.float()
    norm = {
        OURS: lambda: layer_norm(x, weight, bias, eps=1e-5, residual=residual, out=None),
        "torch, two calls": lambda: F.layer_norm(x + residual, (dim,), weight, bias, 1e-5),
    }
    truth = F.layer_norm(total, (dim,), weight.float(), bias.float(), 1e-5)
    yield from contest(setting, f"layer_norm + residual {dim}", norm, truth, work=3.0 * size, **moved, target=TARGET)
    norm = {
        OURS: lambda: rms_norm(x, weight, eps=1e-6, residual=None, out=None),
        "torch": lambda: F.rms_norm(x, (dim,), weight, 1e-6),
    }
    truth = F.rms_norm(x.float(), (dim,), weight.float(), 1e-6)
    yield from contest(setting, f"rms_norm {dim}", norm, truth, work=2.0 * size, **moved, target=TARGET)

    pair = setting.normal(tokens, 2 * dim)
    first, second = pair.float().chunk(2, dim=1)
    activations = {
        OURS: lambda: gated(pair, activation="gelu", gate="first"),
        "torch, two calls": lambda: F.gelu(pair[:, :dim]) * pair[:, dim:],
    }
    yield from contest(
        setting, f"gated gelu {dim}", activations, F.gelu(first) * second, work=3.0 * size, **moved, target=TARGET
    )

    length = setting.size(128, 8)
    offsets = torch.arange(0, tokens + 1, length, dtype=torch.int32, device=setting.device)
    spans = torch.stack([offsets[:-1], offsets[1:]], 1).contiguous()
    means = x.unflatten(0, (-1, length)).float().mean(1)
    lengths = (offsets[1:] - offsets[:-1]).long()
    contestants = {
        OURS: lambda: span_mean(x, spans, truncate_dim=None, normalize=False, out=None),
        # unsafe: without a look at the lengths on the host, which would be timed with it
        "torch.segment_reduce, f32": lambda: torch.segment_reduce(
            x.float(), "mean", lengths=lengths, axis=0, unsafe=True
        ),
    }
    yield from contest(
        setting, f"span_mean {dim}, {length} rows", contestants, means, work=1.0 * size, **moved, target=TARGET
    )
    one = torch.tensor([0, tokens], dtype=torch.int32, device=setting.device)
    contestants = {OURS: lambda: pool_mean(x, one), "torch": lambda: x.mean(0, keepdim=True, dtype=torch.float32)}
    truth = x.double().mean(0, keepdim=True)
    yield from contest(
        setting, f"pool_mean {dim}, one text", contestants, truth, work=1.0 * size, **moved, target=TARGET
    )
