"""Quality of real models on real data, against the figures in bench/quality/baselines.json.

LONGSPAN_TEST_DATA names the data folder; LONGSPAN_TEST_SLOW=1 adds the large sets; LONGSPAN_TEST_MPNET names the folder
with all-mpnet-base-v2.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.encoders import Runtime, load_longspan
from bench.quality import retrieval, sts
from bench.quality.baselines import STS_PREFIX, Baseline, find_baseline
from bench.quality.data import load_retrieval, load_sts
from bench.quality.rankings import RANKINGS
from bench.quality.report import Result, verdict

slow = pytest.mark.skipif(not os.environ.get("LONGSPAN_TEST_SLOW"), reason="takes minutes: set LONGSPAN_TEST_SLOW=1")


@pytest.fixture(scope="module")
def data_folder() -> Path:
    named = os.environ.get("LONGSPAN_TEST_DATA")
    if not named:
        pytest.skip("judged data absent: set LONGSPAN_TEST_DATA to the folder that holds scifact, cosqa, xquad, stsb")
    return Path(named)


@pytest.fixture(scope="module")
def baseline(minilm_path: Path) -> Baseline:
    known = find_baseline(minilm_path, None)
    assert known is not None, "these are not the published weights of all-MiniLM-L6-v2"
    return known


@pytest.fixture(scope="module")
def minilm(minilm_path: Path) -> Runtime:
    return load_longspan(str(minilm_path), None)


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", 0.8203), pytest.param("de", 0.6240, marks=slow), pytest.param("ja", 0.4611, marks=slow)],
)
def test_sts(data_folder: Path, minilm: Runtime, baseline: Baseline, language: str, expected: float) -> None:
    figures = sts.measure(minilm, load_sts(data_folder, language))
    assert figures["float32"] == pytest.approx(expected, abs=0.001)
    name = STS_PREFIX + language
    results = [Result.against(baseline, name, kind, kind, {sts.SPEARMAN: value}) for kind, value in figures.items()]
    sentence, is_good = verdict(results)
    assert is_good, sentence


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("xquad.en", 0.9433),
        ("cosqa", 0.8148),
        ("scifact-1283", 0.7736),
        pytest.param("scifact", 0.6451, marks=slow),
        pytest.param("covidqa", 0.4386, marks=slow),
    ],
)
def test_retrieval(data_folder: Path, minilm: Runtime, baseline: Baseline, name: str, expected: float) -> None:
    data = load_retrieval(data_folder, name)
    figures = retrieval.measure(data, *retrieval.embed(minilm, data), list(RANKINGS))
    assert figures["float32"]["nDCG@10"] == pytest.approx(expected, abs=0.001)
    results = [Result.against(baseline, name, ranking, ranking, reached) for ranking, reached in figures.items()]
    sentence, is_good = verdict(results)
    assert is_good, sentence


@pytest.mark.timeout(900)
def test_mpnet(data_folder: Path, mpnet_path: Path) -> None:
    """The relative bias that all layers share, with the real weights."""
    known = find_baseline(mpnet_path, None)
    assert known is not None and known.model == "all-mpnet-base-v2", "these are not the published weights"
    runtime, data = load_longspan(str(mpnet_path), None), load_retrieval(data_folder, "xquad.en")
    figures = {
        "stsb.en": {
            kind: {sts.SPEARMAN: value} for kind, value in sts.measure(runtime, load_sts(data_folder, "en")).items()
        },
        "xquad.en": retrieval.measure(data, *retrieval.embed(runtime, data), list(RANKINGS)),
    }
    assert figures["stsb.en"]["float32"][sts.SPEARMAN] == pytest.approx(0.8342, abs=0.001)
    assert figures["xquad.en"]["float32"]["nDCG@10"] == pytest.approx(0.9547, abs=0.001)
    results = [
        Result.against(known, name, ranking, ranking, reached)
        for name, rankings in figures.items()
        for ranking, reached in rankings.items()
    ]
    assert all(result.known for result in results)
    sentence, is_good = verdict(results)
    assert is_good, sentence
