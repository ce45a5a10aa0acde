"""Neighbours by cosine: of a value, of a text that is none, and within a column, as link prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from longspan.integers import checked_int
from longspan.relations.vectors import is_encoder, model_of
from longspan.vectors.origin import check_asked

if TYPE_CHECKING:
    from longspan.relations.plan import Plan
    from longspan.relations.result import Retrofitted
    from longspan.relations.schema import ColumnName
    from longspan.relations.vectors import TextEncoder

_ROWS_AT_A_TIME: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class Hit:
    """A value that was found.

    Args:
        node: its number.
        table: its table.
        column: its column.
        text: the value.
        score: cosine of its vector and what was asked for.
        is_linked: whether a relation joins it to what was asked for.
    """

    node: int
    table: str
    column: str
    text: str
    score: float
    is_linked: bool = False


def neighbors(result: Retrofitted, node: int, k: int = 10, *, within: str | ColumnName | None = None) -> list[Hit]:
    """The k nodes whose vectors are nearest to that of `node`, itself left out, best first; equal ones by number.

    Args:
        result: what to look in.
        node: whose neighbours.
        k: how many.
        within: only nodes of this column.
    Raises: ValueError, no such node or column; TypeError, `k` is no whole number.
    """
    node = _checked_node(result, node)
    return _nearest(result, result.vectors[node], k, within, leave_out={node}, linked=linked_to(result.plan, node))


def find(
    result: Retrofitted, text: str, encoder: TextEncoder, k: int = 10, *, within: str | ColumnName | None = None
) -> list[Hit]:
    """The k nodes nearest to a text that need not be a value: it is placed where a value without relations lies.

    That is (alpha v' + beta c) / |.|, c the centroid of the column `within`, if there is one: the solvers' own formula.

    Raises: ValueError, the encoder's vectors have another dimension. Warns (OriginWarning), another model made the
        result's.
    """
    if not is_encoder(encoder):
        raise TypeError(f"find: encoder must be an Encoder, got {type(encoder).__name__}")
    check_asked("find", result.origin, model_of(encoder)[1])
    base = np.asarray(encoder.encode([text]), np.float32).reshape(-1)
    if base.shape != (result.vectors.shape[1],):
        raise ValueError(
            f"find: the encoder gives {len(base)} dimensions, but the vectors have {result.vectors.shape[1]}; take the "
            "model that they were made with"
        )
    return _nearest(result, place(result, base, within), k, within, leave_out=set(), linked=set())


def complete(result: Retrofitted, node: int, target: str | ColumnName, k: int = 10, *, known: bool = True) -> list[Hit]:
    """The k values of the column `target` that go best with `node`: link prediction by cosine.

    Args:
        result: what to look in.
        node: the value that is to be completed.
        target: the column of the answers.
        k: how many.
        known: whether values that a relation joins to `node` already may be answers; a hit says whether one does.
    """
    node = _checked_node(result, node)
    linked = linked_to(result.plan, node)
    leave_out = {node} if known else {node} | linked
    return _nearest(result, result.vectors[node], k, target, leave_out=leave_out, linked=linked)


def place(result: Retrofitted, base: np.ndarray, within: str | ColumnName | None) -> np.ndarray:
    """(d,) where a value with this base vector and no relation would lie."""
    how = result.settings.strengths
    if result.settings.solver not in ("rn", "ro") or within is None or not how.beta:
        return base
    column = result.plan.column(within)
    rows = result.base[column.start : column.stop]
    rows = rows[~np.isnan(rows).any(axis=1)]
    centroid = rows.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(len(base))
    total = how.alpha * base.astype(np.float64) + how.beta * centroid
    return (total / (how.alpha + how.beta)).astype(np.float32)


def linked_to(plan: Plan, node: int) -> set[int]:
    """The nodes that some relation joins to this one."""
    found: set[int] = set()
    for relation in plan.relations:
        if relation.weight:
            left, right = relation.pairs[:, 0], relation.pairs[:, 1]
            found.update(right[left == node].tolist(), left[right == node].tolist())
    return found


def _checked_node(result: Retrofitted, node: int) -> int:
    node = checked_int("node", node)
    if not 0 <= node < len(result.vectors):
        raise ValueError(f"node must be from 0 to below {len(result.vectors)}, got {node}")
    return node


def _nearest(
    result: Retrofitted,
    query: np.ndarray,
    k: int,
    within: str | ColumnName | None,
    *,
    leave_out: set[int],
    linked: set[int],
) -> list[Hit]:
    k = checked_int("k", k)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    column = None if within is None else result.plan.column(within)
    start, stop = (0, len(result.vectors)) if column is None else (column.start, column.stop)
    scores = np.concatenate([np.empty(0), *_cosines(result.vectors[start:stop], query)])
    outside = [node - start for node in leave_out if start <= node < stop]
    scores[outside] = -math.inf
    wanted = min(k, len(scores) - len(outside))
    order = np.argsort(-scores, kind="stable")[:wanted] if wanted > 0 else np.empty(0, np.int64)
    found = []
    for node in (order + start).tolist():
        table, name, text = result.nodes[node]
        found.append(Hit(node, table, name, text, float(scores[node - start]), node in linked))
    return found


def _cosines(rows: np.ndarray, query: np.ndarray) -> Iterator[np.ndarray]:
    """0 where either vector is."""
    size = float(np.linalg.norm(query))
    unit = query / size if size > 0 else query
    for begin in range(0, len(rows), _ROWS_AT_A_TIME):
        part = rows[begin : begin + _ROWS_AT_A_TIME]
        lengths = np.sqrt(np.einsum("ij,ij->i", part, part))
        yield np.divide(part @ unit, lengths, out=np.zeros(len(part)), where=lengths > 0)
