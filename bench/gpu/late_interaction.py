"""maxsim beside torch: one query and thirty-two, 10 000 documents of 300 tokens, dim 128."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from bench.case import Work
from bench.gpu.contest import OURS, Call, Row, Setting, contest
from longspan.kernels.maxsim import maxsim, maxsim_topk
from longspan.kernels.maxsim_kernel import WIDE_DOC, launch_maxsim

PEERS = (
    ("late-interaction-kernels", "late_interaction_kernels", "maxsim"),
    ("flash-maxsim", "flash_maxsim", "flash_maxsim_batched"),
)
DIM = 128
QUERY = 32  # tokens
DOC = 300


def rows(setting: Setting) -> Iterator[Row]:
    """Documents in half precision and int8; the ten best as well. Peers with kernels of their own come last: they try
    many before they answer, which may take what time is left."""
    num_docs, doc = setting.size(10000, 5), setting.size(DOC, 40)
    d = F.normalize(setting.normal(num_docs * doc, DIM, dtype=torch.float32), dim=1)
    offsets_d = torch.arange(0, len(d) + 1, doc, dtype=torch.int32, device=setting.device)
    halves = d.to(setting.half)
    scales = d.abs().amax(1) / 127
    whole = (d / scales[:, None]).round().to(torch.int8)
    beside: list[tuple[str, dict[str, Call], torch.Tensor, dict[str, Any]]] = []
    for num_queries in (1, setting.size(32, 2)):
        q = F.normalize(setting.normal(num_queries * QUERY, DIM, dtype=torch.float32), dim=1).to(setting.half)
        offsets_q = torch.arange(0, len(q) + 1, QUERY, dtype=torch.int32, device=setting.device)

        def by_torch(q=q) -> torch.Tensor:
            parts = [
                (part @ q.T).unflatten(0, (-1, doc)).amax(1).unflatten(1, (-1, QUERY)).sum(2, dtype=torch.float32)
                for part in halves.split(1000 * doc)
            ]
            return torch.cat(parts).T

        truth = torch.cat(
            [
                (part.float() @ q.float().T).unflatten(0, (-1, doc)).amax(1).unflatten(1, (-1, QUERY)).sum(2)
                for part in halves.split(500 * doc)
            ]
        ).T

        def by_peer(run: Callable[..., torch.Tensor], q=q) -> Call:
            asked, docs = q.unflatten(0, (-1, QUERY)), halves.unflatten(0, (-1, doc))
            return lambda: run(asked, docs).float()

        flops = 2.0 * len(q) * len(d) * DIM
        how: dict[str, Any] = {"work": Work(flops, 2.0 * d.numel()), "limit": 1e-2}

        def wide(q=q, at=offsets_q, count=num_queries) -> torch.Tensor:
            out = torch.empty((count, num_docs), dtype=torch.float32, device=setting.device)
            launch_maxsim(q, halves, None, at, offsets_d, None, out, WIDE_DOC)
            return out

        calls = {OURS: lambda q=q, at=offsets_q: maxsim(q, halves, at, offsets_d), "torch, 1000 at once": by_torch}
        calls[f"{WIDE_DOC} tokens a tile"] = wide
        yield from contest(setting, f"maxsim {num_queries} x {QUERY} half", calls, truth, **how)
        for name, run in installed(setting).items():
            case = f"maxsim {num_queries} x {QUERY} half beside {name}"
            beside.append((case, {OURS: calls[OURS], name: by_peer(run)}, truth, how))
        calls = {OURS: lambda q=q, at=offsets_q: maxsim(q, Quantized(whole, scales), at, offsets_d)}
        narrow = Work(flops, d.numel() + 4.0 * len(d))
        yield from contest(setting, f"maxsim {num_queries} x {QUERY} int8", calls, truth, **{**how, "work": narrow})
        k = min(10, num_docs)
        calls = {
            OURS: lambda q=q, at=offsets_q, k=k: maxsim_topk(q, halves, at, offsets_d, k)[0],
            "torch, 1000 at once": lambda k=k, run=by_torch: run().topk(k, dim=1).values,
        }
        yield from contest(
            setting, f"maxsim_topk {k}, {num_queries} x {QUERY} half", calls, truth.topk(k, dim=1).values, **how
        )
    for case, others, truth, how in beside:
        yield from contest(setting, case, others, truth, **how)


def installed(setting: Setting) -> dict[str, Callable[..., torch.Tensor]]:
    """Peers' scoring functions, of (queries, tokens, dim) and (documents, tokens, dim); nothing without a GPU, which
    they need."""
    found: dict[str, Callable[..., torch.Tensor]] = {}
    if setting.dry:
        return found
    for name, module, function in PEERS:
        try:
            found[name] = getattr(importlib.import_module(module), function)
        except Exception as error:  # not installed, or made for another Triton: our own figures go on
            print(f"late_interaction: {name} left out, {type(error).__name__}: {error}")
    return found


class Quantized:
    """int8 vectors with a scale each, on the device."""

    def __init__(self, values: torch.Tensor, scales: torch.Tensor) -> None:
        self.values, self.scales = values, scales
