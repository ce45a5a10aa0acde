"""Which plots a run gives: speed of whole models, speed and memory against what grows, the roofline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from .case import OURS
from .ceilings import COPY, READ_MB, moves_bytes, read_name
from .results import Entry, Report, Result
from .svg import Axis, Limit, Series, bar_plot, line_plot
from .table import ceiling_text, number

MARKS: Final[Mapping[str, str]] = {"bfloat16": "square", "int8": "diamond"}
COLOURS: Final = 9  # c1 ... c9 of the page's style sheet
UNITS: Final[Mapping[str, str]] = {
    "texts": "texts in a batch", "words": "words of a text", "length": "tokens of a text", "tokens": "tokens",
    "rows": "rows",
}  # fmt: skip


def styles(report: Report) -> dict[str, str]:
    """A colour for each contestant, the same in every plot; ours stand out."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(entry.contestant for result in report.results for entry in result.entries):
        if name.split()[0] == OURS:
            suffix = name.removeprefix(OURS).strip()
            found[name] = "ours" + (f" ours-{suffix}" if suffix else "")
        else:
            count = sum(style.startswith("c") for style in found.values())
            found[name] = f"c{count % COLOURS + 1}"
    return found


def model_bars(report: Report) -> str | None:
    """Tokens a second on each set of texts, uniform and ragged; None without bench encode."""
    style = styles(report)
    groups = []
    for result in report.results:
        if result.bench == "encode":
            bars = [
                (entry.contestant, style[entry.contestant], entry.rate, number(entry.rate))
                for entry in sorted(result.entries, key=lambda entry: -(entry.rate or 0))
                if entry.rate is not None
            ]
            groups.append((f"{result.labels['texts']} texts", bars))
    return (
        bar_plot("Speed of a whole model, from text to vectors", "tokens a second; more is better", groups)
        if groups
        else None
    )


def growth_plots(report: Report) -> Iterator[str]:
    """One for each family of cases that differ in one label alone."""
    style = styles(report)
    for (bench, label, fixed), results in _families(report.results).items():
        is_memory = any(entry.unit == "MB" for result in results for entry in result.entries)
        names = dict.fromkeys(entry.contestant for result in results for entry in result.entries)
        series = [each for name in names if len((each := _line(name, style[name], results, label, is_memory)).x) > 1]
        if series:
            what = "memory" if is_memory else "speed"
            title = f"{bench}: {what} against {UNITS.get(label, label)}".replace("memory: memory", "memory")
            y = Axis("MB beside the weights" if is_memory else results[0].rate_unit, starts_at_zero=True)
            # Memory that grows with the length is a straight line, and with its square none, on a plain axis alone.
            x = Axis(UNITS.get(label, label), is_log=not is_memory, starts_at_zero=is_memory)
            yield line_plot(title, x, y, series, detail=fixed)


def roofline(report: Report) -> str | None:
    """Every one of our kernels by what it computes for each byte that it must move; None where nothing is known.

    A colour is a bench, a shape a numerics.
    """
    points: dict[str, list[tuple[float, float, str, str]]] = {}
    for result in report.results:
        for entry in result.entries:
            if entry.contestant.split()[0] == OURS and entry.flops and entry.bytes and entry.value is not None:
                rate = entry.flops / entry.value.median * 1e-9
                text = f"{result.bench} {result.case}, {entry.contestant}: {rate:.0f} GFLOP/s"
                mark = MARKS.get(entry.numerics, "circle")
                points.setdefault(result.bench, []).append((entry.flops / entry.bytes, rate, text, mark))
    if not points:
        return None
    series = [
        Series(
            name,
            f"c{place % COLOURS + 1}",
            [p[0] for p in some],
            [p[1] for p in some],
            is_line=False,
            titles=[p[2] for p in some],
            marks=[p[3] for p in some],
        )
        for place, (name, some) in enumerate(points.items())
    ]
    rates = report.ceilings
    limits = [
        Limit(f"{name} {ceiling_text(name, rate)}", top=rate) for name, rate in rates.items() if not moves_bytes(name)
    ]
    limits += [
        Limit(f"{name}: {rates[name]:.0f} GB/s", slope=rates[name])
        for name in (read_name(min(READ_MB)), read_name(max(READ_MB)), COPY)  # the other caches lie between
        if name in rates
    ]
    return line_plot(
        "Roofline: our kernels below this machine's limits",
        Axis("FLOP for each byte that must be moved", is_log=True),
        Axis("GFLOP/s", is_log=True),
        series,
        limits,
        "circles float32 and float16, squares bfloat16, diamonds int8",
    )


def _families(results: Sequence[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """Results that are one plot, by bench, what grows, and the labels that they share; single ones are left out."""
    families: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.plot is not None:
            derived = {"texts", "words"} if result.plot == "length" else set()
            fixed = ", ".join(
                f"{name} {value}"
                for name, value in result.labels.items()
                if name not in {result.plot, "grows", *derived}
            )
            families.setdefault((result.bench, result.plot, fixed), []).append(result)
    return {key: sorted(some, key=_place) for key, some in families.items() if len(some) > 1}


def _place(result: Result) -> float:
    return float(result.labels[result.plot or ""])


def _line(name: str, style: str, results: Sequence[Result], label: str, is_memory: bool) -> Series:
    points: list[tuple[float, Entry]] = [
        (_place(result), entry)
        for result in results
        for entry in result.entries
        if entry.contestant == name and entry.value is not None and (is_memory or entry.rate is not None)
    ]
    ys, lows, highs = [], [], []
    for _, entry in points:
        value = entry.value
        assert value is not None
        if is_memory:
            middle, low, high = value.median, value.p20, value.p80
        else:
            middle = entry.rate or 0.0
            low, high = middle * value.median / value.p80, middle * value.median / value.p20
        ys.append(middle)
        lows.append(low)
        highs.append(high)
    return Series(name, style, [x for x, _ in points], ys, lows, highs)
