"""How a retrofit is computed, as one record that a result keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Final, Literal, get_args

from longspan.integers import checked_int
from longspan.relations.system import Missing, Strengths

Solver = Literal["rn", "ro", "sgc", "mf"]
SOLVERS: Final[tuple[Solver, ...]] = get_args(Solver)
_STEPS: Final[Mapping[Solver, int]] = {"rn": 10, "ro": 10, "sgc": 2, "mf": 20}
_HAS_STRENGTHS: Final = ("rn", "ro")
SAFE_DELTA: Final = 0.25  # of alpha: up to it RO's objective is convex and its steps converge, whatever the database


@dataclass(frozen=True, slots=True)
class Settings:
    """The solver and its numbers.

    Args:
        solver: "rn" (series with normalisation), "ro" (the optimum), "sgc" or "mf" (plain smoothing).
        strengths: alpha, beta, gamma, delta.
        iterations: steps, or "exact" for RO's optimum.
        missing: what becomes of values without a base vector.
        tolerance: of the exact optimum.
    """

    solver: Solver
    strengths: Strengths
    iterations: int | Literal["exact"]
    missing: Missing
    tolerance: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self.strengths), **{k: v for k, v in asdict(self).items() if k != "strengths"}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """The settings that `as_json` gave."""
        strengths = Strengths(*(values[name] for name in ("alpha", "beta", "gamma", "delta")))
        iterations, missing = values["iterations"], values["missing"]
        return cls(values["solver"], strengths, iterations, missing, values["tolerance"])


def make_settings(
    solver: str,
    alpha: float,
    beta: float,
    gamma: float,
    delta: float | None,
    iterations: int | str | None,
    missing: str,
    tolerance: float,
) -> Settings:
    """Checked, with the solver's own defaults for None. ValueError or TypeError, which names the option."""
    if solver not in SOLVERS:
        raise ValueError(f"retrofit: solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if missing not in ("anchor", "free"):
        raise ValueError(f"retrofit: missing must be 'anchor' or 'free', got {missing!r}")
    if delta is None:
        delta = SAFE_DELTA * alpha if solver == "ro" and isinstance(alpha, Real) else 1.0
    for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma), ("delta", delta)):
        if not (isinstance(value, Real) and math.isfinite(value) and value >= 0):
            raise ValueError(f"retrofit: {name} must be a finite number from 0 up, got {value!r}")
    if solver in _HAS_STRENGTHS and alpha == 0 and beta == 0:
        raise ValueError("retrofit: alpha or beta must be above 0, or nothing keeps a value's meaning")
    if not (isinstance(tolerance, Real) and 0 < tolerance < 1):
        raise ValueError(f"retrofit: tolerance must be between 0 and 1, got {tolerance!r}")
    strengths = Strengths(float(alpha), float(beta), float(gamma), float(delta))
    return Settings(solver, strengths, _iterations(solver, iterations), missing, float(tolerance))


def _iterations(solver: Solver, iterations: int | str | None) -> int | Literal["exact"]:
    if iterations is None:
        return _STEPS[solver]
    if iterations == "exact":
        if solver != "ro":
            raise ValueError(f"retrofit: iterations='exact' is for solver='ro' alone, got solver={solver!r}")
        return "exact"
    steps = checked_int("retrofit: iterations", iterations)
    if steps < 1:
        raise ValueError(f"retrofit: iterations must be at least 1, or 'exact', got {steps}")
    return steps
