"""`longspan retro run` and `update`: vectors for a database, written where --out says."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.console.terminal import count, tell
from longspan.cli.embedding.options import ModelOptions, from_args
from longspan.cli.retro.plan import PlanRequest, make_plan
from longspan.relations import Database, Retrofitted, retrofit, stores
from longspan.relations.settings import Solver, make_settings
from longspan.vectors.origin import Origin, check_added

if TYPE_CHECKING:
    from longspan.encoder import Encoder
    from longspan.relations.update import Mode


@dataclass(frozen=True, slots=True)
class RunRequest(PlanRequest):
    """What `longspan retro run` was asked for; each field is an option of that name."""

    model: str | None
    vectors: str | None
    solver: Solver
    alpha: float
    beta: float
    gamma: float
    delta: float | None
    iterations: int | Literal["exact"] | None
    check: bool
    out: str | None
    table: str | None
    force: bool


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """What `longspan retro update` was asked for."""

    database: str
    model: str | None
    mode: Mode
    origin: str | None
    out: str
    table: str | None
    json: bool


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run did, as `--json` prints it."""

    output: str | None
    nodes: int
    relations: int
    pairs: int
    dim: int
    solver: str
    steps: int
    change: float
    seconds: float  # of solving


def run_whole(request: RunRequest, args: argparse.Namespace) -> None:
    """Plan, embed, solve, write; what cannot work is told before anything is computed."""
    how = request
    make_settings(how.solver, how.alpha, how.beta, how.gamma, how.delta, how.iterations, "anchor", 1e-6)
    if request.out is not None:
        stores.check_place(request.out, table=request.table, force=request.force)
    vectors = _given(request.vectors) if request.vectors else None
    encoder = None if request.model is None else from_args(ModelOptions, args).open(request.model)
    plan = make_plan(request)
    if not len(plan.nodes):
        raise CommandError(f"{plan.origin['database']}: no text column holds any text; nothing to retrofit")
    given = vectors if vectors is not None else encoder
    assert given is not None, "argparse wants one of the two"
    result = retrofit(
        plan,
        given,
        solver=how.solver,
        alpha=how.alpha,
        beta=how.beta,
        gamma=how.gamma,
        delta=how.delta,
        iterations=how.iterations,
        check=how.check,
    )
    if request.out is not None:
        result.save(request.out, table=request.table, force=request.force)
    _report(result, request.out, as_json=request.json)


def run_update(request: UpdateRequest, args: argparse.Namespace) -> None:
    """Read the old result, look at the database, write the new one."""
    stores.check_place(request.out, table=request.table, force=True)
    old = Retrofitted.load(request.origin or request.out, table=request.table if request.origin is None else None)
    model = request.model or old.model
    encoder = None if model is None else _Later(model, from_args(ModelOptions, args), old.origin)
    result = old.update(Database(request.database), encoder, mode=request.mode)
    report = result.report
    assert report is not None, "an update says what it did"
    result.save(request.out, table=request.table, force=True)
    ignored = f", {count(report.ignored_pairs, 'new pair')} of old values left for a refresh" * bool(
        report.ignored_pairs
    )
    words = (
        f"{request.out}: {count(len(result.nodes), 'value')} ({report.added} new, {report.removed} gone, "
        f"{report.embedded} embedded{ignored})"
    )
    tell({"output": request.out, "nodes": len(result.nodes), **asdict(report)}, words, as_json=request.json)


class _Later:
    """An encoder whose model is loaded when the first text comes: an update without new texts needs none."""

    def __init__(self, model: str, options: ModelOptions, kept: Origin | None) -> None:
        self.name, self._options, self._kept = model, options, kept
        self._encoder: Encoder | None = None

    def encode(self, texts: list[str], *, show_progress_bar: bool | None = None) -> object:
        """As the encoder's own."""
        if self._encoder is None:
            self._encoder = self._options.open(self.name)
            check_added("update", self._kept, self._encoder.origin)
        return self._encoder.encode(texts, show_progress_bar=show_progress_bar)


def _given(name: str) -> np.ndarray:
    try:
        found = np.load(name, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CommandError(f"{name} cannot be read as .npy: {error}") from error
    if not isinstance(found, np.ndarray):
        raise CommandError(f"{name} holds several arrays; give a .npy file of one")
    return found


def _report(result: Retrofitted, out: str | None, *, as_json: bool) -> None:
    summary = RunSummary(
        output=out,
        nodes=len(result.nodes),
        relations=len(result.plan.relations),
        pairs=sum(relation.count for relation in result.plan.relations),
        dim=int(result.vectors.shape[1]),
        solver=result.settings.solver,
        steps=result.steps,
        change=result.change,
        seconds=result.seconds,
    )
    place = "nothing written (no --out)" if out is None else out
    words = (
        f"{place}: {count(summary.nodes, 'value')} of {summary.dim} dimensions, {count(summary.pairs, 'pair')} in "
        f"{count(summary.relations, 'relation')}; {summary.solver}, {count(summary.steps, 'step')} in "
        f"{summary.seconds:.1f} s"
    )
    tell(asdict(summary), words, as_json=as_json)
