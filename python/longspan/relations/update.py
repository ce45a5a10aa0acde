"""New rows, changed rows, rows that are gone: from an old result and what the database holds now to a new result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from longspan.arguments import names_arguments
from longspan.relations.blocks import row_blocks
from longspan.relations.database import Database
from longspan.relations.graph import make_graph
from longspan.relations.plan import Plan, Relation
from longspan.relations.result import Retrofitted
from longspan.relations.retrofit import MOST_PRODUCTS, check_divisors, make_system, solve
from longspan.relations.settings import Settings
from longspan.relations.solvers import Solved, conjugate_gradients
from longspan.relations.system import System
from longspan.relations.vectors import Vectors, base_vectors, model_of
from longspan.vectors.origin import check_added

Mode = Literal["refresh", "new"]


@dataclass(frozen=True, slots=True)
class Update:
    """What an update did.

    Args:
        mode: "refresh" or "new".
        added: nodes that are new.
        removed: nodes that are gone.
        embedded: nodes whose base vector was not known before.
        ignored_pairs: with "new", pairs between old nodes that are new; they count from the next refresh on.
    """

    mode: Mode
    added: int
    removed: int
    embedded: int
    ignored_pairs: int


@names_arguments
def update(
    old: Retrofitted,
    source: Database | Plan,
    vectors: Vectors | None = None,
    *,
    mode: Mode = "refresh",
    show_progress_bar: bool | None = None,
) -> Retrofitted:
    """Take up what the database holds now.

    "refresh" solves anew with the new relations; only texts that are new are embedded. The result is that of a run from
    scratch: to the tolerance for the exact optimum, which is looked for from the old vectors on, else bit for bit.
    "new" holds the old rows fixed and solves for new nodes alone, with the weights of the new relations: quick, and
    exact where old nodes would not have moved. A new pair of two old nodes is ignored until the next refresh.

    Args:
        old: the result so far.
        source: the `Database`, which is planned as `old` was; or a plan of your own.
        vectors: an encoder for texts that are new, or (n, d) in the order of the new plan's nodes, whose rows of NaN
            are taken from `old`. None where no text is new.
        mode: "refresh" or "new"; the latter is for solvers "rn" and "ro".
        show_progress_bar: None shows one on a terminal, if the work takes more than a second.
    Returns: the new result, whose `report` says what was new, gone, embedded and ignored; `old` stays as it is.
    Raises: ValueError, `vectors` are needed and not given, do not fit, or are another model's; as `retrofit` and
        `Database.plan` do.
    """
    if mode not in ("refresh", "new"):
        raise ValueError(f"update: mode must be 'refresh' or 'new', got {mode!r}")
    if mode == "new" and old.settings.solver not in ("rn", "ro"):
        raise ValueError(f"update: mode 'new' is for solvers rn and ro; refresh those of {old.settings.solver}")
    model, origin = model_of(vectors)
    check_added("update", old.origin, origin)
    plan = replan(source, old.plan) if isinstance(source, Database) else source
    before = match(old.plan, plan)
    is_new = before < 0
    base, embedded = _bases(old, plan, before, vectors, show_progress_bar)
    absent = np.isnan(base).all(axis=1)
    started = time.perf_counter()
    if mode == "refresh":
        start = _starting(old, base, absent, before) if old.settings.iterations == "exact" else None
        solved = solve(plan, old.settings, base, absent, start=start, check=False, show_progress_bar=show_progress_bar)
    else:
        solved = _solve_new(plan, old, base, absent, before)
    result = Retrofitted(
        plan=plan,
        vectors=solved.vectors,
        base=base,
        settings=old.settings,
        steps=solved.steps,
        change=solved.change,
        seconds=time.perf_counter() - started,
        model=old.model or model,
        origin=old.origin or origin,
    )
    removed = len(old.nodes) - int((~is_new).sum())
    ignored = _new_pairs_of_old_nodes(old.plan, plan, before) if mode == "new" else 0
    result.report = Update(mode, int(is_new.sum()), removed, embedded, ignored)
    return result


def replan(database: Database, old: Plan) -> Plan:
    """A plan made as the old one was, with its later exclusions, weights and own relations."""
    origin: dict[str, Any] = old.origin
    exclude = [name if isinstance(name, str) else (name[0], name[1]) for name in origin.get("exclude", [])]
    plan = database.plan(exclude, min_edges=origin.get("min_edges", 2), link_tables=origin.get("link_tables", "pure"))
    known = {column.name for column in plan.columns} | {relation.name for relation in plan.relations}
    later = [name if isinstance(name, str) else ".".join(name) for name in origin.get("excluded_later", [])]
    plan.exclude(*(name for name in later if name in known))
    weights = {relation.name: relation.weight for relation in old.relations if relation.kind != "own"}
    for relation in plan.relations:
        relation.weight = weights.get(relation.name, relation.weight)
    moved = _moved(match(old, plan), len(old.nodes))
    for relation in old.relations:
        if relation.kind == "own":
            pairs = moved[relation.pairs]
            pairs = pairs[(pairs >= 0).all(axis=1)]
            own = Relation("own", relation.source, relation.target, pairs, weight=relation.weight)
            plan.relations.append(own)
    return plan


def match(old: Plan, new: Plan) -> np.ndarray:
    """(new nodes,) int64, the number that each had in the old plan, -1 for none."""
    by_name = {(column.table, column.column): column for column in old.columns}
    before = np.full(len(new.nodes), -1, np.int64)
    for column in new.columns:
        then = by_name.get((column.table, column.column))
        if then is not None:
            numbers = {text: number for number, text in enumerate(old.texts[then.start : then.stop], then.start)}
            found = (numbers.get(text, -1) for text in new.texts[column.start : column.stop])
            before[column.start : column.stop] = np.fromiter(found, np.int64, column.count)
    return before


def _bases(
    old: Retrofitted, plan: Plan, before: np.ndarray, vectors: Vectors | None, show_progress_bar: bool | None
) -> tuple[np.ndarray, int]:
    """Base vectors in the new order, and how many nodes' were not known: by node, else by text in any column."""
    dim = old.base.shape[1]
    base = np.full((len(plan.nodes), dim), np.nan, np.float32)
    is_old = before >= 0
    base[is_old] = old.base[before[is_old]]
    if vectors is not None and not hasattr(vectors, "encode"):
        given, absent = base_vectors(plan.texts, vectors, False)
        _check_dim(given.shape[1], dim)
        base[~absent] = given[~absent]
        return base, int((~absent & ~is_old).sum())
    new = np.flatnonzero(~is_old)
    by_text: dict[str, int] = {}
    for number, text in enumerate(old.plan.texts):
        by_text.setdefault(text, number)
    known = np.array([by_text.get(plan.texts[node], -1) for node in new.tolist()], np.int64)
    base[new[known >= 0]] = old.base[known[known >= 0]]
    unknown = new[known < 0]
    if len(unknown):
        if vectors is None:
            table, column, text = plan.nodes[int(unknown[0])]
            raise ValueError(
                f"update: {len(unknown)} values are new, such as {table}.{column} {text!r}; give an encoder or vectors"
            )
        found, _ = base_vectors([plan.texts[node] for node in unknown.tolist()], vectors, show_progress_bar)
        _check_dim(found.shape[1], dim)
        base[unknown] = found
    return base, len(unknown)


def _check_dim(got: int, wanted: int) -> None:
    if got != wanted:
        raise ValueError(f"update: new vectors have {got} dimensions, but the old ones {wanted}; take the same model")


def _starting(old: Retrofitted, base: np.ndarray, absent: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Old vectors, and base vectors where there is no old one. A node without a vector begins at 0, where a part of
    the graph in which nobody has one must stay."""
    start = np.where(absent[:, None], np.float32(0), base)
    is_old = (before >= 0) & ~absent
    start[is_old] = old.vectors[before[is_old]]
    return start


def _solve_new(plan: Plan, old: Retrofitted, base: np.ndarray, absent: np.ndarray, before: np.ndarray) -> Solved:
    """Rows of new nodes, with the others where they were."""
    graph = make_graph(plan)
    system = make_system(graph, old.settings, base, absent)
    if old.settings.solver == "ro":
        check_divisors(plan, system, old.settings.strengths.delta)
    vectors = np.zeros_like(base)
    is_old = before >= 0
    vectors[is_old] = old.vectors[before[is_old]]
    nodes = np.flatnonzero(~is_old)
    if not len(nodes):
        return Solved(vectors, 0, 0.0)
    # What stays the same in every step: base vectors, centroids, and all that the old rows give.
    rows = np.where(absent[nodes, None], np.float32(0), base[nodes])
    fixed = system.anchor[nodes, None] * rows + system.pulled(vectors, nodes, with_centroids=True)
    within = system.restricted(nodes, len(plan.nodes))
    if old.settings.solver == "ro":
        solved = _optimum_of(within, fixed, rows, old.settings)
    else:
        solved = _series_of(within, fixed, rows, old.settings)
    vectors[nodes] = solved.vectors
    return Solved(vectors, solved.steps, solved.change)


def _optimum_of(within: System, fixed: np.ndarray, start: np.ndarray, settings: Settings) -> Solved:
    assert within.divisor is not None, "RO has a divisor"
    divisor = within.divisor[:, None]
    tolerance = settings.tolerance

    def apply(x: np.ndarray) -> np.ndarray:
        return divisor * x - within.pulled(x)

    return Solved(*conjugate_gradients(apply, fixed, start.copy(), divisor, tolerance=tolerance, most=MOST_PRODUCTS))


def _series_of(within: System, fixed: np.ndarray, start: np.ndarray, settings: Settings) -> Solved:
    rows, change = start, 0.0
    assert settings.iterations != "exact", "exact is for RO"
    for _ in range(settings.iterations):
        fresh = fixed + within.pulled(rows)
        lengths = np.linalg.norm(fresh, axis=1, keepdims=True)
        np.divide(fresh, lengths, out=fresh, where=lengths > 0)
        change = max(float(np.linalg.norm(fresh[part] - rows[part], axis=1).max()) for part in row_blocks(len(rows)))
        rows = fresh
    return Solved(rows, settings.iterations, change)


def _moved(before: np.ndarray, old_size: int) -> np.ndarray:
    """(old nodes,) int32, each one's new number, -1 for none."""
    moved = np.full(old_size, -1, np.int32)
    is_old = before >= 0
    moved[before[is_old]] = np.flatnonzero(is_old)
    return moved


def _new_pairs_of_old_nodes(old: Plan, new: Plan, before: np.ndarray) -> int:
    """How many pairs between two old nodes no relation of that name had before."""
    size = max(len(old.nodes), 1)
    then = {
        relation.name: relation.pairs[:, 0].astype(np.int64) * size + relation.pairs[:, 1]
        for relation in (*old.dropped, *old.relations)
    }
    count = 0
    for relation in new.relations:
        pairs = before[relation.pairs]
        pairs = pairs[(pairs >= 0).all(axis=1)]
        keys = pairs[:, 0] * size + pairs[:, 1]
        count += int((~np.isin(keys, then.get(relation.name, np.empty(0, np.int64)))).sum())
    return count
