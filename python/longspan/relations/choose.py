"""Which alpha and delta: tried on a labelled column by cross-validation, with what plain vectors reach beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.arguments import names_arguments
from longspan.integers import checked_int
from longspan.progress import progress_bar
from longspan.relations.plan import Column, Plan
from longspan.relations.retrofit import solve
from longspan.relations.ridge import fit_ridge, signs_of, unit_rows
from longspan.relations.schema import ColumnName
from longspan.relations.settings import SOLVERS, Settings, Solver, make_settings
from longspan.relations.vectors import Vectors, base_vectors

ALPHAS: Final = (1.0, 0.3, 0.1)
DELTAS: Final = (0.0, 1.0, 3.0)
MOST_LABELS: Final = 2000  # rows of a fit, whose cost is their cube
FEWEST_OF_A_CLASS: Final = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and what it reached.

    Args:
        name: "plain" for the base vectors, else the solver with its numbers.
        settings: what was tried; None for plain vectors.
        score: share of labels that were told right, mean over the folds.
        spread: standard deviation over the folds.
    """

    name: str
    settings: Settings | None
    score: float
    spread: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation says.

    Args:
        best: the setting with the highest score; plain vectors where nothing beats them.
        trials: all of them, best first.
        labelled: values that have one label.
        classes: different labels, rare ones left out.
        most_common: share of the commonest label, which is what guessing reaches.
    """

    best: Trial
    trials: list[Trial]
    labelled: int
    classes: int
    most_common: float

    def __str__(self) -> str:
        width = max(len(trial.name) for trial in self.trials)
        lines = [f"{trial.name:<{width}}  {trial.score:.3f} +- {trial.spread:.3f}" for trial in self.trials]
        head = f"{self.labelled} values with one of {self.classes} labels; always the commonest: {self.most_common:.3f}"
        return "\n".join([head, *lines])


@names_arguments
def choose(
    plan: Plan,
    vectors: Vectors,
    entity: str | ColumnName,
    label: str | ColumnName,
    *,
    solver: Solver = "rn",
    alphas: Sequence[float] = ALPHAS,
    deltas: Sequence[float] = DELTAS,
    gamma: float = 3.0,
    beta: float = 0.0,
    iterations: int | None = None,
    rivals: bool = True,
    folds: int = 5,
    seed: int = 0,
    show_progress_bar: bool | None = None,
) -> Choice:
    """Try settings at telling the values of one column from those of another, which they never see.

    The pairs of the relations between `entity` and `label` are the labels. The label's whole column is taken out, all
    is retrofitted once a setting, and a ridge classifier on vectors of unit length is tried by cross-validation on the
    entities that have exactly one label. Copies of the label (a code, a slug) must be excluded by the caller.

    Args:
        plan: with the label's column still in it.
        vectors: as for `retrofit`.
        entity: the column whose values have labels.
        label: the column of the labels.
        solver: "rn" or "ro".
        alphas: to try.
        deltas: to try; for RO those above alpha / 4 are left out, as its steps may diverge.
        gamma: pull to related values; what counts is its ratio to alpha and delta.
        beta: pull to the column's centroid.
        iterations: steps; None for the solver's own number.
        rivals: try "sgc" and "mf" as well.
        folds: of the cross-validation.
        seed: of the folds, and of the 2000 entities that are taken where there are more.
        show_progress_bar: None shows one on a terminal or in a notebook, if the work takes more than a second, and
            elsewhere a line every 30 seconds; False shows nothing.
    Returns: a `Choice`: print it.
    Raises: ValueError, no relation joins the two columns, or too few entities have a label.
    """
    folds = checked_int("choose: folds", folds)
    if folds < 2:
        raise ValueError(f"choose: folds must be at least 2, got {folds}")
    base, absent = base_vectors(plan.texts, vectors, show_progress_bar)
    nodes, labels = labels_of(plan, plan.column(entity), plan.column(label))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(nodes))[:MOST_LABELS]
    nodes, labels = nodes[order], labels[order]
    if len(nodes) < 2 * folds or len(np.unique(labels)) < 2:
        raise ValueError(
            f"choose: {len(nodes)} values have exactly one label of which {FEWEST_OF_A_CLASS} others have the same; "
            f"{2 * folds} of two kinds are the least for {folds} folds"
        )
    hidden, kept = _without(plan, plan.column(label))
    rows = np.searchsorted(kept, nodes)

    def tried(name: str, settings: Settings | None, found: np.ndarray) -> Trial:
        shares = _shares(unit_rows(found[rows]), labels, folds)
        return Trial(name, settings, float(np.mean(shares)), float(np.std(shares)))

    base, absent = base[kept], absent[kept]
    trials = [tried("plain", None, np.where(absent[:, None], np.float32(0), base))]
    settings = [
        make_settings(solver, alpha, beta, gamma, delta, iterations, "anchor", 1e-6)
        for alpha in alphas
        for delta in deltas
        if solver != "ro" or delta <= alpha / 4
    ]
    if rivals:
        names = [name for name in SOLVERS if name in ("sgc", "mf")]
        settings += [make_settings(name, 1, 0, 1, 0, None, "anchor", 1e-6) for name in names]
    with progress_bar(len(settings), "setting", show_progress_bar) as advance:
        for each in settings:
            trials.append(tried(_name(each), each, solve(hidden, each, base, absent, show_progress_bar=False).vectors))
            advance(1)
    trials.sort(key=lambda trial: -trial.score)
    counts = np.bincount(labels)
    return Choice(trials[0], trials, len(labels), int((counts > 0).sum()), float(counts.max() / len(labels)))


def labels_of(plan: Plan, entity: Column, label: Column) -> tuple[np.ndarray, np.ndarray]:
    """(n,) nodes of entities with exactly one label, ascending, and (n,) numbers of their labels; rare labels are left
    out. ValueError where no relation joins the columns."""
    ends = ((entity.table, entity.column), (label.table, label.column))
    parts = [r.pairs for r in plan.relations if (r.source, r.target) == ends]
    parts += [r.pairs[:, ::-1] for r in plan.relations if (r.target, r.source) == ends and ends[0] != ends[1]]
    if not parts:
        raise ValueError(f"choose: no relation joins {entity.name} and {label.name}")
    pairs = np.unique(np.concatenate(parts), axis=0)
    nodes, first, counts = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    nodes, labels = nodes[counts == 1], pairs[first[counts == 1], 1] - label.start
    often = np.bincount(labels, minlength=label.count)[labels] >= FEWEST_OF_A_CLASS
    found: np.ndarray = np.unique(labels[often], return_inverse=True)[1].reshape(-1)
    return nodes[often], found


def _without(plan: Plan, label: Column) -> tuple[Plan, np.ndarray]:
    """The plan without the label's column, and the nodes that stay."""
    relations = [copy.copy(relation) for relation in plan.relations]
    hidden = Plan(list(plan.columns), plan.texts, relations, origin=dict(plan.origin))
    hidden.exclude(label.name)
    kept = np.concatenate([np.arange(label.start), np.arange(label.stop, len(plan.nodes))])
    return hidden, kept


def _shares(x: np.ndarray, labels: np.ndarray, folds: int) -> list[float]:
    """The share of labels told right in each fold; rows come in random order already."""
    signs = signs_of(labels, int(labels.max()) + 1)
    shares = []
    for fold in range(folds):
        is_test = np.arange(len(x)) % folds == fold
        predict: Callable[[np.ndarray], np.ndarray] = fit_ridge(x[~is_test], signs[~is_test])
        shares.append(float((predict(x[is_test]).argmax(axis=1) == labels[is_test]).mean()))
    return shares


def _name(settings: Settings) -> str:
    how = settings.strengths
    if settings.solver in ("sgc", "mf"):
        return settings.solver
    return f"{settings.solver} alpha={how.alpha:g} beta={how.beta:g} gamma={how.gamma:g} delta={how.delta:g}"
