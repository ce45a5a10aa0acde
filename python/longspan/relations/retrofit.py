"""`retrofit`: a plan and the vectors of its texts to vectors that also carry its relations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from longspan.arguments import names_arguments
from longspan.errors import warn_caller
from longspan.progress import progress_bar
from longspan.relations.blocks import WIDTH, row_blocks
from longspan.relations.graph import Graph, make_graph
from longspan.relations.on_device import check_device, run_on_device
from longspan.relations.plan import Plan
from longspan.relations.result import Retrofitted
from longspan.relations.settings import SAFE_DELTA, Settings, Solver, make_settings
from longspan.relations.solvers import RADIUS_SLACK, Solved, run_exact, run_series, run_steps, step_radius
from longspan.relations.system import Missing, System, faruqui_system, optimum_system, series_system, smoothing_system
from longspan.relations.vectors import Vectors, base_vectors, model_of

MOST_PRODUCTS: Final = 1000  # of conjugate gradients; databases met so far took 25 to 45
_GREW: Final = 10.0  # times the longest base vector: from here on a warning


@names_arguments
def retrofit(
    plan: Plan,
    vectors: Vectors,
    *,
    solver: Solver = "rn",
    alpha: float = 1.0,
    beta: float = 0.0,
    gamma: float = 3.0,
    delta: float | None = None,
    iterations: int | Literal["exact"] | None = None,
    missing: Missing = "anchor",
    tolerance: float = 1e-6,
    check: bool = True,
    device: str | None = None,
    show_progress_bar: bool | None = None,
) -> Retrofitted:
    """Give every node of a plan a vector that keeps close to its base vector and to those of related nodes.

    "rn", the default: v <- z / |z|, z_i = alpha v'_i + beta_i c_i + sum over relations r of i of
        [ gamma_i^r (sum of related v_j) - delta / ((|R_i| + 1) |T_r|) (sum of all targets v_k of r) ].
    "ro": steps towards, or with iterations="exact" the very minimum of
        sum of alpha |v_i - v'_i|^2 + beta_i |v_i - c_i|^2 + gamma_i^r |v_i - v_j|^2 over related pairs
        - delta_i^r |v_i - v_k|^2 over unrelated pairs of a relation's sources and targets.
    "sgc": two steps of D^-1/2 (A + I) D^-1/2; "mf": Faruqui's v_i <- (v'_i + mean of neighbours) / 2; both on all
        relations as one graph, without the four numbers.

    beta_i = beta / (|R_i| + 1), gamma_i^r = gamma / (od_r(i) (|R_i| + 1)) and delta_i^r = delta / (mc(r) mr(r)) are
    scaled so that the numbers mean the same on a hundred rows and on a million; a relation may have its own weight.

    Args:
        plan: nodes and relations, from `Database.plan`.
        vectors: an `Encoder`, which gets each distinct text once; or (n, d) numbers in the order of `plan.nodes`, taken
            without a copy if they are float32, with rows of NaN for nodes that have no vector.
        solver: "rn", "ro", "sgc" or "mf".
        alpha: pull to the base vector.
        beta: pull to the mean of the column's base vectors.
        gamma: pull to related nodes.
        delta: push from a relation's other nodes; None for 1 in RN, alpha / 4 in RO, up to which RO always converges.
        iterations: steps; None for 10 (2 for SGC, 20 for MF); "exact" solves RO by conjugate gradients.
        missing: nodes without a vector are drawn to 0 ("anchor") or to their neighbours alone ("free").
        tolerance: of "exact": each column's residual, relative to its right side.
        check: refuse RO's steps where they would diverge; False runs them, as the published delta = 3 needs.
        device: None or "cpu"; "cuda" or "cuda:N" takes the steps on a GPU (`longspan[cuda]`), in 3 n d floats there.
        show_progress_bar: None shows one on a terminal or in a notebook, if the work takes more than a second, and
            elsewhere a line every 30 seconds; False shows nothing.
    Returns: a `Retrofitted`, whose `.vectors` are (n, d) float32: rows of unit length (or 0) from RN, of any length
        from the others. The same bits for any number of threads.
    Raises: ValueError, an argument breaks a line above, or RO would diverge: the text says which delta would do.
    Source: RETRO, arXiv:1911.12674; Faruqui et al., arXiv:1411.4166; SGC, arXiv:1902.07153.
    """
    settings = make_settings(solver, alpha, beta, gamma, delta, iterations, missing, tolerance)
    if device not in (None, "cpu"):
        check_device(str(device), settings.iterations)
    base, absent = base_vectors(plan.texts, vectors, show_progress_bar)
    model, origin = model_of(vectors)
    started = time.perf_counter()
    solved = solve(plan, settings, base, absent, check=check, device=device, show_progress_bar=show_progress_bar)
    return Retrofitted(
        plan=plan,
        vectors=solved.vectors,
        base=base,
        settings=settings,
        steps=solved.steps,
        change=solved.change,
        seconds=time.perf_counter() - started,
        model=model,
        origin=origin,
    )


def solve(
    plan: Plan,
    settings: Settings,
    base: np.ndarray,
    absent: np.ndarray,
    *,
    start: np.ndarray | None = None,
    check: bool = True,
    device: str | None = None,
    show_progress_bar: bool | None = None,
) -> Solved:
    """The vectors; `start` is where the exact optimum is looked for first."""
    graph = make_graph(plan)
    system = make_system(graph, settings, base, absent)
    if settings.solver == "ro":
        check_divisors(plan, system, settings.strengths.delta)
        if (
            settings.iterations != "exact"
            and settings.strengths.delta > SAFE_DELTA * settings.strengths.alpha
            and check
        ):
            _check_radius(system, settings)
    is_exact = settings.iterations == "exact"
    total = -(-base.shape[1] // WIDTH) if is_exact else settings.iterations
    with progress_bar(int(total), "block" if is_exact else "step", show_progress_bar, what="retrofitting") as advance:
        solved = _run(system, settings, base, absent, start, device, advance)
    if settings.solver == "ro":
        _tell_of_growth(solved.vectors, base)
    return solved


def make_system(graph: Graph, settings: Settings, base: np.ndarray, absent: np.ndarray) -> System:
    """The solver's equations."""
    if settings.solver == "rn":
        return series_system(graph, base, absent, settings.strengths)
    if settings.solver == "ro":
        return optimum_system(graph, base, absent, settings.strengths, settings.missing)
    return smoothing_system(graph) if settings.solver == "sgc" else faruqui_system(graph, absent, settings.missing)


def check_divisors(plan: Plan, system: System, delta: float) -> None:
    """ValueError where repulsion outweighs all that holds a node: says whose, and what delta would do."""
    assert system.divisor is not None, "RO has a divisor"
    at = int(np.argmin(system.divisor)) if len(system.divisor) else 0
    if len(system.divisor) == 0 or system.divisor[at] > 0:
        return
    table, column, text = plan.nodes[at]
    pushed = system.repulsion > 0
    most = ((system.divisor[pushed] + delta * system.repulsion[pushed]) / system.repulsion[pushed]).min()
    raise ValueError(
        f"retrofit: delta is too large: repulsion outweighs what holds {table}.{column} {text!r} (its divisor would be "
        f"{system.divisor[at]:.3g}); below {most:.3g} no divisor is 0 or less, and up to alpha / 4 all converges"
    )


def _check_radius(system: System, settings: Settings) -> None:
    radius = step_radius(system)
    if radius > 1 + RADIUS_SLACK:
        raise ValueError(
            f"retrofit: RO with delta = {settings.strengths.delta:g} diverges on this database (each step multiplies "
            f"some part of the vectors by {radius:.2f}); take delta <= alpha / 4 = "
            f"{SAFE_DELTA * settings.strengths.alpha:g}, which converges on every database, or solver='rn', or "
            "check=False for the published truncated run"
        )


def _run(
    system: System,
    settings: Settings,
    base: np.ndarray,
    absent: np.ndarray,
    start: np.ndarray | None,
    device: str | None,
    advance: Callable[[int], object],
) -> Solved:
    if settings.iterations == "exact":
        first, empty = (base, absent) if start is None else (start, np.zeros(len(start), bool))
        tolerance = settings.tolerance
        return run_exact(system, base, first, empty, tolerance=tolerance, most=MOST_PRODUCTS, advance=advance)
    if device not in (None, "cpu"):
        is_series, steps = settings.solver == "rn", settings.iterations
        return run_on_device(system, base, absent, steps, str(device), advance, is_series=is_series)
    run = run_series if settings.solver == "rn" else run_steps
    return run(system, base, absent, settings.iterations, advance)


def _tell_of_growth(vectors: np.ndarray, base: np.ndarray) -> None:
    longest, grown = _longest(base), _longest(vectors)
    if grown > _GREW * longest > 0:
        warn_caller(
            f"retrofit: the longest vector is {grown / longest:.0f} times the longest base vector: RO's steps diverge "
            "with this delta"
        )


def _longest(rows: np.ndarray) -> float:
    """The largest length of a row, of those that are not NaN."""
    lengths = (np.einsum("ij,ij->i", rows[part], rows[part]) for part in row_blocks(len(rows)))
    return max((math.sqrt(np.nan_to_num(each).max()) for each in lengths), default=0.0)
