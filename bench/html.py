"""A run as one page that needs nothing else: what stands out, plots, then every figure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from statistics import median
from typing import Final

from .case import OURS
from .plots import growth_plots, model_bars, roofline
from .results import Entry, Report, Result
from .table import ceiling_text, is_broken, number, quantity

STYLE: Final = Path(__file__).with_name("report.css")
SHOWN: Final = (
    "gpu",
    "cpu",
    "cores",
    "threads",
    "isa",
    "mhz",
    "load",
    "system",
    "python",
    "longspan",
    "commit",
    "form",
)


def write_html(path: Path, report: Report) -> None:
    """Write aside first, then rename: the page is whole or absent. Raises: OSError, it cannot be written."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(html_text(report), encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def html_text(report: Report) -> str:
    """The page."""
    plots = [plot for plot in (model_bars(report), *growth_plots(report), roofline(report)) if plot is not None]
    body = [
        "<h1>longspan bench</h1>",
        f'<p class="about">{escape(_about(report))}</p>',
        f'<p class="warning">{"<br>".join(map(escape, report.warnings))}</p>' if report.warnings else "",
        _standing(report),
        _behind(report),
        f'<div class="plots">{"".join(f"<figure>{plot}</figure>" for plot in plots)}</div>' if plots else "",
        *_tables(report),
        _machine(report),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>longspan bench</title>'
    style = f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
    return f'<!doctype html><html lang="en"><head>{head}{style}</head><body>{"".join(body)}</body></html>\n'


def _about(report: Report) -> str:
    machine = report.machine
    parts = [f"{machine.get('cpu')}", f"{machine.get('threads')} threads", f"{machine.get('isa')}"]
    if "gpu" in machine:
        parts.insert(0, str(machine["gpu"]))
    return ", ".join([*parts, f"{machine.get('form')} form", report.date.replace("T", " ")])


def _standing(report: Report) -> str:
    """For each bench and peer, the median over its cases of how long the peer takes beside ours."""
    ratios: dict[tuple[str, str, str], list[float]] = {}
    for result in report.results:
        for entry in result.entries:
            if entry.ratio is not None and entry.against is not None and not entry.contestant.startswith(OURS):
                ratios.setdefault((result.bench, entry.contestant, entry.against), []).append(entry.ratio.median)
    if not ratios:
        return ""
    rows = [
        [bench, peer, against, f"{median(each):.2f}", f"{min(each):.2f} .. {max(each):.2f}", str(len(each))]
        for (bench, peer, against), each in ratios.items()
    ]
    marks = ["slower" if median(each) < 1 else "faster" for each in ratios.values()]
    heads = ["bench", "peer", "beside", "times as long as ours", "over its cases", "cases"]
    return "<h2>How we stand</h2>" + _table(heads, rows, marks)


def _behind(report: Report) -> str:
    """Where a peer is faster by more than the spread."""
    rows = [
        [result.bench, result.case, entry.contestant, entry.against or "", entry.ratio.text()]
        for result in report.results
        for entry in result.entries
        if entry.ratio is not None and entry.ratio.p80 < 1 and not entry.contestant.startswith(OURS)
    ]
    if not rows:
        return "<h2>Where a peer is faster</h2><p>Nowhere in this run, beyond the spread.</p>"
    return "<h2>Where a peer is faster</h2>" + _table(["bench", "case", "peer", "beside", "of our time"], rows)


def _tables(report: Report) -> Iterator[str]:
    by_bench: dict[str, list[Result]] = {}
    for result in report.results:
        by_bench.setdefault(result.bench, []).append(result)
    heads = [
        "case",
        "contestant",
        "time",
        "p20 .. p80",
        "speed",
        "error",
        "share of limit",
        "beside ours",
        "least times",
        "p95, p99",
        "set up as",
    ]
    for bench, results in by_bench.items():
        rows, marks = [], []
        for result in results:
            for place, entry in enumerate(result.entries):
                rows.append([result.case if place == 0 else "", *_cells(entry, result.rate_unit)])
                is_bad = entry.refused is not None or is_broken(entry)
                marks.append("bad" if is_bad else "ours-row" if entry.contestant.startswith(OURS) else "")
        yield f"<h2>{escape(bench)}</h2>" + _table(heads, rows, marks)


def _cells(entry: Entry, rate_unit: str) -> list[str]:
    name = entry.contestant
    if entry.value is None:
        return [name, "not timed", "", "", _error(entry), "", "", "", "", entry.refused or ""]
    value = entry.value
    spread = f"{quantity(value.p20, entry.unit)} .. {quantity(value.p80, entry.unit)}"
    limit = "" if entry.error is not None or entry.limit is None else f" (limit {quantity(entry.limit, entry.unit)})"
    return [
        name,
        quantity(value.median, entry.unit) + limit,
        spread,
        "" if entry.rate is None else f"{number(entry.rate)} {rate_unit}",
        _error(entry),
        "" if entry.share is None else f"{entry.share:.0%} of {entry.bound}",
        "" if entry.ratio is None else entry.ratio.text() + ("" if entry.against == OURS else f" {entry.against}"),
        "" if entry.least_ratio is None else f"{entry.least_ratio:.2f}",
        ""
        if entry.latency is None
        else f"{quantity(entry.latency['p95'], 's')}, {quantity(entry.latency['p99'], 's')}",
        "; ".join(filter(None, [entry.note, entry.target and f"target {entry.target}"])),
    ]


def _error(entry: Entry) -> str:
    return "" if entry.error is None else f"{entry.error:.1e}"


def _machine(report: Report) -> str:
    ceilings = [[name, ceiling_text(name, rate)] for name, rate in report.ceilings.items()]
    about = [[name, str(report.machine[name])] for name in SHOWN if name in report.machine]
    others = [[name, str(value)] for name, value in report.machine.items() if name not in SHOWN]
    absent = [[name, reason] for name, reason in report.absent.items()]
    parts = [("Limits of this machine", ceilings), ("Machine", about), ("Versions", others), ("Absent", absent)]
    made = "".join(f"<div><h2>{title}</h2>{_table([], rows)}</div>" for title, rows in parts if rows)
    return f'<div class="facts">{made}</div><p class="about">made by <code>{escape(report.command)}</code></p>'


def _table(heads: list[str], rows: list[list[str]], marks: list[str] | None = None) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    lines = [
        f'<tr class="{mark}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row, mark in zip(rows, marks or [""] * len(rows), strict=True)
    ]
    top = f"<thead><tr>{head}</tr></thead>" if heads else ""
    return f'<div class="scroll"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'
