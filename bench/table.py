"""Results for a terminal: a block of lines a case, a line a contestant."""

from __future__ import annotations

from longspan.cli.console.terminal import style

from .ceilings import moves_bytes
from .results import Entry, Report, Result

NAME_WIDTH = 34
TERA = 20_000.0  # GFLOP/s; from here on they are told in TFLOP/s


def result_text(result: Result) -> str:
    """The case's block."""
    lines = [style(f"{result.bench}  {result.case}", "bold")]
    return "\n".join([*lines, *(f"  {entry_text(entry, result.rate_unit)}" for entry in result.entries)])


def entry_text(entry: Entry, rate_unit: str) -> str:
    """A contestant's line: time with its spread, speed, error, share of the ceiling, and ours against it."""
    start = f"{entry.contestant:<{NAME_WIDTH}}"
    if entry.value is None:
        return f"{start}{'not timed':>12}: {entry.refused}"
    parts = [f"{start}{quantity(entry.value.median, entry.unit):>12}", f"{_spread(entry):<14}"]
    if entry.rate is not None:
        parts.append(f"{number(entry.rate):>10} {rate_unit:<10}")
    if entry.error is not None:
        parts.append(f"error {entry.error:<8.1e}")
    if entry.share is not None:
        parts.append(f"{entry.share:>5.0%} of {entry.bound:<9}")
    if entry.ratio is not None:
        least = "" if entry.least_ratio is None else f", least {entry.least_ratio:.2f},"
        parts.append(f"{entry.ratio.text()}{least} x the time of {entry.against}")
    if entry.latency is not None:
        parts.append(f"p95 {quantity(entry.latency['p95'], 's')}, p99 {quantity(entry.latency['p99'], 's')}")
    if entry.target:
        parts.append(f"target {entry.target}")
    if entry.error is None and entry.limit is not None:
        parts.append(f"limit {quantity(entry.limit, entry.unit)}" + (" BROKEN" if is_broken(entry) else ""))
    return "  ".join(parts).rstrip()


def is_broken(entry: Entry) -> bool:
    """Whether a figure (what has a limit and no parity) is above its limit, and not by its spread alone."""
    has_limit = entry.error is None and entry.limit is not None and entry.value is not None
    return has_limit and entry.value.p20 > entry.limit  # type: ignore[union-attr,operator]


def report_end(report: Report) -> str:
    """The lines below all cases: ceilings, absent peers, warnings."""
    ceilings = ", ".join(f"{name} {ceiling_text(name, rate)}" for name, rate in report.ceilings.items())
    lines = [f"ceilings: {ceilings}"] if ceilings else []
    lines += [f"absent: {name}: {reason}" for name, reason in report.absent.items()]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in report.warnings)])


def ceiling_text(name: str, rate: float) -> str:
    """A ceiling with its unit: `538 GFLOP/s`, `49 GB/s`, a GPU's `712 TFLOP/s`."""
    if moves_bytes(name):
        return f"{rate:.0f} GB/s"
    return f"{rate:.0f} GFLOP/s" if rate < TERA else f"{rate / 1000:.0f} TFLOP/s"


def quantity(value: float, unit: str) -> str:
    """With a unit that makes the number readable: `1.23 ms`, `182 MB`."""
    if unit != "s":
        return f"{number(value)} {unit}"
    for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= scale:
            return f"{number(value / scale)} {name}"
    return f"{value * 1e9:.0f} ns"


def number(value: float) -> str:
    """Three digits that matter, thousands parted."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _spread(entry: Entry) -> str:
    """How far the middle three fifths of the rounds lie from the median, in per cent of it."""
    assert entry.value is not None
    median = entry.value.median or 1.0
    return f"{entry.value.p20 / median - 1:+.0%} .. {entry.value.p80 / median - 1:+.0%}"
