"""The page: well-formed, alone, with every figure; plots that stay within their frame."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.case import OURS, Numerics
from bench.html import html_text, write_html
from bench.plots import growth_plots, model_bars, roofline
from bench.results import Entry, Report, Result
from bench.svg import WIDTH, Axis, Limit, Series, bar_plot, line_plot, short_number
from bench.timing import Spread

VOID = ("meta", "br")


class Balance(HTMLParser):
    """Tags that are open, and whether each was closed by its own."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name in ("src", "href") for name, _ in attrs), "the page needs another file"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def entry(name: str, seconds: float, numerics: Numerics = "float32", **others: object) -> Entry:
    spread = Spread(seconds * 0.9, seconds, seconds * 1.2)
    return Entry(name, numerics, value=spread, rounds=(seconds,), rate=1 / seconds, **others)  # type: ignore[arg-type]


def full_report() -> Report:
    faster, slower = Spread(0.4, 0.5, 0.6), Spread(2.9, 3.0, 3.1)
    scaling = [
        Result(
            "scaling",
            {"grows": "batch", "texts": count},
            (entry(OURS, 1 / count), entry("peer <int8>", 2 / count, "int8")),
            "tokens/s",
            "texts",
        )
        for count in (1, 8, 64)
    ]
    memory = [
        Result(
            "memory",
            {"model": "m", "tokens": size},
            (Entry(OURS, "float32", "MB", Spread(1, size, size)),),
            plot="tokens",
        )
        for size in (10, 1000)
    ]
    encode = Result(
        "encode",
        {"texts": "short"},
        (
            entry(
                OURS,
                1.0,
                latency={"p50": 1.0, "p95": 1.5, "p99": 2.0, "calls": 100},
                error=1e-7,
                share=0.5,
                bound="fma",
            ),
            entry("peer <int8>", 0.5, "int8", ratio=faster, against=OURS, note="batches of 32"),
            entry("slow", 3.0, ratio=slower, against=OURS),
            Entry("wrong", "float32", refused="its error of 1 is above 0", error=1.0),
        ),
        "tokens/s",
    )
    product = Result("linear", {"rows": 8}, (entry(OURS, 1e-3, flops=1e8, bytes=1e6),), "GFLOP/s")
    ceilings = {"fma": 500.0, "read 0.5 MB": 200.0, "read 256 MB": 40.0}
    return Report(
        {"cpu": "test & more", "threads": 2}, (encode, *scaling, *memory, product), ceilings, {"gone": "why"}, ("busy",)
    )


def test_the_page_is_well_formed_and_needs_nothing_else(tmp_path: Path) -> None:
    write_html(tmp_path / "page.html", full_report())
    page = (tmp_path / "page.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert "http" not in page and "peer <int8>" not in page
    for text in (
        "peer &lt;int8&gt;",
        "test &amp; more",
        "not timed",
        "batches of 32",
        "1.50 s, 2.00 s",
        "busy",
        "gone",
    ):
        assert text in page
    assert len(re.findall("<svg ", page)) == 4  # bars, speed by batch, memory by length, roofline


def test_the_page_says_where_a_peer_is_faster() -> None:
    page = html_text(full_report())
    behind = page.partition("Where a peer is faster")[2].partition("</table>")[0]
    assert "0.50 (0.40 .. 0.60)" in behind and "slow" not in behind
    assert "Nowhere in this run" in html_text(Report({}, ()))


def every_plot() -> list[str]:
    made = full_report()
    return [str(model_bars(made)), *growth_plots(made), str(roofline(made))]


@pytest.mark.parametrize("plot", every_plot(), ids=lambda plot: re.findall('aria-label="([^"]*)', plot)[0])
def test_a_plot_stays_in_its_frame_and_names_its_units(plot: str) -> None:
    root = ElementTree.fromstring(plot)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter():
        for name, value in element.attrib.items():
            if name in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy"):
                assert 0 <= float(value) <= (width if "x" in name else height), (element.tag, element.attrib)
    labels = [element.text for element in root.iter("text") if element.attrib.get("class") == "label"]
    assert any(unit in str(label) for label in labels for unit in ("tokens", "MB", "GFLOP/s"))


def test_names_in_a_legend_do_not_meet() -> None:
    series = [Series(f"a rather long name, number {n}", "c1", [1, 10], [1, 2]) for n in range(7)]
    root = ElementTree.fromstring(line_plot("title", Axis("x", is_log=True), Axis("y"), series))
    boxes = [(float(box.attrib["y"]), float(box.attrib["x"])) for box in root.iter("rect")]
    assert len({y for y, _ in boxes}) > 1  # more than one line
    for (y, x), (next_y, next_x) in pairwise(boxes):
        assert next_y > y or next_x - x > 6 * len(series[0].name)
    assert max(x for _, x in boxes) + 6 * len(series[0].name) < WIDTH


def test_limits_bend_where_reading_meets_multiplying() -> None:
    points = [Series("ours", "ours", [0.1, 100], [1, 100], is_line=False)]
    limits = [Limit("top", top=200.0), Limit("slope", slope=10.0)]
    root = ElementTree.fromstring(line_plot("t", Axis("x", is_log=True), Axis("y", is_log=True), points, limits))
    top, slope = (line for line in root.iter("line") if line.attrib["class"] == "limit")
    assert top.attrib["y1"] == top.attrib["y2"]
    rise = float(slope.attrib["y1"]) - float(slope.attrib["y2"])
    assert rise > 0 and math.isfinite(rise)


def test_bars_are_as_long_as_their_values() -> None:
    root = ElementTree.fromstring(bar_plot("t", "u", [("g", [("a", "ours", 4.0, "4"), ("b", "c1", 1.0, "1")])]))
    widths = [float(bar.attrib["width"]) for bar in root.iter("rect")]
    assert widths[0] == pytest.approx(4 * widths[1], rel=0.01)


def test_numbers_on_axes_are_short() -> None:
    assert [short_number(x) for x in (0.05, 7, 250, 12000, 2.5e6)] == ["0.05", "7", "250", "12k", "2.5M"]
