"""pool_logits beside torch: a vocabulary's logits pooled where they are made, and pooled a slice of it at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench.case import Work
from bench.gpu.contest import OURS, Row, Setting, contest
from longspan.kernels.pool_logits import pool_logits

MOST_LOGITS = 16 << 20  # of a slice, 64 MB in f32
LIMIT = 1e-2
TARGET = ">= 60 % of torch's products"
# SPLADE of BERT's base and of MiniLM's size: dim, vocabulary, tokens, tokens of a text.
SHAPES = {"base passages": (768, 30522, 16384, 128), "MiniLM queries": (384, 30522, 2048, 8)}


def rows(setting: Setting) -> Iterator[Row]:
    """Documents, and queries of a few tokens, of which a tile of rows holds many."""
    for name, (wide, vocabulary, many, long) in SHAPES.items():
        dim, outputs = setting.size(wide, 40), setting.size(vocabulary, 90)
        length = setting.size(long, 8)
        tokens = setting.size(many, 40) // length * length
        x, weight = setting.normal(tokens, dim), setting.normal(outputs, dim) * dim**-0.5
        bias = setting.normal(outputs)
        offsets = torch.arange(0, tokens + 1, length, dtype=torch.int32, device=setting.device)

        def pooled(logits: torch.Tensor, length=length) -> torch.Tensor:
            return torch.log1p(logits.unflatten(0, (-1, length)).amax(1).float().clamp(min=0))

        def by_torch(x=x, weight=weight, bias=bias, pooled=pooled) -> torch.Tensor:
            step = max(256, MOST_LOGITS // len(x))
            parts = zip(weight.split(step), bias.split(step), strict=True)
            return torch.cat([pooled(torch.addmm(own, x, part.T)) for part, own in parts], dim=1)

        def fused(x=x, weight=weight, bias=bias, offsets=offsets) -> torch.Tensor:
            return pool_logits(x, weight, offsets, bias, saturation="log1p")

        parts = zip(weight.split(1024), bias.split(1024), strict=True)
        truth = torch.cat([pooled(x.float() @ part.float().T + own.float()) for part, own in parts], dim=1)
        size = x.element_size()
        work = Work(2.0 * tokens * dim * outputs, float(size * (x.numel() + weight.numel()) + 4 * truth.numel()))
        calls = {OURS: fused, "torch, slices of 64 MB": by_torch}
        yield from contest(setting, f"pool_logits {name}", calls, truth, work=work, limit=LIMIT, target=TARGET)
