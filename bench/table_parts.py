"""What a table is made of: the figures of a report, lines with their targets, the text of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from .case import Setting
from .results import Entry, Report, Result
from .table import quantity


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of the table."""

    figure: str
    target: str
    reached: str
    share: str = ""  # of the machine's limit, of ours
    is_met: bool | None = None  # None: there is no target, or it was not measured


@dataclass(frozen=True, slots=True)
class Part:
    """A bench that a table needs."""

    bench: str
    is_short: bool = True
    only: str = ""  # cases
    peers: tuple[str, ...] | None = None  # None: as the user says
    rounds: int | None = None  # None: as the user says

    def setting(self, setting: Setting) -> Setting:
        """The user's, for this part."""
        return replace(
            setting,
            is_short=self.is_short and setting.is_short,
            only=self.only or setting.only,
            peers=setting.peers if self.peers is None else self.peers,
            rounds=self.rounds or setting.rounds,
        )


@dataclass(frozen=True, slots=True)
class Table:
    """Which benches it needs, and what it says of their results."""

    what: str
    parts: tuple[Part, ...]
    lines: Callable[[Figures], Iterator[Line]]


@dataclass(frozen=True, slots=True)
class Figures:
    """A run, to look figures up in; what was not measured is not there."""

    report: Report

    def results(self, bench: str, **labels: str | int) -> list[Result]:
        """The bench's cases with these labels; an underscore stands for a blank in a label's name."""
        wanted = {name.replace("_", " "): value for name, value in labels.items()}
        return [
            result
            for result in self.report.results
            if result.bench == bench and wanted.items() <= {**result.labels}.items()
        ]

    def entries(self, bench: str, contestant: str, **labels: str | int) -> list[Entry]:
        """A contestant's in each of these cases, if it was timed there."""
        return [
            entry
            for result in self.results(bench, **labels)
            for entry in result.entries
            if entry.contestant == contestant and entry.value is not None
        ]


def best_peers(results: Sequence[Result], ours: str, peers: Sequence[str]) -> list[tuple[float, str]]:
    """In each case how many times as long as `ours` the quickest of the peers takes, and which one that is."""
    found = []
    for result in results:
        ratios = [
            (entry.ratio.median, entry.contestant)
            for entry in result.entries
            if entry.contestant in peers and entry.against == ours and entry.ratio is not None
        ]
        found += [min(ratios)] if ratios else []
    return found


def over(mine: Entry, other: Entry) -> float:
    """How many times as long one contestant takes as another of the same case, round by round."""
    ratios = sorted(a / b for a, b in zip(mine.rounds, other.rounds, strict=True))
    return ratios[len(ratios) // 2]


def shares(entries: Sequence[Entry]) -> str:
    """`75 / 70 % of fma`, of entries that have one."""
    known = [entry for entry in entries if entry.share is not None]
    if not known:
        return ""
    bounds = dict.fromkeys(entry.bound or "" for entry in known)
    return f"{' / '.join(f'{entry.share:.0%}'.rstrip('%') for entry in known)} % of {', '.join(bounds)}"


def at_least(figure: str, target: float, found: Sequence[tuple[float, str]], ours: Sequence[Entry]) -> Line:
    """A line of ratios to peers that should be high."""
    if not found:
        return missing(figure, f">= {target:g}x")
    reached = " / ".join(f"{ratio:.2f}" for ratio, _ in found)
    names = ", ".join(dict.fromkeys(name for _, name in found))
    return Line(figure, f">= {target:g}x", f"{reached} x ({names})", shares(ours), min(found)[0] >= target)


def at_most(figure: str, target: float, found: Sequence[float], unit: str, detail: str = "") -> Line:
    """A line of figures that should be low; `unit` "x" or one of quantity's."""

    def text(value: float) -> str:
        return f"{value:.2f}x" if unit == "x" else quantity(value, unit)

    if not found:
        return missing(figure, f"<= {text(target)}")
    reached = " / ".join(map(text, found)) + (f" {detail}" if detail else "")
    return Line(figure, f"<= {text(target)}", reached, "", max(found) <= target)


def missing(figure: str, target: str) -> Line:
    """What was not measured, or by nobody who is installed."""
    return Line(figure, target, "not measured")


def table_text(name: str, table: Table, report: Report) -> str:
    """Markdown, with what it was measured on."""
    rows = ["| figure | target | reached | share of the limit | |", "| --- | --- | --- | --- | --- |"]
    for line in table.lines(Figures(report)):
        mark = {True: "yes", False: "**no**", None: ""}[line.is_met]
        rows.append(f"| {line.figure} | {line.target} | {line.reached} | {line.share} | {mark} |")
    machine = report.machine
    about = f"{machine.get('cpu')}, {machine.get('threads')} threads, {machine.get('isa')}, longspan "
    about += f"{machine.get('longspan')} {machine.get('commit', '')}".rstrip()
    said = [f"{table.what}. {about}; {report.date}; `longspan bench table {name}`.", "", *rows]
    return "\n".join([*said, *(f"\nwarning: {warning}" for warning in report.warnings)])
