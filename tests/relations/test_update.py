"""New rows: both modes on the golden, and what an update needs and reports."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from longspan.relations import Database, Retrofitted, retrofit
from longspan.relations.update import Update
from longspan.vectors.origin import Origin
from retro_databases import Golden, make, script

GOLDEN = Golden.read("library")
PARAMETERS = GOLDEN.facts["after_insert"]["parameters"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "x.db", script("library"))


def before(path: Path, **how: object) -> Retrofitted:
    return retrofit(Database(path).plan(), GOLDEN, **how)


def insert(path: Path, sql: str | None = None) -> Database:
    make(path, sql or script("library_insert"))
    return Database(path)


@pytest.mark.parametrize("mode, name", [("refresh", "ro_exact"), ("new", "new_nodes_only")])
def test_the_optimum(mode: str, name: str, path: Path) -> None:
    old = before(path, solver="ro", iterations="exact", **PARAMETERS)
    result = old.update(insert(path), GOLDEN, mode=mode)
    report = result.report
    expected = GOLDEN.arrays[f"after_insert/{name}"]
    assert np.abs(result.vectors - expected).max() <= 1e-5 * np.abs(expected).max()
    new = set(GOLDEN.facts["after_insert"]["new_nodes"])
    assert report == Update(mode, len(new), 0, len(new), 4 if mode == "new" else 0)
    if mode == "new":
        kept = [row for row in range(len(result.nodes)) if row not in new]
        np.testing.assert_array_equal(result.vectors[kept], old.vectors)


def test_a_refresh_of_steps_is_a_run_from_scratch(path: Path) -> None:
    old = before(path)
    database = insert(path)
    result = old.update(database, GOLDEN)
    np.testing.assert_array_equal(result.vectors, retrofit(database.plan(), GOLDEN).vectors)
    expected = GOLDEN.arrays["after_insert/rn_published"]
    assert np.abs(result.vectors - expected).max() <= 2e-6


def test_new_rows_of_rn(path: Path) -> None:
    """With the old rows where a long run has put them, new rows come to where that run puts them."""
    scratch = before(path, iterations=300)
    old = before(path, iterations=300)
    keep = np.arange(len(old.nodes)) != 5
    part = Retrofitted(_without(old, 5), old.vectors[keep], old.base[keep], old.settings, 0, 0.0)
    result = part.update(Database(path).plan(), GOLDEN, mode="new")
    report = result.report
    assert report.added == 1 and result.nodes[5] == scratch.nodes[5]
    np.testing.assert_allclose(result.vectors, scratch.vectors, atol=2e-3)


def _without(result: Retrofitted, node: int) -> object:
    """The plan as it was before a value came."""
    from longspan.relations.plan import Column, Plan

    columns = []
    for column in result.plan.columns:
        start, stop = (bound - (bound > node) for bound in (column.start, column.stop))
        columns.append(Column(column.table, column.column, start, stop))
    return Plan(columns, [text for place, text in enumerate(result.plan.texts) if place != node], [])


def test_rows_that_go(path: Path) -> None:
    old = before(path)
    database = insert(path, "DELETE FROM work_genres WHERE genre_id = 8; DELETE FROM genres WHERE id = 8")
    for mode in ("refresh", "new"):
        result = old.update(database, mode=mode)  # nothing is new, so no encoder is needed
        report = result.report
        assert (report.added, report.removed, report.embedded) == (0, 1, 0)
        assert len(result.nodes) == 75
    np.testing.assert_array_equal(old.update(database).vectors, retrofit(database.plan(), GOLDEN).vectors)


def test_options_of_the_plan_are_kept(path: Path) -> None:
    plan = Database(path).plan(exclude=["works.language"])
    plan.exclude("authors.note")
    plan.relations[0].weight = 0.5
    plan.add_relation("works.title", "genres.name", [("Midnight Desk", "Haiku")], weight=3)
    old = retrofit(plan, GOLDEN)
    result = old.update(insert(path), GOLDEN)
    names = {column.name for column in result.plan.columns}
    assert "works.language" not in names and "authors.note" not in names
    assert result.plan.relations[0].weight == 0.5
    own = result.plan.relations[-1]
    ((a, b),) = own.pairs.tolist()
    assert (result.nodes[a][2], result.nodes[b][2], own.weight) == ("Midnight Desk", "Haiku", 3)


def test_vectors_in_the_new_order(path: Path) -> None:
    old = before(path)
    plan = insert(path).plan()
    given = GOLDEN.base(plan, "")
    given[:30:2] = np.nan
    given[[6, 9]] = GOLDEN.base(plan, "")[[6, 9]]
    result = old.update(plan, given)
    report = result.report
    np.testing.assert_array_equal(result.vectors, retrofit(plan, GOLDEN).vectors)
    assert report.embedded == 5


def test_what_is_refused(path: Path) -> None:
    old, smoothed = before(path), before(path, solver="sgc")
    database = insert(path)
    with pytest.raises(ValueError, match="5 values are new, such as authors.name 'Kofi Mensah'; give an encoder"):
        old.update(database)
    with pytest.raises(ValueError, match="mode must be 'refresh' or 'new', got 'x'"):
        old.update(database, mode="x")
    with pytest.raises(ValueError, match="mode 'new' is for solvers rn and ro"):
        smoothed.update(database, GOLDEN, mode="new")
    with pytest.raises(ValueError, match="new vectors have 3 dimensions, but the old ones 24"):
        old.update(database, np.ones((len(database.plan().nodes), 3), np.float32))
    old.origin = Origin("one", "float32")

    class Other:
        origin = Origin("two", "float32")
        encode = staticmethod(GOLDEN.encode)

    with pytest.raises(ValueError, match=r"update: the vectors are of another model \(two\)"):
        old.update(database, Other())
    assert sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
