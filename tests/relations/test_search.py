"""Neighbours, texts that are no values, and link prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan.relations import Database, Retrofitted, retrofit
from retro_databases import Golden, make, script

GOLDEN = Golden.read("library")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Retrofitted:
    path = make(tmp_path_factory.mktemp("x") / "x.db", script("library"))
    return retrofit(Database(path).plan(), GOLDEN, beta=0.5)


def cosines(result: Retrofitted, query: np.ndarray) -> np.ndarray:
    rows = result.vectors.astype(np.float64)
    return rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))


def test_neighbors(result: Retrofitted) -> None:
    node = result.plan.node("works.title", "Midnight Desk")
    hits = result.neighbors("works.title", "Midnight Desk", 100)
    assert len(hits) == len(result.nodes) - 1 and node not in {hit.node for hit in hits}
    scores = cosines(result, result.vectors[node])
    np.testing.assert_allclose([hit.score for hit in hits], [scores[hit.node] for hit in hits], atol=1e-6)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(result.nodes[hit.node] == (hit.table, hit.column, hit.text) for hit in hits)
    linked = {b for r in result.plan.relations for a, b in r.pairs.tolist() if a == node} | {
        a for r in result.plan.relations for a, b in r.pairs.tolist() if b == node
    }
    assert {hit.node for hit in hits if hit.is_linked} == linked
    within = result.neighbors("works.title", "Midnight Desk", 3, within="genres.name")
    assert (
        len(within) == 3 and {hit.column for hit in within} == {"name"} and {hit.table for hit in within} == {"genres"}
    )


def test_complete(result: Retrofitted) -> None:
    every = result.complete("works.title", "Midnight Desk", ("authors", "name"), 100)
    fresh = result.complete("works.title", "Midnight Desk", "authors.name", 100, known=False)
    assert [hit for hit in every if not hit.is_linked] == fresh
    assert {hit.text for hit in every if hit.is_linked} == {"Marcus Bell", "Jürgen Brandt"}


def test_find(result: Retrofitted) -> None:
    """A text lies where a value without relations does: between its base vector and the column's centroid."""
    base = GOLDEN.encode(["poet"])[0]
    hits = result.find("poet", GOLDEN, 5)
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosines(result, base))[::-1][:5], atol=1e-6)
    column = result.plan.column("genres.name")
    centroid = result.base[column.start : column.stop].mean(0)
    within = result.find("poet", GOLDEN, 3, within="genres.name")
    expected = np.sort(cosines(result, base + 0.5 * centroid)[column.start : column.stop])[::-1][:3]
    np.testing.assert_allclose([hit.score for hit in within], expected, atol=1e-6)


def test_what_is_refused(result: Retrofitted) -> None:
    with pytest.raises(ValueError, match="works.title has no value 'Nothing'"):
        result.neighbors("works.title", "Nothing")
    with pytest.raises(ValueError, match="the plan has no column 'works.x'"):
        result.neighbors("works.title", "Midnight Desk", within="works.x")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        result.neighbors("works.title", "Midnight Desk", 0)
    with pytest.raises(ValueError, match="the encoder gives 3 dimensions, but the vectors have 24"):
        result.find("x", type("E", (), {"encode": lambda self, texts: np.ones((1, 3))})())
    assert result.vector("works.title", "Midnight Desk").shape == (24,)


def test_what_is_wrong_is_told(result: Retrofitted, tmp_path: Path) -> None:
    database = Database(make(tmp_path / "x.db", script("library")))
    plan = database.plan()
    for given in (None, "a model", np.zeros(3), retrofit):
        with pytest.raises(TypeError, match="^find: encoder must be an Encoder, got "):
            result.find("words", given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^retrofit: give an Encoder, or an array .*, got str$"):
        retrofit(plan, "a model")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^a value of works.title must be a str, got int$"):
        result.neighbors("works.title", 3)  # type: ignore[arg-type]
    for url in (None, 3, b"x.db"):
        with pytest.raises(TypeError, match=f"^Database: url must be a str or a path, got {type(url).__name__}$"):
            Database(url)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"^a place must be a str or a path, got {type(url).__name__}$"):
            result.save(url)  # type: ignore[arg-type]
    for excluded in (None, [3]):
        with pytest.raises(TypeError, match="^exclude must be a list of names, or of .*, got "):
            database.plan(excluded)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^add_relation: pairs must be a list of pairs of texts, got NoneType$"):
        plan.add_relation("works.title", "genres.name", None)  # type: ignore[arg-type]
    plan.relations[0].weight = "x"  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"^the weight of .* must be a finite number from 0 up, got 'x'$"):
        retrofit(plan, GOLDEN)


def test_numbers_of_numpy_and_short_words_for_a_person(result: Retrofitted) -> None:
    again = retrofit(result.plan, result.base, beta=np.float32(0.5))  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.vectors, result.vectors)
    count, dim = result.vectors.shape
    assert repr(result).startswith(f"Retrofitted({count} vectors of {dim}, solver='rn', steps=10, change=")
    assert repr(result.plan).startswith("Plan(") and f", {count} nodes, " in repr(result.plan)
    assert repr(result.nodes) == f"Nodes({count} texts of {len(result.plan.columns)} columns)"
