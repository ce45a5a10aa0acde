"""A batch of texts of five tasks, each with its own adapter, beside the same texts without adapters: jina-v3's shape.

    python -m bench.models.bench_mixed_tasks [--dtype D] [--full] [--json FILE]

"without adapters" is what weights cost that took one task's adapter in. Random weights, adapters on every product; the
published model adapts its embedding table, too, which is looked up and not multiplied. In the short form four of the
24 layers. The first text is held against float64 with its task's adapter merged into the weights.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

import numpy as np

from longspan.models.encoder import TextEncoder
from longspan.models.engines.choice import engine_for
from longspan.models.engines.workspace import Workspace
from longspan.packing.batch import pack

from ..case import OURS, Case, ComputeType, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..contest import our_name
from ..shapes import MODELS
from ..truth import ReferenceEngine, limits_of, truth_vectors
from .encoding import encoder_flops
from .random_encoders import SEED, VOCABULARY, Adapters, random_encoder, spec_of

BUDGET: Final = 26  # seconds of the short form, about
SHAPE: Final = MODELS["jina-v3"]
SHORT_LAYERS: Final = 4
RANKS: Final = (4, 32)
SHORT_RANKS: Final = (4,)
TEXTS, LENGTH = 16, 128
WITHOUT: Final = "without adapters"
TARGET: Final = "<= 1.05x the time without adapters"


def cases(setting: Setting) -> Iterator[Case]:
    """One a rank."""
    layers = SHORT_LAYERS if setting.is_short else SHAPE.layers
    flops = encoder_flops(spec_of(SHAPE, layers), [LENGTH] * TEXTS)
    for rank in SHORT_RANKS if setting.is_short else RANKS:
        work = Work(flops, items=float(TEXTS * LENGTH), item="tokens")
        labels: dict[str, str | int] = {"model": SHAPE.name, "layers": layers, "rank": rank, "tasks": SHAPE.lora_tasks}
        yield Case("mixed_tasks", {**labels, "texts": TEXTS, "length": LENGTH}, work, partial(_contest, rank, layers))


def _contest(rank: int, layers: int, setting: Setting) -> Contest:
    rng = np.random.default_rng(SEED)
    ids = [rng.integers(0, VOCABULARY, LENGTH).astype(np.int32) for _ in range(TEXTS)]
    tasks = rng.integers(0, SHAPE.lora_tasks, TEXTS).tolist()
    merged, limits = _truth(layers, Adapters(SHAPE.lora_tasks, rank, tasks[0]), ids[0].tobytes(), setting.dtypes)
    plain, _ = _truth(layers, None, ids[0].tobytes(), setting.dtypes)
    contestants = []
    for dtype in setting.dtypes:
        encoder = _ours(layers, rank, dtype)
        workspace = Workspace(encoder.engine.empty)
        without = f"{OURS} {WITHOUT}" + ("" if dtype == "float32" else f" {dtype}")
        for name, own, truth in ((our_name(dtype), tasks, merged), (without, None, plain)):

            def run(encoder: TextEncoder = encoder, own: list[int] | None = own, at: Workspace = workspace) -> object:
                return _vectors(encoder, ids, own, at)

            def read(
                _: object, encoder: TextEncoder = encoder, own: list[int] | None = own, truth: np.ndarray = truth
            ) -> np.ndarray:
                first = _vectors(encoder, ids[:1], own and own[:1], Workspace(encoder.engine.empty))
                return first - truth  # the two have different truths

            contestants.append(Contestant(name, run, dtype, read, target=TARGET if own else ""))
    return Contest(tuple(contestants), np.zeros_like(plain), limits)


def _vectors(encoder: TextEncoder, ids: list[np.ndarray], tasks: list[int] | None, workspace: Workspace) -> np.ndarray:
    batch = next(iter(pack(ids, batch_tokens=TEXTS * LENGTH, lora_ids=tasks)))
    means = encoder.engine.pool_mean(encoder.forward(batch, workspace), batch.cu_seqlens)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@cache
def _ours(layers: int, rank: int, dtype: ComputeType) -> TextEncoder:
    adapters = Adapters(SHAPE.lora_tasks, rank)
    return random_encoder(spec_of(SHAPE, layers), engine_for("bench", "cpu", dtype, None), adapters)


@cache
def _truth(
    layers: int, adapters: Adapters | None, ids: bytes, kinds: tuple[Numerics, ...]
) -> tuple[np.ndarray, dict[Numerics, float]]:
    found: dict[Numerics, np.ndarray] = {}
    for numerics in dict.fromkeys(("float32", *kinds)):
        encoder = random_encoder(spec_of(SHAPE, layers), ReferenceEngine(numerics), adapters)
        found[numerics] = truth_vectors(encoder, [np.frombuffer(ids, np.int32)], "mean")
    truth = found.pop("float32")
    return truth, limits_of(truth, found)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_mixed_tasks", __doc__, cases))
