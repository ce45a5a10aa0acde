"""The solvers: RN and RO by steps, RO's exact optimum, and the two simple rivals, SGC and MF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.relations.blocks import MovingBlocks, row_blocks
from longspan.relations.system import System

POWER_STEPS: Final = 60  # of the check of convergence
POWER_COLUMNS: Final = 4  # random vectors that it follows
RADIUS_SLACK: Final = 1e-4  # of float32 rounding in that check

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Solved:
    """What a solver gives.

    Args:
        vectors: (n, d) f32.
        steps: how many it took; for the exact optimum, the most products that a block of columns took.
        change: the largest distance that a row moved in the last step; for the exact optimum, the largest relative
            residual of a column.
    """

    vectors: np.ndarray
    steps: int
    change: float


def run_series(system: System, base: np.ndarray, absent: np.ndarray, steps: int, advance: Advance) -> Solved:
    """RN: after each step every row is brought to unit length; a row of zeros stays one.

    Rows are kept as they come out of a step, with the factor that makes each of them unit length beside them.
    """
    blocks = MovingBlocks(base, absent)
    scale: np.ndarray | None = None
    change = 0.0
    for number in range(steps):
        squares = np.zeros(blocks.rows)
        moved = _Moved(blocks.rows) if number == steps - 1 else None
        for move in blocks.step():
            old, new = move.old, move.new
            system.step(old, base[:, move.columns], move.columns, new, scale=scale, squares=squares)
            if moved:
                moved.add(old, new)
        check_finite(squares, number)
        with np.errstate(divide="ignore"):
            unit = np.where(squares > 0, 1.0 / np.sqrt(squares), 0.0).astype(np.float32)
        if moved:
            change = moved.largest(scale, unit)
        scale = unit
        advance(1)
    return Solved(blocks.finish(scale), steps, change)


def run_steps(system: System, base: np.ndarray, absent: np.ndarray, steps: int, advance: Advance) -> Solved:
    """Steps without normalisation: RO's Jacobi steps, SGC, MF."""
    blocks = MovingBlocks(base, absent)
    change = 0.0
    for number in range(steps):
        squares = np.zeros(blocks.rows)
        moved = _Moved(blocks.rows) if number == steps - 1 else None
        for move in blocks.step():
            system.step(move.old, base[:, move.columns], move.columns, move.new, squares=squares)
            if moved:
                moved.add(move.old, move.new)
        check_finite(squares, number)
        if moved:
            change = moved.largest(None, None)
        advance(1)
    return Solved(blocks.finish(None), steps, change)


def run_exact(
    system: System,
    base: np.ndarray,
    start: np.ndarray,
    absent: np.ndarray,
    *,
    tolerance: float,
    most: int,
    advance: Advance,
) -> Solved:
    """RO's optimum, H w = A w' + B c, by conjugate gradients with D as preconditioner, a block of columns at a time.

    Args:
        system: of RO.
        base: (n, d) f32.
        start: (n, d) f32 to begin with.
        absent: (n,) bool, rows that begin as zeros.
        tolerance: of each column's residual, relative to its right side.
        most: products that a block may take.
        advance: told of each block that is done.
    Raises: ValueError, it does not settle.
    """
    assert system.divisor is not None, "RO has a divisor"
    blocks = MovingBlocks(start, absent)
    divisor = system.divisor[:, None]
    steps, worst = 0, 0.0
    for move in blocks.step():
        right = _right_side(system, base[:, move.columns], move.columns)

        def apply(x: np.ndarray) -> np.ndarray:
            return divisor * x - system.pulled(x)

        found, taken, residual = conjugate_gradients(
            apply, right, np.ascontiguousarray(move.old), divisor, tolerance=tolerance, most=most
        )
        move.new[...] = found
        steps, worst = max(steps, taken), max(worst, residual)
        advance(1)
    return Solved(blocks.finish(None), steps, worst)


def conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    x: np.ndarray,
    divisor: np.ndarray,
    *,
    tolerance: float,
    most: int,
) -> tuple[np.ndarray, int, float]:
    """Solve for all columns at once; products of vectors are added in float64.

    Returns: the solution, the number of products, the largest relative residual of a column.
    Raises: ValueError, it does not settle, or meets a direction in which the matrix does not curve upwards.
    """
    size = np.sqrt(_dots(right, right))
    size[size == 0] = 1.0
    residual = right - apply(x)
    towards = residual / divisor
    direction = towards.copy()
    product = _dots(residual, towards)
    for number in range(1, most + 1):
        worst = float((np.sqrt(_dots(residual, residual)) / size).max(initial=0.0))
        if worst <= tolerance:
            return x, number, worst
        turned = apply(direction)
        curve = _dots(direction, turned)
        if (curve[product > 0] <= 0).any() or not np.isfinite(curve).all():
            raise ValueError(
                "retrofit: the equations have no single optimum (a direction in which the objective falls for ever); "
                "take delta <= alpha / 4, which always has one"
            )
        length = np.divide(product, curve, out=np.zeros_like(product), where=curve > 0).astype(np.float32)
        x += length * direction
        residual -= length * turned
        np.divide(residual, divisor, out=towards)
        before, product = product, _dots(residual, towards)
        direction *= np.divide(product, before, out=np.zeros_like(product), where=before > 0).astype(np.float32)
        direction += towards
    raise ValueError(
        f"retrofit: conjugate gradients did not settle in {most} products (relative residual {worst:.1e}, wanted "
        f"{tolerance:.1e}); take a smaller delta, a larger tolerance, or iterations=10"
    )


def step_radius(system: System) -> float:
    """A lower bound of the spectral radius of RO's step, close to it. Above 1 the steps diverge.

    Random vectors go through the step and are measured by D, where the step is symmetric, so the bound holds.
    """
    assert system.divisor is not None, "RO has a divisor"
    rng = np.random.default_rng(0)
    divisor = system.divisor.astype(np.float64)[:, None]
    rows = len(divisor)
    radius = 0.0
    x = rng.standard_normal((rows, POWER_COLUMNS)).astype(np.float32)
    for _ in range(POWER_STEPS):
        length = np.sqrt((divisor * np.square(x, dtype=np.float64)).sum(axis=0))
        if not (length > 0).any():
            return radius
        x = system.pulled((x / np.where(length > 0, length, 1.0)).astype(np.float32)) / system.divisor[:, None]
        radius = float(np.sqrt((divisor * np.square(x, dtype=np.float64)).sum(axis=0)).max())
    return radius


def _right_side(system: System, base: np.ndarray, columns: slice) -> np.ndarray:
    """A w' + B c of these columns: what a step gives when all vectors are 0, before it divides."""
    assert system.divisor is not None, "RO has a divisor"
    right = np.empty((len(base), columns.stop - columns.start), np.float32)
    system.step(np.zeros_like(right), base, columns, right)
    right *= system.divisor[:, None]
    return right


class _Moved:
    """How far rows moved in one step, from products that are added in float64, block by block."""

    def __init__(self, rows: int) -> None:
        self._old, self._both, self._new = np.zeros(rows), np.zeros(rows), np.zeros(rows)

    def add(self, old: np.ndarray, new: np.ndarray) -> None:
        for rows in row_blocks(len(old)):
            a, b = old[rows].astype(np.float64), new[rows].astype(np.float64)
            self._old[rows] += np.einsum("ij,ij->i", a, a)
            self._both[rows] += np.einsum("ij,ij->i", a, b)
            self._new[rows] += np.einsum("ij,ij->i", b, b)

    def largest(self, old_scale: np.ndarray | None, new_scale: np.ndarray | None) -> float:
        a = 1.0 if old_scale is None else old_scale.astype(np.float64)
        b = 1.0 if new_scale is None else new_scale.astype(np.float64)
        squares = a * a * self._old - 2 * a * b * self._both + b * b * self._new
        return float(np.sqrt(max(squares.max(initial=0.0), 0.0)))


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(width,) float64: the product of each column with its like; 256 terms at a time in float32."""
    total = np.zeros(a.shape[1])
    for start in range(0, len(a), 256):
        total += np.einsum("ij,ij->j", a[start : start + 256], b[start : start + 256])
    return total


def check_finite(squares: np.ndarray, number: int) -> None:
    """ValueError after a step (from 0) whose vectors are no longer numbers."""
    if not np.isfinite(squares).all():
        raise ValueError(
            f"retrofit: vectors overflowed in step {number + 1}: the steps diverge; take delta <= alpha / 4"
        )
