"""Every solver on the golden databases, on any number of threads, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan import _core
from longspan.relations import Database, Plan, retrofit
from retro_databases import NAMES, Golden, make, script

GOLDENS = {name: Golden.read(name) for name in NAMES}
RUNS = [(name, run) for name in NAMES for run in GOLDENS[name].facts["runs"]]
EXACT_LIMIT, LIMIT = 1e-5, 2e-6  # of the largest value: the goldens' NOTES


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plan]:
    folder = tmp_path_factory.mktemp("databases")
    return {name: Database(make(folder / f"{name}.db", script(name))).plan() for name in NAMES}


def options(name: str, run: str) -> dict[str, object]:
    how = GOLDENS[name].facts["runs"][run]
    chosen = {key: how[key] for key in ("solver", "alpha", "beta", "gamma", "delta", "iterations")}
    return {**chosen, "missing": how.get("missing", "anchor")}


def diverges(how: dict[str, object]) -> bool:
    return bool(how["solver"] == "ro" and how["delta"] == 3)


@pytest.mark.parametrize("name, run", RUNS)
@pytest.mark.filterwarnings("ignore:retrofit. the longest vector")
def test_goldens(name: str, run: str, plans: dict[str, Plan], isa: str) -> None:
    golden, how = GOLDENS[name], options(name, run)
    base = golden.base(plans[name], run)
    result = retrofit(plans[name], base, **how, check=not diverges(how))
    expected = golden.arrays[run]
    limit = EXACT_LIMIT if how["iterations"] == "exact" else LIMIT
    assert np.abs(result.vectors - expected).max() <= limit * np.abs(expected).max()
    assert result.vectors.flags.c_contiguous and result.vectors.dtype == np.float32
    if how["solver"] == "rn":
        lengths = np.linalg.norm(result.vectors, axis=1)
        assert np.all((np.abs(lengths - 1) < 1e-6) | (lengths == 0))


@pytest.mark.parametrize("name", NAMES)
def test_mf(name: str, plans: dict[str, Plan]) -> None:
    """The golden's rounds go node by node and ours all at once; both have settled."""
    golden = GOLDENS[name]
    result = retrofit(plans[name], golden.base(plans[name], "mf"), solver="mf", iterations=40)
    assert np.abs(result.vectors - golden.arrays["mf"]).max() <= LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_sgc(name: str, plans: dict[str, Plan]) -> None:
    plan, base = plans[name], GOLDENS[name].base(plans[name], "")
    near = np.eye(len(base))
    for relation in plan.relations:
        for a, b in relation.pairs.tolist():
            near[a, b] = near[b, a] = 1
    roots = 1 / np.sqrt(near.sum(1))
    expected = np.linalg.matrix_power(roots[:, None] * near * roots, 2) @ base.astype(np.float64)
    assert np.abs(retrofit(plan, base, solver="sgc").vectors - expected).max() <= LIMIT


@pytest.mark.parametrize("run", ["rn_published", "ro_ten_steps", "ro_exact", "missing/ro_free_exact"])
def test_the_same_bits_on_any_number_of_threads(run: str, plans: dict[str, Plan]) -> None:
    golden, plan = GOLDENS["library"], plans["library"]
    results = []
    for threads in (1, 2, 3):
        before = _core.set_num_threads(threads)
        try:
            results.append(retrofit(plan, golden.base(plan, run), **options("library", run)).vectors)
        finally:
            _core.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("dim", [1, 63, 64, 65, 200])
def test_any_width(dim: int, plans: dict[str, Plan]) -> None:
    """Columns are computed in blocks; a result does not show where one ends."""
    plan = plans["staff"]
    base = np.random.default_rng(dim).standard_normal((len(plan.nodes), dim)).astype(np.float32)
    wide = np.concatenate([base, base[:, ::-1], base], axis=1)
    for how in (
        {"solver": "ro", "delta": 0.25, "beta": 0.5},
        {"solver": "ro", "iterations": "exact"},
        {"solver": "mf"},
    ):
        narrow = retrofit(plan, base, **how).vectors
        both = retrofit(plan, wide, **how).vectors
        tolerance = 3e-6 if how.get("iterations") == "exact" else 0
        np.testing.assert_allclose(both[:, :dim], narrow, rtol=0, atol=tolerance)
        np.testing.assert_allclose(both[:, 2 * dim :], narrow, rtol=0, atol=tolerance)
    for steps in (1, 2):
        result = retrofit(plan, base, iterations=steps)
        assert result.vectors.shape == base.shape and result.steps == steps and np.isfinite(result.change)


def test_relations_have_weights(tmp_path: Path) -> None:
    plan = Database(make(tmp_path / "x.db", script("library"))).plan()
    base = GOLDENS["library"].base(plan, "")
    plan.relations[3].weight = 0
    off = retrofit(plan, base).vectors
    del plan.relations[3]
    np.testing.assert_array_equal(retrofit(plan, base).vectors, off)
    for relation in plan.relations:
        relation.weight = 2
    twice = retrofit(plan, base).vectors
    for relation in plan.relations:
        relation.weight = 1
    np.testing.assert_allclose(retrofit(plan, base, gamma=6, delta=2).vectors, twice, atol=1e-6)
    plan.relations[0].weight = -1
    with pytest.raises(ValueError, match=r"the weight of .* must be a finite number from 0 up, got -1"):
        retrofit(plan, base)


def test_an_encoder_sees_each_text_once(plans: dict[str, Plan]) -> None:
    golden, seen = GOLDENS["library"], []

    class Encoder:
        name = "golden"

        def encode(self, texts: list[str]) -> np.ndarray:
            seen.extend(texts)
            return golden.encode(texts)

    result = retrofit(plans["library"], Encoder())
    assert len(seen) == len(set(seen)) == len(set(plans["library"].texts))
    np.testing.assert_array_equal(result.vectors, retrofit(plans["library"], golden.base(plans["library"], "")).vectors)
    assert result.model == "golden" and result.origin is None


def test_the_given_vectors_stay(plans: dict[str, Plan]) -> None:
    base = GOLDENS["library"].base(plans["library"], "missing/rn_anchor")
    before = base.copy()
    result = retrofit(plans["library"], base)
    np.testing.assert_array_equal(base, before)
    assert result.base is base and not np.isnan(result.vectors).any()


def test_values_nobody_knows(plans: dict[str, Plan]) -> None:
    """A part of the graph in which no value has a vector stays 0, and nothing is NaN."""
    plan = plans["staff"]
    base = np.full((len(plan.nodes), 8), np.nan, np.float32)
    for how in ({}, {"solver": "ro"}, {"solver": "ro", "iterations": "exact", "missing": "free", "delta": 0.0}):
        assert (retrofit(plan, base, **how).vectors == 0).all()


def test_divergence_is_refused(plans: dict[str, Plan]) -> None:
    plan, base = plans["library"], GOLDENS["library"].base(plans["library"], "")
    with pytest.raises(ValueError, match=r"RO with delta = 3 diverges on this database \(each step .* by 2.00\)"):
        retrofit(plan, base, solver="ro", delta=3)
    with pytest.raises(ValueError, match="delta is too large: repulsion outweighs what holds .* below"):
        retrofit(plan, base, solver="ro", delta=500, check=False)
    with pytest.raises(ValueError, match="no single optimum"):
        retrofit(plan, base, solver="ro", delta=3, iterations="exact")
    with pytest.warns(UserWarning, match="607 times the longest base vector"):
        retrofit(plan, base, solver="ro", delta=3, check=False)
    with pytest.raises(ValueError, match="vectors overflowed in step"):
        retrofit(plan, base, solver="ro", delta=3, check=False, iterations=500)


def test_the_delta_that_is_named_would_do(plans: dict[str, Plan]) -> None:
    plan, base = plans["library"], GOLDENS["library"].base(plans["library"], "")
    with pytest.raises(ValueError, match="below") as told:
        retrofit(plan, base, solver="ro", delta=500, check=False)
    most = float(str(told.value).partition("below ")[2].split()[0])
    assert 3 < most < 500
    with pytest.warns(UserWarning, match="times the longest base vector"):
        retrofit(plan, base, solver="ro", delta=0.99 * most, check=False, iterations=3)
    with pytest.raises(ValueError, match="delta is too large"):
        retrofit(plan, base, solver="ro", delta=1.01 * most, check=False)


@pytest.mark.parametrize(
    "how, kind, message",
    [
        ({"solver": "xx"}, ValueError, "solver must be one of rn, ro, sgc, mf, got 'xx'"),
        ({"alpha": -1}, ValueError, "alpha must be a finite number from 0 up, got -1"),
        ({"gamma": float("nan")}, ValueError, "gamma must be a finite number from 0 up, got nan"),
        ({"alpha": 0}, ValueError, "alpha or beta must be above 0"),
        ({"iterations": 0}, ValueError, "iterations must be at least 1, or 'exact', got 0"),
        ({"iterations": 2.5}, TypeError, "iterations must be an int, got float"),
        ({"iterations": "exact"}, ValueError, "iterations='exact' is for solver='ro' alone"),
        ({"missing": "x"}, ValueError, "missing must be 'anchor' or 'free', got 'x'"),
        ({"tolerance": 0}, ValueError, "tolerance must be between 0 and 1, got 0"),
    ],
    ids=str,
)
def test_bad_options(how: dict[str, object], kind: type[Exception], message: str, plans: dict[str, Plan]) -> None:
    with pytest.raises(kind, match=message):
        retrofit(plans["library"], GOLDENS["library"].base(plans["library"], ""), **how)


def test_bad_vectors(plans: dict[str, Plan]) -> None:
    plan = plans["library"]
    with pytest.raises(ValueError, match=r"vectors must be \(76, d\), a row a node of the plan, got \(75, 3\)"):
        retrofit(plan, np.ones((75, 3), np.float32))
    partly = np.ones((76, 3), np.float32)
    partly[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"vectors\[7\] is not finite; NaN throughout stands for no vector"):
        retrofit(plan, partly)
    with pytest.raises(TypeError, match="give an Encoder, or an array .*, got list"):
        retrofit(plan, [[1.0]])
