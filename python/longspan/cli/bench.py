"""`longspan bench`: measure kernels, models and their peers on this machine; compare runs; write a report."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import longspan
from longspan.cli.console.failures import CommandError

DESCRIPTION = """\
Measure our kernels and models beside those of others that are installed, and beside what this machine can do at best.

Results are checked against float64 before anything is timed. `run` without a name measures everything in its short
form, in less than ten minutes on two cores. How to read the results: bench/README.md in the repository.
"""
EPILOG = """\
examples:
  longspan bench list
  longspan bench run linear attention
  longspan bench run --out results
  longspan bench run linear --full --cases 'rows=512$' --peers torch
  longspan bench table cpu-engine
  longspan bench repeat linear hamming
  longspan bench compare before/results.json after/results.json
  longspan bench compare ../before . linear attention_varlen
  longspan bench report results/results.json -o report.html
"""
INSTALLED, CHECKOUT = "longspan.bench", "bench"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _suite("run").add_run_options(actions.add_parser("run", help="measure; all benches, or those that are named"))
    actions.add_parser("list", help="say what can be measured, and how long that takes")
    table = actions.add_parser("table", help="figures beside their targets; measures what they need, or reads runs")
    _suite("tables").add_table_options(table)
    repeat = actions.add_parser("repeat", help="run twice; exit code 1 where ratios differ by more than 10 %%")
    _suite("repeat").add_repeat_options(repeat)
    compare = actions.add_parser("compare", help="two runs or builds: what became slower; exit code 1 where ours did")
    _suite("builds").add_compare_options(compare)
    report = actions.add_parser("report", help="write a page with tables and plots from a run")
    report.add_argument("results", type=Path, metavar="RESULTS.json", nargs="+", help="more than one are joined")
    report.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="(default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Do what was asked for."""
    if args.action == "run":
        if _suite("run").run_all(args):
            raise CommandError("a bench failed; its lines above say why")
    elif args.action == "list":
        _suite("run").print_list()
    elif args.action == "table":
        if _suite("tables").make_table(args):
            raise CommandError("a bench failed; its lines above say why")
    elif args.action == "repeat":
        if _suite("repeat").run_twice(args):
            raise CommandError("the two runs do not agree, or a bench failed; the lines above say which")
    elif args.action == "compare":
        _compare(args)
    else:
        results, html = _suite("results"), _suite("html")
        html.write_html(args.output, results.joined_reports(args.results))
        print(f"wrote {args.output}")


def _compare(args: argparse.Namespace) -> None:
    results, comparing, builds = _suite("results"), _suite("compare"), _suite("builds")
    threshold = builds.threshold_of(args)
    if args.before.is_dir() and args.after.is_dir():
        worse = builds.compare_builds(args)
    else:
        if args.names:
            raise CommandError("compare: benches are named where two builds are compared, folders; these are two files")
        before, after = results.read_report(args.before), results.read_report(args.after)
        rows = comparing.compare(before, after, threshold)
        print(comparing.comparison_text(before, after, rows, show_all=args.all))
        worse = sum(row.is_regression for row in rows)
    if worse:
        raise CommandError(f"{worse} of ours became worse by more than {threshold:.0%}")


def _suite(module: str) -> ModuleType:
    """A module of the suite, which is installed as a part of the package and lies beside it in a checkout."""
    try:
        return import_module(f"{INSTALLED}.{module}")
    except ModuleNotFoundError as error:
        if error.name != INSTALLED:
            raise
    root = Path(longspan.__file__).parents[2]
    if not (root / CHECKOUT / "run.py").is_file():
        raise CommandError("the suite is not part of this installation: install longspan from its wheel or its source")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return import_module(f"{CHECKOUT}.{module}")
