"""Two runs of the same cases: what became slower, and how far the ratios to the peers agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from .case import OURS
from .results import Entry, Report
from .table import quantity

THRESHOLD: Final = 0.10  # a change by more than this is told
MACHINE: Final = ("gpu", "cpu", "cores", "isa", "threads", "form")  # what must be alike for times to be compared

Verdict = Literal["same", "slower", "faster", "gone", "new", "refused"]


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant at one case in both runs."""

    case: str
    contestant: str
    before: Entry | None
    after: Entry | None
    threshold: float

    @property
    def change(self) -> float | None:
        """Of the time or memory, relative to before; None where one run has none."""
        if self.before is None or self.after is None or self.before.value is None or self.after.value is None:
            return None
        return self.after.value.median / self.before.value.median - 1

    @property
    def ratio_change(self) -> float | None:
        """Of the ratio to ours: a slower machine moves times, and ratios much less."""
        if self.before is None or self.after is None or self.before.ratio is None or self.after.ratio is None:
            return None
        return self.after.ratio.median / self.before.ratio.median - 1

    @property
    def least_ratio_change(self) -> float | None:
        """Of the ratio of the shortest calls, which others on the machine disturb least."""
        if self.before is None or self.after is None or not self.before.least_ratio or not self.after.least_ratio:
            return None
        return self.after.least_ratio / self.before.least_ratio - 1

    @property
    def verdict(self) -> Verdict:
        """A change counts when it is beyond the threshold and the middle three fifths do not touch."""
        if self.before is None:
            return "new"
        if self.after is None:
            return "gone"
        if self.after.value is None or self.before.value is None:
            return "refused" if self.before.value is not None else "same"
        assert self.change is not None
        if self.change > self.threshold and self.after.value.p20 > self.before.value.p80:
            return "slower"
        if self.change < -self.threshold and self.after.value.p80 < self.before.value.p20:
            return "faster"
        return "same"

    @property
    def is_ours(self) -> bool:
        """Whether it is longspan, in whichever numerics."""
        return self.contestant.split()[0] == OURS

    @property
    def is_regression(self) -> bool:
        """Ours, and slower, or wrong, or gone."""
        return self.is_ours and self.verdict in ("slower", "refused", "gone")

    def text(self) -> str:
        """A line of the comparison."""
        both = [each for each in (self.before, self.after) if each is not None and each.value is not None]
        values = " -> ".join(quantity(each.value.median, each.unit) for each in both if each.value is not None)
        change = "" if self.change is None else f"{self.change:+.0%}"
        ratio = "" if self.ratio_change is None else f"ratio {self.ratio_change:+.0%}"
        return f"{self.verdict:<8} {self.case}  {self.contestant}  {values}  {change}  {ratio}".rstrip()


def compare(before: Report, after: Report, threshold: float = THRESHOLD) -> list[Row]:
    """Every contestant of every case of either run. Raises: ValueError, the threshold is not above 0."""
    if not threshold > 0:
        raise ValueError(f"compare: the threshold must be above 0, got {threshold:g}")
    first, second = dict(_entries(before)), dict(_entries(after))
    return [Row(*key, first.get(key), second.get(key), threshold) for key in dict.fromkeys([*first, *second])]


def comparison_text(before: Report, after: Report, rows: list[Row], *, show_all: bool = False) -> str:
    """The table: what changed, then how the runs agree as a whole."""
    lines = [row.text() for row in rows if show_all or row.verdict != "same"]
    lines += [
        f"note: {name} was {before.machine.get(name)} and is {after.machine.get(name)}: times cannot be compared"
        for name in MACHINE
        if before.machine.get(name) != after.machine.get(name)
    ]
    for name in before.ceilings.keys() & after.ceilings.keys():
        change = after.ceilings[name] / before.ceilings[name] - 1
        if abs(change) > THRESHOLD:
            lines.append(f"note: the machine's own {name} ceiling changed by {change:+.0%}")
    for what, changes in (("ratios", _changes(rows)), ("ratios of the least times", _changes(rows, least=True))):
        if changes:
            within = sum(change <= THRESHOLD for change, _ in changes)
            largest, worst = max(changes, key=lambda pair: pair[0])
            lines.append(
                f"{what} to ours: {within} of {len(changes)} agree within {THRESHOLD:.0%}; "
                f"the largest change is {largest:.0%} ({worst.case}, {worst.contestant})"
            )
    regressions = sum(row.is_regression for row in rows)
    lines.append(f"{len(rows)} compared, {regressions} of ours worse")
    return "\n".join(lines)


def ratios_agree(rows: list[Row]) -> bool:
    """Whether every ratio of medians of one run is within the threshold of the other's."""
    return all(change <= THRESHOLD for change, _ in _changes(rows))


def _changes(rows: list[Row], least: bool = False) -> list[tuple[float, Row]]:
    changes = [(row.least_ratio_change if least else row.ratio_change, row) for row in rows]
    return [(abs(change), row) for change, row in changes if change is not None]


def _entries(report: Report) -> Iterator[tuple[tuple[str, str], Entry]]:
    for result in report.results:
        for entry in result.entries:
            yield (result.key, entry.contestant), entry
