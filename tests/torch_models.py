"""What the tests of whole models on torch tensors share: how they are opened, run on short texts, and compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gpu_process import MARGINS
from kernel_cases import ON_GPU
from longspan import Encoder
from longspan.models.engines.engine import OpsEngine
from longspan.pipeline import loaded_model

# float32 as on the CPU. The reference's own bfloat16 has a cosine of 0.9987; float16 has eight times less error.
LIMITS = {"float32": 5e-6}
LEAST = {"float16": 0.9999, "bfloat16": 0.998}
LONGEST, ROWS, CASES = (10_000, 100, 100) if ON_GPU else (20, 3, 1)  # the interpreter takes its time


def open_with(
    engine: OpsEngine, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type = Encoder, **options: object
) -> Encoder:
    """A model on that engine, with Triton's kernels even where its tensors are on the CPU."""
    with monkeypatch.context() as patch:
        patch.setattr(loaded_model, "engine_for", lambda *_: engine)
        model: Encoder = kind(folder, **options)
    if not ON_GPU:
        monkeypatch.setenv("LONGSPAN_BACKEND", "triton")
    return model


def on_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type = Encoder) -> Encoder:
    """The same model on the CPU's own kernels, in float32; models of `open_with` compute no more after it."""
    monkeypatch.delenv("LONGSPAN_BACKEND", raising=False)
    return kind(folder)


def assert_agree(found: np.ndarray, truth: np.ndarray, dtype: str, name: str) -> None:
    if dtype in LIMITS:
        scale = max(1.0, float(np.abs(truth).max()))
        MARGINS.append(float(np.abs(found - truth).max()) / (LIMITS[dtype] * scale))
        np.testing.assert_allclose(found, truth, rtol=0, atol=LIMITS[dtype] * scale, err_msg=name)
        return
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(truth, axis=-1)
    least = float(((found * truth).sum(-1) / lengths).min())
    MARGINS.append((1 - least) / (1 - LEAST[dtype]))
    assert least >= LEAST[dtype], name


def short_cases(folder: Path) -> dict[str, list[list[int]]]:
    """The ids of each case by name, the longer ones cut."""
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    if "input_ids" not in cases[0]:
        expected = np.load(folder / "expected.npz")
        texts = [case["id"] for case in cases if case["kind"] != "image"]
        return {"all": [expected[f"ids/{name}"][:LONGEST].tolist() for name in texts[:ROWS]]}
    return {
        case["name"]: [
            [token for token, is_real in zip(*row) if is_real][:LONGEST]
            for row in list(zip(case["input_ids"], case["attention_mask"]))[:ROWS]
        ]
        for case in cases[:CASES]
    }
