"""retrofit_step and group_sums of torch tensors against float64."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from kernel_cases import ON_GPU, plain, tensor, torch
from longspan import ops, reference
from longspan.kernels import retrofit_step as kernels
from longspan.relations import Database, retrofit
from longspan.relations.graph import make_graph
from longspan.relations.on_device import run_on_device
from longspan.relations.retrofit import make_system, solve
from longspan.relations.settings import make_settings
from retro_databases import make, script

N, GROUPS = 50, 5
LENGTHS = [0, 1, 15, 16, 17, 100, 0, 3]


def sparse(lengths: list[int], among: int, *seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = inputs.rng(*seed)
    indptr, total = np.cumsum([0, *lengths], dtype=np.int64), sum(lengths)
    return indptr, rng.integers(0, among, total, dtype=np.int32), rng.standard_normal(total).astype(np.float32)


def options(rows: int, dim: int) -> dict[str, np.ndarray]:
    anchor = inputs.normal((rows,), 2)
    anchor[::3] = 0
    indptr, indices, weights = sparse([row % 4 for row in range(rows)], GROUPS, 3)
    base = inputs.normal((rows, dim), 4)
    base[::3] = np.nan  # and so is never to be read
    return {
        "base": base,
        "anchor": anchor,
        "sums": inputs.normal((GROUPS, dim), 5),
        "sum_indptr": indptr,
        "sum_indices": indices,
        "sum_weights": weights,
        "scale": np.abs(inputs.normal((N,), 6)) + 0.1,
        "divisor": np.abs(inputs.normal((rows,), 7)) + 1,
    }


@pytest.mark.parametrize("dim", [1, 128, 130])
@pytest.mark.parametrize("has_all", [False, True])
def test_matches_reference(dim: int, has_all: bool) -> None:
    vectors, graph = inputs.normal((N, dim), 1), sparse(LENGTHS, N, 2)
    how = options(len(LENGTHS), dim) if has_all else {}
    truth = reference.retrofit_step(vectors.astype(np.float64), *graph, **how)
    native = reference.retrofit_step(vectors, *graph, **how)
    squares = tensor(np.full(len(LENGTHS), 3.0))
    out = torch.full((len(LENGTHS), dim), torch.nan, device=squares.device)
    given = {name: tensor(array) for name, array in how.items()}
    arrays = [tensor(array) for array in (vectors, *graph)]
    assert ops.retrofit_step(*arrays, **given, squares=squares, out=out, backend="triton") is out
    assert_no_worse(plain(out, np.float32), truth, native)
    np.testing.assert_allclose(plain(squares), 3 + np.square(truth).sum(1), rtol=1e-5)


@pytest.mark.parametrize("programs", [1, kernels.PROGRAMS])
def test_group_sums(programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "PROGRAMS", programs)
    vectors, scale = inputs.normal((N, 130), 1) + 10, np.abs(inputs.normal((N,), 6))
    indptr, indices, _ = sparse([0, 1, 15, 700, 0], N, 8)
    for factors in (None, scale):
        truth = reference.group_sums(vectors.astype(np.float64), indptr, indices, scale=factors)
        given = None if factors is None else tensor(factors)
        got = ops.group_sums(tensor(vectors), tensor(indptr), tensor(indices), scale=given, backend="triton")
        np.testing.assert_allclose(plain(got), truth, rtol=2.0**-22)


def test_nothing_to_do() -> None:
    vectors, none = tensor(inputs.normal((N, 3), 1)), tensor(np.zeros(1, np.int64))
    empty, weights = tensor(np.zeros(0, np.int32)), tensor(np.zeros(0, np.float32))
    assert ops.retrofit_step(vectors, none, empty, weights, backend="triton").shape == (0, 3)
    assert ops.group_sums(vectors, none, empty, backend="triton").shape == (0, 3)


def test_layouts() -> None:
    vectors, graph = inputs.normal((N, 40), 1), sparse(LENGTHS, N, 2)
    expected = reference.retrofit_step(vectors, *graph)
    wide = torch.full((N, 100), torch.nan, device="cuda" if ON_GPU else "cpu")
    wide[:, 7:47] = tensor(vectors)
    arrays = [tensor(array) for array in graph]
    for rows in (wide[:, 7:47], wide[:, 7:47].T.contiguous().T):
        np.testing.assert_allclose(
            plain(ops.retrofit_step(rows, *arrays, backend="triton")), expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("solver", ["rn", "ro", "sgc", "mf"])
def test_steps_on_a_device(solver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU gives is what the CPU gives, to rounding, with values that have no vector among them."""
    monkeypatch.setenv("LONGSPAN_BACKEND", "cpu")
    plan = Database(make(tmp_path / "x.db", script("staff"))).plan()
    base = inputs.normal((len(plan.nodes), 20), 1)
    base[::7] = np.nan
    absent = np.isnan(base[:, 0])
    settings = make_settings(solver, 1, 0.5, 3, None, 3, "anchor", 1e-6)
    expected = solve(plan, settings, base, absent, show_progress_bar=False)
    monkeypatch.setenv("LONGSPAN_BACKEND", "triton")
    # In the interpreter the system is made of NumPy arrays, which Triton does not take.
    monkeypatch.setattr("longspan.relations.system.group_sums", partial(ops.group_sums, backend="cpu"))
    system = make_system(make_graph(plan), settings, base, absent)
    device = "cuda" if ON_GPU else "cpu"
    got = run_on_device(system, base, absent, 3, device, lambda _: None, is_series=solver == "rn")
    np.testing.assert_allclose(got.vectors, expected.vectors, atol=2e-6)
    assert got.change == pytest.approx(expected.change, abs=1e-5) and got.steps == 3


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    plan = Database(make(tmp_path / "x.db", script("staff"))).plan()
    base = inputs.normal((len(plan.nodes), 4), 1)
    with pytest.raises(ValueError, match="device must be None or 'cpu', or 'cuda' or 'cuda:N', got 'tpu'"):
        retrofit(plan, base, device="tpu")
    with pytest.raises(ValueError, match="iterations='exact' is computed on the CPU"):
        retrofit(plan, base, solver="ro", iterations="exact", device="cuda")
    if not ON_GPU:
        with pytest.raises(ValueError, match="device is 'cuda:1', but torch .* finds no CUDA device"):
            retrofit(plan, base, device="cuda:1")
