"""The evaluation of RETRO: its protocol on small cases, and the known figures where the data is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.quality.retro import databases, tasks
from bench.quality.retro.evaluate import KNOWN, Figure, as_markdown, run
from bench.quality.retro.plot import bars
from bench.relations.made import make
from longspan import Encoder
from longspan.relations import Database

FILMS = [
    {"Title": "A", "US Gross": 10, "Production Budget": 1, "Release Date": "x", "Director": "D1", "Distributor": None,
     "Source": "S", "Creative Type": "C", "MPAA Rating": "R", "Major Genre": "G1"},
    {"Title": 300, "US Gross": 1000, "Production Budget": 1, "Release Date": "x", "Director": "D1", "Distributor": "P",
     "Source": "S", "Creative Type": "C", "MPAA Rating": "R", "Major Genre": "G2"},
    {"Title": None, "US Gross": 0, "Production Budget": 1, "Release Date": "x", "Director": None, "Distributor": "P",
     "Source": None, "Creative Type": "C", "MPAA Rating": "R", "Major Genre": "G2"},
]  # fmt: skip


def test_movies(tmp_path: Path) -> None:
    source = tmp_path / "movies.json"
    source.write_text(json.dumps(FILMS))
    whole = databases.make_movies(source, tmp_path / "a.db")
    plan = Database(databases.make_movies(source, tmp_path / "b.db", without="genre")).plan(min_edges=1)
    assert "genre.name" not in {column.name for column in plan.columns}
    title = plan.column("movie.title")
    assert plan.texts[title.start : title.stop] == ["300", "A"]
    rows = databases.query(whole, "SELECT m.title, g.name FROM movie m JOIN genre g ON g.id = m.genre")
    task = tasks.classes(plan, "movie.title", rows, 1)
    assert [plan.texts[node] for node in task.nodes] == ["300", "A"] and task.targets.tolist() == [1, 0]
    gross = tasks.values(plan, "movie.title", [("A", 10), ("300", 1000), ("300", 2000), (None, 5)])
    assert gross.targets.tolist() == [1.0]
    with pytest.raises(FileNotFoundError, match=r"no movies.json below .* with the known SHA-256"):
        databases.find(tmp_path, "movies.json")


def test_hidden_pairs_leave_every_target_one() -> None:
    pairs = np.array([[a, 100 + a % 7] for a in range(40)])
    is_kept, hidden, _ = tasks.hidden_pairs(pairs, 0, 20)
    assert len(hidden) == 20 and is_kept.sum() == 20
    assert set(pairs[is_kept, 1].tolist()) == set(pairs[:, 1].tolist())
    vectors = np.random.default_rng(0).standard_normal((110, 8))
    pytest.importorskip("sklearn")
    auc, hits = tasks.hidden_scores(pairs, hidden, np.random.default_rng(1), vectors, np.arange(100, 107))
    assert 0 <= auc <= 1 and hits == 1.0  # there are but seven targets


def test_tables_and_bars() -> None:
    figures = [Figure("t", "PV", 0.5, 0.1, 0.52, 0.01), Figure("t", "RN & x", 0.6, 0.1, None, None)]
    assert figures[0].is_off and not figures[1].is_off
    assert not Figure("t", "DW", 0.5, 0.1, 0.52, 0.011).is_off
    table = as_markdown(figures)
    assert "| PV | 0.500 ± 0.100 | 0.520 ± 0.010 | -0.020 ! |" in table and "| RN & x | 0.600 ± 0.100 |  |  |" in table
    picture = bars(figures)
    assert picture.count("<rect") == 3 and "RN &amp; x" in picture


def test_a_made_database_has_what_was_asked_for(tmp_path: Path) -> None:
    plan = Database(make(tmp_path / "x.db", 2000, 20_000)).plan()
    assert len(plan.nodes) == 2000
    assert 0.95 * 20_000 <= sum(relation.count for relation in plan.relations) <= 20_000


def test_known_figures(minilm_path: Path) -> None:
    """All of them, without walks; minutes, so only where it is asked for."""
    pytest.importorskip("sklearn", reason="scikit-learn fits the classifiers")
    folder = os.environ.get("LONGSPAN_TEST_DATA")
    if not folder or os.environ.get("LONGSPAN_TEST_SLOW") != "1":
        pytest.skip(
            "set LONGSPAN_TEST_SLOW=1 and LONGSPAN_TEST_DATA to a folder with movies.json and initial_data.json"
        )
    encoder = Encoder(minilm_path)

    def encode(texts: list[str]) -> np.ndarray:
        distinct = list(dict.fromkeys(texts))
        place = {text: number for number, text in enumerate(distinct)}
        return np.asarray(encoder.encode(distinct, show_progress_bar=False))[[place[text] for text in texts]]

    figures = run(Path(folder), encode, walks=False)
    assert [f for f in figures if f.is_off] == [] and len(figures) > len(json.loads(KNOWN.read_text()))
