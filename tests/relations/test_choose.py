"""The choice of alpha and delta: what it finds where relations tell, where texts do, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan.relations import Database, Plan, choose, retrofit
from longspan.relations.choose import labels_of
from longspan.relations.ridge import PENALTIES, fit_ridge, signs_of, unit_rows
from retro_databases import make

FILMS, MAKERS, GENRES = 120, 20, 4


def films(tmp_path: Path) -> Plan:
    """Films of makers; a maker makes films of one genre. A film's text says nothing of it."""
    rows = [f"({n}, 'film {n:03}', {n % MAKERS + 1}, {n % MAKERS % GENRES + 1})" for n in range(FILMS)]
    tables = f"""
    CREATE TABLE maker (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE genre (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE film (id INTEGER PRIMARY KEY, title TEXT, maker INTEGER REFERENCES maker,
      genre INTEGER REFERENCES genre);
    INSERT INTO maker VALUES {",".join(f"({n + 1}, 'maker {n}')" for n in range(MAKERS))};
    INSERT INTO genre VALUES {",".join(f"({n + 1}, 'genre {n}')" for n in range(GENRES))};
    INSERT INTO film VALUES {",".join(rows)};
    """
    return Database(make(tmp_path / "x.db", tables)).plan()


def test_relations_tell(tmp_path: Path) -> None:
    plan = films(tmp_path)
    base = np.random.default_rng(0).standard_normal((len(plan.nodes), 32)).astype(np.float32)
    # A vector of a maker says its genre: what a film has to learn from its relation.
    makers = plan.column("maker.name")
    for node in range(makers.start, makers.stop):
        base[node] += 20 * np.eye(32, dtype=np.float32)[int(plan.texts[node].split()[1]) % GENRES]
    before = [(relation.name, relation.pairs.tolist()) for relation in plan.relations]
    choice = choose(plan, base, "film.title", "genre.name", alphas=(1.0, 0.3), deltas=(0.0, 1.0))
    names = [trial.name for trial in choice.trials]
    assert len(names) == 7 and {"plain", "sgc", "mf", "rn alpha=0.3 beta=0 gamma=3 delta=1"} <= set(names)
    plain = next(trial for trial in choice.trials if trial.name == "plain")
    assert choice.best.score > 0.95 and plain.score < 0.5 and choice.labelled == FILMS and choice.classes == GENRES
    assert str(choice).splitlines()[0] == "120 values with one of 4 labels; always the commonest: 0.250"
    assert [(relation.name, relation.pairs.tolist()) for relation in plan.relations] == before, (
        "the plan stays as it was"
    )
    again = choose(plan, base, "film.title", "genre.name", alphas=(1.0, 0.3), deltas=(0.0, 1.0))
    assert again == choice


def test_the_label_is_hidden(tmp_path: Path) -> None:
    """With noise for vectors nothing may be told, though the label's own relation would tell all."""
    plan = films(tmp_path)
    plan.exclude("maker.name")
    base = np.random.default_rng(0).standard_normal((len(plan.nodes), 16)).astype(np.float32)
    choice = choose(plan, base, "film.title", "genre.name", solver="ro", deltas=(0.0, 0.25, 1.0))
    assert choice.best.score < 0.45
    assert all(trial.settings is None or trial.settings.strengths.delta <= 0.25 for trial in choice.trials)


def test_labels(tmp_path: Path) -> None:
    plan = films(tmp_path)
    nodes, labels = labels_of(plan, plan.column("film.title"), plan.column("genre.name"))
    assert [plan.texts[node] for node in nodes[:3]] == ["film 000", "film 001", "film 002"]
    assert labels[:6].tolist() == [0, 1, 2, 3, 0, 1]
    # From the other side every genre has many films, and so no one label.
    assert len(labels_of(plan, plan.column("genre.name"), plan.column("film.title"))[0]) == 0
    base = np.ones((len(plan.nodes), 3), np.float32)
    with pytest.raises(ValueError, match="no relation joins maker.name and genre.name"):
        choose(plan, base, "maker.name", "genre.name")
    with pytest.raises(ValueError, match="0 values have exactly one label"):
        choose(plan, base, "genre.name", "film.title")
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        choose(plan, base, "film.title", "genre.name", folds=1)
    assert retrofit(plan, base).vectors.shape == base.shape


def test_ridge_leaves_out_one_row_at_a_time() -> None:
    """The penalty is that of the least error when rows are really left out; the fit is the closed form's."""
    rng = np.random.default_rng(3)
    x = unit_rows(rng.standard_normal((25, 6)))
    y = signs_of((x[:, 0] + 0.3 * rng.standard_normal(25) > 0).astype(int), 2)

    def closed(rows: np.ndarray, targets: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        middle, level = rows.mean(0), targets.mean(0)
        slopes = np.linalg.solve(
            (rows - middle).T @ (rows - middle) + penalty * np.eye(6), (rows - middle).T @ (targets - level)
        )
        return slopes, level - middle @ slopes

    def error(penalty: float) -> float:
        total = 0.0
        for out in range(25):
            keep = np.arange(25) != out
            slopes, shift = closed(x[keep], y[keep], penalty)
            total += float(np.square(x[out] @ slopes + shift - y[out]).sum())
        return total

    best = min(PENALTIES, key=error)
    slopes, shift = closed(x, y, best)
    np.testing.assert_allclose(fit_ridge(x, y)(x[:5]), x[:5] @ slopes + shift, atol=1e-9)
