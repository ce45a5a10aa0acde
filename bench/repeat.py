"""The same benches twice, one run after the other: how far the ratios to the peers agree.

longspan bench repeat linear attention_varlen hamming --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import add_options, setting_of
from .compare import compare, comparison_text, ratios_agree
from .results import Report, write_report
from .run import find_benches, run_benches, select_all


def add_repeat_options(parser: argparse.ArgumentParser) -> None:
    """The options of `longspan bench repeat`."""
    parser.add_argument("names", nargs="*", metavar="BENCH", help="a bench, or part of its name; all if not given")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write first.json and second.json there")
    add_options(parser)


def run_twice(options: argparse.Namespace) -> int:
    """What `longspan bench repeat` does.

    Returns: 0, or 1 where a bench failed or a ratio of medians changed by more than a tenth.
    Raises: ValueError, OSError.
    """
    setting, benches = setting_of(options), select_all(find_benches(), options.names)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    reports: list[Report] = []
    failed: list[str] = []
    for name in ("first", "second"):
        report, broken = run_benches(benches, setting)
        failed += broken
        if report is None:
            raise ValueError(f"the {name} run measured nothing")
        if options.out is not None:
            write_report(options.out / f"{name}.json", report)
        reports.append(report)
    first, second = reports
    rows = compare(first, second)
    print(comparison_text(first, second, rows))
    return 0 if not failed and ratios_agree(rows) else 1
