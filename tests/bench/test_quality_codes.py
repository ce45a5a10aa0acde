"""The bench of codes: its rankings are those of the protocol, its tables and plot hold what was measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import inputs
from bench.encoders import load_longspan
from bench.quality import codes
from bench.quality.baselines import find_baseline
from bench.quality.data import RetrievalSet, load_retrieval
from bench.quality.metrics import NDCG_10, evaluate
from bench.quality.plot import line_chart
from bench.quality.rankings import RANKINGS
from bench.quality.report import Result, verdict


def small_set() -> tuple[RetrievalSet, np.ndarray, np.ndarray]:
    """Random unit vectors; each query answers two documents that lie near it."""
    documents = codes.shortened(inputs.normal((150, 32), 1), 32)
    queries = codes.shortened(documents[:20] + 0.15 * inputs.normal((20, 32), 2), 32)
    gains = tuple({i: 1.0, i + 20: 0.5} for i in range(20))
    return RetrievalSet("small", ("text",) * 150, ("text",) * 20, gains), queries, documents


def test_figures_are_those_of_the_protocol() -> None:
    data, queries, documents = small_set()
    vectors, figures = codes.measure(data, queries, documents, [32, 16])
    assert len(figures) == 2 * 3 * (1 + 3 * len(codes.OVERSAMPLES))
    names = {setting.name(32): found for setting, found in figures.items()}
    assert len(names) == len(figures)
    for ranking in ("binary", "binary-x4-bits", "binary-x4-float"):
        assert names[ranking] == evaluate(RANKINGS[ranking].order(queries, documents)[:, :100], data.gains)
    for place, ranking in enumerate(("float32", "int8")):
        assert vectors[32][place] == evaluate(RANKINGS[ranking].order(queries, documents), data.gains)
    short = [codes.shortened(x, 16) for x in (queries, documents)]
    assert names["binary-x4-float-d16"] == evaluate(RANKINGS["binary-x4-float"].order(*short), data.gains)
    means = [x.mean(axis=0) for x in (queries, documents)]
    own = RANKINGS["binary"].order(queries - means[0], documents - means[1])
    assert names["binary-own"] == evaluate(own[:, :100], data.gains)
    table = codes.markdown("small", "150 documents", 32, vectors, figures)
    assert f"of float32 {vectors[32][0][NDCG_10]:.4f}, of int8" in table
    assert (
        f"| not centred | int8 vectors | {names['binary'][NDCG_10]:.4f} | {names['binary-x1-int8'][NDCG_10]:.4f} |"
        in table
    )
    drawn = line_chart({"small": codes.panel(32, vectors, figures)}, x_label="candidates", y_label=NDCG_10)
    assert drawn.count("<polyline") == 4 and "int8 vectors" in drawn


def test_known_figures_of_centred_codes(minilm_path: Path) -> None:
    """Real weights on real data, each centring beside what is known of it."""
    named = os.environ.get("LONGSPAN_TEST_DATA")
    if not named:
        pytest.skip("judged data absent: set LONGSPAN_TEST_DATA to the folder that holds cosqa")
    data, baseline = load_retrieval(Path(named), "cosqa"), find_baseline(minilm_path, None)
    runtime = load_longspan(str(minilm_path), None)
    queries, documents = runtime.embed(data.queries, "query"), runtime.embed(data.documents, "document")
    _, figures = codes.measure(data, queries, documents, [384])
    names = {setting.name(384): found for setting, found in figures.items()}
    results = [Result.against(baseline, "cosqa", name, name, found) for name, found in names.items()]
    assert sum(bool(result.known) for result in results) == 7
    sentence, is_good = verdict(results)
    assert is_good, sentence
