"""The late chunking study: its own sums by hand, and the real model on real data against the known figures.

LONGSPAN_TEST_DATA names the data folder; LONGSPAN_TEST_SLOW=1 adds the long articles.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.quality import late_chunking
from bench.quality.baselines import find_baseline
from bench.quality.data import load_articles
from bench.quality.plot import Line, line_chart
from bench.quality.report import Result, verdict
from longspan import Encoder

slow = pytest.mark.skipif(not os.environ.get("LONGSPAN_TEST_SLOW"), reason="takes minutes: set LONGSPAN_TEST_SLOW=1")


def test_in_document_figures() -> None:
    scores = np.array([[0.9, 0.1, 0.5, 0.8], [0.2, 0.3, 0.9, 0.8]])
    owners = np.array([0, 0, 1, 1])
    got = late_chunking.in_document_figures(scores, owners, [{1: 1.0}, {2: 1.0}])
    assert got == pytest.approx({"in-doc nDCG@10": (1 / np.log2(3) + 1) / 2, "in-doc MRR": 0.75, "first is gold": 0.5})


def test_best_chunk_scores() -> None:
    chunks = [np.array([[1, 0], [0, 1]], np.float32), np.empty((0, 2), np.float32)]
    got = late_chunking.best_chunk_scores(np.array([[0.25, 0.5]], np.float32), chunks)
    assert got.tolist() == [[0.5, -np.inf]]


def write_lines(path: Path, records: list[dict[str, object]]) -> None:
    text = "\n".join(map(json.dumps, records))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Two articles of two passages and two questions, in covidqa's files."""
    folder = tmp_path / "covidqa"
    folder.mkdir()
    records = []
    for place, text in enumerate(("The bat flew. It was night.", "The virus grew. Cells died.")):
        cut = text.index(". ") + 2
        passages = [
            {"id": f"d{place}.p0", "start": 0, "end": cut},
            {"id": f"d{place}.p1", "start": cut, "end": len(text)},
        ]
        records.append({"_id": f"d{place}", "title": "t", "text": text, "passages": passages})
    write_lines(folder / "documents.jsonl.gz", records)
    write_lines(folder / "queries.jsonl", [{"_id": "q0", "text": "bat?"}, {"_id": "q1", "text": "cells?"}])
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0.p0\t1\nq1\td1.p1\t1\n")
    return tmp_path


def test_articles(small_data: Path) -> None:
    data = load_articles(small_data, "covidqa")
    assert data.documents == ("The bat flew. It was night.", "The virus grew. Cells died.")
    texts = [text[start:end] for text, spans in zip(data.documents, data.spans) for start, end in spans]
    assert tuple(texts) == data.passages.documents and texts[3] == "Cells died."
    assert late_chunking.articles_as_documents(data).gains == ({0: 1.0}, {1: 1.0})
    with pytest.raises(
        ValueError, match=r"set must be covidqa, xquad.LANGUAGE or xquad.LANGUAGE-LANGUAGE, got 'cosqa'"
    ):
        load_articles(small_data, "cosqa")


def test_the_command(small_data: Path, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot, figures = tmp_path / "plot.svg", tmp_path / "figures.json"
    words = [small_data, "--model", golden / "bert-minilm", "--sets", "covidqa", "--sizes", 4, 8]
    assert late_chunking.main([*map(str, words), "--plot", str(plot), "--json", str(figures)]) == 0
    out = capsys.readouterr().out
    assert "covidqa: 2 documents, 2 queries" in out and "no baseline is known" in out
    rows = {(row["set"], row["ranking"]) for row in json.loads(figures.read_text())["results"]}
    assert {("covidqa", "late"), ("covidqa documents", "naive-4"), ("covidqa documents", "whole")} <= rows
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    assert late_chunking.main([str(tmp_path / "none"), "--model", "x", "--sets", "covidqa"]) == 2
    assert "there is no data folder" in capsys.readouterr().err


def test_line_chart() -> None:
    svg = line_chart({"a & b": [Line("x<y", [(1, 0.5), (4, 1.0)]), Line("z", [(1, 0.75)])]}, x_label="n", y_label="m")
    root = ElementTree.fromstring(svg)
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert "a & b: m" in texts and "x<y" in texts and "1.000" in texts
    lines = [node for node in root.iter() if node.tag.endswith("polyline")]
    (left, bottom), (right, top) = (tuple(map(float, pair.split(","))) for pair in lines[0].get("points", "").split())
    assert left < right and top < bottom


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["xquad.en", pytest.param("covidqa", marks=slow)])
def test_known_figures(minilm_path: Path, name: str) -> None:
    """Rule 9 of the protocol: windows of 512, 128 shared, the earlier window's vectors, passages without specials."""
    folder = os.environ.get("LONGSPAN_TEST_DATA")
    if not folder:
        pytest.skip("judged data absent: set LONGSPAN_TEST_DATA to the folder that holds xquad, covidqa")
    study = late_chunking.Study(Encoder(minilm_path), 512, 128, "earlier", "tokens")
    figures = late_chunking.passage_figures(study, load_articles(Path(folder), name))
    baseline = find_baseline(minilm_path, None)
    results = [Result.against(baseline, name, kind, kind, values) for kind, values in figures.items()]
    assert all(result.known for result in results)
    sentence, is_good = verdict(results)
    assert is_good, sentence
