"""The bench of images: the language side's adapter and places, peers that do not fit, truths that are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import truth
from bench.case import Setting
from bench.models import bench_images, image_memory
from bench.models.random_language import (
    LANGUAGE,
    Language,
    PlainLanguage,
    embedded,
    pooled_span,
    product_shapes,
    random_row,
)
from bench.truth import ReferenceEngine, kept_truth
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.spec import LayerSpec, Rotary

SMALL = replace(
    LANGUAGE,
    spec=replace(
        LANGUAGE.spec,
        hidden_size=32,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=48,
        layers=(LayerSpec(Rotary(1e6, 8, sections=(1, 2, 1))),) * 2,
    ),
    grid=(3, 5),
)


def test_the_language_side_has_the_published_shape() -> None:
    spec = LANGUAGE.spec
    biases = spec.q_width + 2 * spec.kv_width
    layer = sum(outputs * inputs for outputs, inputs in product_shapes(spec).values()) + biases + 2 * spec.hidden_size
    adapters = sum(32 * (outputs + inputs) for outputs, inputs in product_shapes(spec).values())
    assert 36 * layer + 151936 * 2048 + 2048 + 668_684_288 == 3_754_622_976  # Qwen2.5-VL-3B: with its table and tower
    assert 36 * adapters + 32 * (2048 + 128) == 59_936_768  # a task's adapter, the projector's with it


def test_an_adapter_beside_its_product_is_one_within_the_weights() -> None:
    plain, rows = PlainLanguage(SMALL), [random_row(SMALL, number) for number in range(3)]
    ours = Language(SMALL.spec, plain.packed(CpuEngine()), CpuEngine())(rows)
    exact = Language(SMALL.spec, plain.packed(ReferenceEngine(), merged=True), ReferenceEngine())(rows)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-6)
    bare = replace(plain.packed(CpuEngine()), tasks=())
    assert np.abs(Language(SMALL.spec, bare, CpuEngine())(rows) - exact).max() > 0.01  # the adapter says something


def test_an_image_among_its_text() -> None:
    row = random_row(SMALL)
    first, beside = pooled_span()
    assert row.pooled.sum() == 15 + beside and row.pooled[first] and not row.pooled[first - 1]
    assert row.coordinates is not None and len(row.ids) == SMALL.tokens == 26
    assert row.coordinates[:6].tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4], [4, 4, 5]]
    assert row.coordinates[18:20].tolist() == [[4, 6, 8], [9, 9, 9]]  # the next token behind the longer side
    x = embedded(PlainLanguage(SMALL), row)
    np.testing.assert_array_equal(x[row.feature_places], row.features)


def test_peers_that_do_not_fit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(1, peers=("torch", "onnxruntime", "faiss"))
    monkeypatch.setattr(bench_images, "free_memory", lambda: 1e12)
    assert bench_images._that_fit("jina-v4", 2, setting) == (("torch", "onnxruntime"), {})
    monkeypatch.setattr(bench_images, "free_memory", lambda: 12e9)
    fit, absent = bench_images._that_fit("jina-v4", 32, setting)
    assert fit == ("torch",)
    assert absent == {"onnxruntime": "jina-v4 in 32 layers: it takes 8 GB, and too little is free"}


def test_truths_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGSPAN_BENCH_CACHE", str(tmp_path))
    asked = []

    def compute(numerics: str) -> np.ndarray:
        asked.append(numerics)
        return np.full(3, {"float32": 1.0, "bfloat16": 1.25, "int8": 2.0}[numerics])

    for _ in range(2):
        exact, limits = kept_truth("t", ("one",), compute)
        assert exact.tolist() == [1.0] * 3 and limits["int8"] == 2.0 + 1e-5
    assert asked == ["float32", "bfloat16", "int8"]
    kept_truth("t", ("another",), compute)
    monkeypatch.setattr(truth, "_own_code", lambda: "changed")
    kept_truth("t", ("one",), compute)
    assert len(asked) == 9


def test_memory_of_images_is_a_case_that_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert image_memory.results(Setting(1, only="model=jina-v5-omni")) == []
    assert capsys.readouterr().out == ""
