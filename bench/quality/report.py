"""Results beside what is known: a table for people and an object for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.quality.baselines import ROUNDING, Baseline

CELL: Final = 22  # characters of a measure's column


@dataclass(frozen=True, slots=True)
class Result:
    """What one ranking of one set reached."""

    name: str  # of the set
    ranking: str
    title: str  # of the row
    figures: Mapping[str, float]  # by measure
    known: Mapping[str, float]  # of the same measures, where there is a baseline
    limit: float | None  # how far from `known` a right run may be

    @classmethod
    def against(
        cls, baseline: Baseline | None, name: str, ranking: str, title: str, figures: Mapping[str, float]
    ) -> Result:
        """The result beside what the baseline, if there is one, says of the set and the ranking."""
        known = baseline.known(name, ranking) if baseline else {}
        return cls(name, ranking, title, figures, known, baseline.limits.get(ranking) if baseline else None)

    def difference(self, measure: str) -> float | None:
        """Figure minus baseline; None where one of them is not there."""
        if measure not in self.known or measure not in self.figures:
            return None
        return self.figures[measure] - self.known[measure]

    def is_off(self, measure: str) -> bool:
        """Whether the difference is more than the limit."""
        difference = self.difference(measure)
        return difference is not None and self.limit is not None and abs(difference) > self.limit + ROUNDING

    def as_json(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "set": self.name,
            "ranking": self.ranking,
            "figures": dict(self.figures),
            "baseline": dict(self.known),
            "limit": self.limit,
            "off": [measure for measure in self.figures if self.is_off(measure)],
        }


def table(heading: str, results: Sequence[Result], measures: Sequence[str]) -> str:
    """A row a result, with the figure, the baseline and the difference of each measure; ! where that is too large."""
    width = max(len(heading), *(len(result.title) for result in results))
    lines = [" | ".join([heading.ljust(width), *(f"{measure:<8} known    diff".ljust(CELL) for measure in measures)])]
    for result in results:
        lines.append(" | ".join([result.title.ljust(width), *(_cell(result, measure) for measure in measures)]))
    return "\n".join(line.rstrip() for line in lines)


def verdict(results: Sequence[Result]) -> tuple[str, bool]:
    """One line that says whether the results agree with the baseline, and whether none is off."""
    compared = [(result, measure) for result in results for measure in result.figures if measure in result.known]
    off = [f"{result.name} {result.ranking} {measure}" for result, measure in compared if result.is_off(measure)]
    if not compared:
        return "no baseline is known for these weights and sets", True
    if off:
        return f"{len(off)} of {len(compared)} figures are off their baseline: {', '.join(off)}", False
    largest = max(abs(result.difference(measure) or 0.0) for result, measure in compared)
    return f"all {len(compared)} known figures agree within their limits; largest difference {largest:.4f}", True


def _cell(result: Result, measure: str) -> str:
    figure, difference = result.figures.get(measure), result.difference(measure)
    if figure is None:
        return "-".ljust(CELL)
    if difference is None:
        return f"{figure:.4f} -".ljust(CELL)
    rounded = round(difference, 4) + 0.0  # the sum turns -0.0 into 0.0
    return f"{figure:.4f} {result.known[measure]:.4f} {rounded:+.4f}{'!' if result.is_off(measure) else ' '}"
