"""The CUDA kernels: binary codes and span means, beside torch and the rate of a plain copy; codes must be exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from bench.case import Numerics, Work
from bench.gpu.contest import OURS, Row, Setting, contest
from longspan import ops

COPY_TARGET = ">= 85 % of the copy's rate"
MANY_TARGET = ">= 10x one at a time"
K = 100


def rows(setting: Setting) -> Iterator[Row]:
    """10 M codes of 1024 bits; 1 M vectors of 1024 values; 1 M token rows of 768."""
    yield from hamming_rows(setting)
    yield from binarize_rows(setting)
    yield from span_mean_rows(setting)


def nearest(q: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """(nq, k) distances and rows in one number each, which a float64 still holds exactly."""
    distances, found = ops.hamming_topk(q, codes, min(K, len(codes)))
    return torch.as_tensor(distances).long() << 32 | torch.as_tensor(found)


def nearest_by_table(q: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The same by a table of bit counts and torch's own top-k; for one query after the other."""
    table = torch.tensor([number.bit_count() for number in range(256)], dtype=torch.uint8, device=q.device)
    results = []
    for query in q:
        parts = [table[(part ^ query).int()].sum(dim=1, dtype=torch.int64) for part in codes.split(1 << 20)]
        keys = torch.cat(parts) << 32 | torch.arange(len(codes), device=q.device)
        results.append(keys.topk(min(K, len(codes)), largest=False).values.sort().values)
    return torch.stack(results)


def hamming_rows(setting: Setting) -> Iterator[Row]:
    """One query at memory speed; 1024 at once beside one at a time. The codes must be read once for all queries."""
    n, many = setting.size(10_000_000, 3000), setting.size(1024, 3)
    codes, q = (torch.randint(0, 256, (rows, 128), dtype=torch.uint8, device=setting.device) for rows in (n, many))
    size = float(codes.numel())
    truth = nearest_by_table(q[:4], codes)
    one = {OURS: lambda: nearest(q[:1], codes)}
    work = {count: Work(bytes=size, items=float(count), item="queries") for count in (1, 4, many)}
    yield from contest(setting, f"hamming_topk {K}, 1 query", one, truth[:1], work=work[1], limit=0, target=COPY_TARGET)
    few = {OURS: lambda: nearest(q[:4], codes), "one at a time": lambda: in_turn(q[:4], codes)}
    yield from contest(setting, f"hamming_topk {K}, 4 queries", few, truth, work=work[4], limit=0)
    all_at_once = {OURS: lambda: nearest(q, codes), "one at a time": lambda: in_turn(q, codes)}
    truth = in_turn(q, codes)  # the path for one query, which was held against the table above
    short = replace(setting, rounds=5)  # one at a time takes a third of a second
    yield from contest(
        short, f"hamming_topk {K}, {many} queries", all_at_once, truth, work=work[many], limit=0, target=MANY_TARGET
    )


def in_turn(q: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """As `nearest`, one query after the other."""
    return torch.cat([nearest(q[at : at + 1], codes) for at in range(len(q))])


def binarize_rows(setting: Setting) -> Iterator[Row]:
    """With thresholds; torch takes signs, and a product to pack them."""
    dim = 1024
    thresholds = setting.normal(dim, dtype=torch.float32)
    weights = (1 << torch.arange(7, -1, -1)).to(setting.device, torch.uint8)
    for dtype in (torch.float32,) if setting.dry else (torch.float32, torch.bfloat16):
        x = setting.normal(setting.size(1_000_000, 9), dim, dtype=dtype)
        size = x.numel() * (x.element_size() + 1 / 8)

        def by_torch(x=x) -> torch.Tensor:
            return ((x > thresholds).unflatten(1, (-1, 8)) * weights).sum(2, dtype=torch.uint8)

        calls = {OURS: lambda x=x: ops.binarize(x, thresholds=thresholds), "torch": by_torch}
        name = f"binarize {dim} {str(dtype).rpartition('.')[2]}"
        yield from contest(setting, name, calls, by_torch(), work=size, unit="GB/s", limit=0, target=COPY_TARGET)


def span_mean_rows(setting: Setting) -> Iterator[Row]:
    """Spans of 20 to 500 rows that part a pack, as chunks do; and few long ones. Unit length."""
    total, dim = setting.size(1 << 20, 600), 768
    lengths = torch.randint(20, 500, (total // 20,), generator=torch.Generator().manual_seed(2))
    ends = lengths.cumsum(0)
    ends = ends[ends <= total]
    chunks = torch.stack([torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]]), ends], dim=1)
    page = total // 64
    pages = torch.stack([torch.arange(64) * page, torch.arange(64) * page + page], dim=1)
    kinds: dict[Numerics, torch.dtype] = {"float32": torch.float32}
    if not setting.dry:
        kinds["bfloat16"] = torch.bfloat16
    for numerics, dtype in kinds.items():
        hidden = setting.normal(total, dim, dtype=dtype)
        for label, spans in (("chunks", chunks), (f"64 x {page}", pages)):
            bounds = spans.to(setting.device, torch.int32)
            means = torch.stack([hidden[start:end].double().mean(dim=0) for start, end in spans.tolist()])
            truth = means / means.norm(dim=1, keepdim=True)
            size = int((spans[:, 1] - spans[:, 0]).sum()) * dim * hidden.element_size() + 4.0 * dim * len(spans)
            calls = {OURS: lambda h=hidden, b=bounds: ops.span_mean(h, b, normalize=True)}
            name, how = f"span_mean {dim} {numerics}, {label}", Work(bytes=size)
            yield from contest(setting, name, calls, truth, work=how, limit=1e-5, target=COPY_TARGET, numerics=numerics)
