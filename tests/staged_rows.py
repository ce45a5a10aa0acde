"""Rows for outputs of the command line, and what fills a stage with them."""

from __future__ import annotations

import numpy as np

from longspan.cli.files.stage import Stage

F32 = np.dtype(np.float32)


def rows(count: int, dim: int = 5, dtype: str = "float32") -> np.ndarray:
    random = np.random.default_rng([20260131, count, dim])
    return (random.standard_normal((count, dim)) * 50).astype(dtype)


def fill(stage: Stage, vectors: np.ndarray, kept: list[str] | None = None, block: int = 7) -> None:
    kept = kept or ["{}"] * len(vectors)
    for start in range(0, len(vectors), block):
        stage.append(vectors[start : start + block], kept[start : start + block])
