"""Runs the benches under ops, models and integrations, each in a process of its own, and joins their records.

python -m bench.run                     the short form of all of them
python -m bench.run linear encode       those two
python -m bench.run --full --out out    all shapes; out/results.json and out/report.html
python -m bench.run --list              what there is
"""

from __future__ import annotations

import argparse
import ast
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .case import Setting
from .ceilings import Ceilings
from .command import add_options, arguments_of, command_of, failures, setting_of
from .contest import with_loops
from .results import Report, read_report, write_report
from .table import report_end

ROOT: Final = Path(__file__).resolve().parent
PACKAGE: Final = __package__ or "bench"  # "longspan.bench" where it is installed
FOLDERS: Final = ("ops", "models", "integrations", "serve")
PREFIX: Final = "bench_"
RESULTS, HTML = "results.json", "report.html"
LIMIT: Final = 870.0  # seconds of all benches in the short form, the page and the start of processes left aside
UNKNOWN: Final = 30.0  # of a bench that does not say


@dataclass(frozen=True, slots=True)
class Bench:
    """A module that can be run: `python -m <module>` is its short form."""

    module: str
    what: str  # first line of its docstring
    is_recorded: bool = True  # it takes the shared options and writes a record; else it runs as it is and prints
    budget: float = UNKNOWN  # seconds of its short form on two cores, with every peer: its constant BUDGET

    @property
    def name(self) -> str:
        """Such as "linear"."""
        return self.module.rpartition(".")[2].removeprefix(PREFIX)


def find_benches(root: Path = ROOT, package: str = PACKAGE) -> list[Bench]:
    """Every bench_*.py below `root`, ops before models, by name; none is imported."""
    benches: list[Bench] = []
    for folder in FOLDERS:
        for path in sorted((root / folder).glob(f"{PREFIX}*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            says = ast.get_docstring(tree) or ""
            is_recorded = any(isinstance(node, ast.ImportFrom) and node.module == "command" for node in tree.body)
            name, what = f"{package}.{folder}.{path.stem}", says.partition("\n")[0]
            benches.append(Bench(name, what, is_recorded, _budget(tree)))
    return benches


def _budget(tree: ast.Module) -> float:
    """The constant BUDGET of a module."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and node.value is not None and ast.unparse(node.target) == "BUDGET":
            return float(ast.literal_eval(node.value))
    return UNKNOWN


def plan_text(benches: Sequence[Bench], setting: Setting) -> str:
    """What a run will take: `13 benches, about 8 minutes`."""
    count = f"{len(benches)} bench{'es' if len(benches) != 1 else ''}"
    if not setting.is_short:
        return f"{count}, every shape: up to hours"
    seconds = sum(bench.budget for bench in benches)
    about = f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
    return f"{count}, about {about} on two cores"


def allotted(bench: Bench, later: Sequence[Bench], elapsed: float, limit: float = LIMIT) -> float:
    """Seconds that a bench may take: its own budget, and what earlier ones and the limit leave over."""
    spare = limit - elapsed - bench.budget - sum(each.budget for each in later)
    return bench.budget + max(0.0, spare)


def select(benches: list[Bench], wanted: str | None) -> list[Bench]:
    """The bench of that name; else those whose name holds it. Raises: ValueError, there is none, with what there is."""
    if wanted is None:
        return benches
    exact = [bench for bench in benches if bench.name == wanted]
    found = exact or [bench for bench in benches if wanted in bench.name]
    if not found:
        raise ValueError(f"no bench is called {wanted!r}; there are {', '.join(bench.name for bench in benches)}")
    return found


def select_all(benches: list[Bench], wanted: Sequence[str]) -> list[Bench]:
    """All that any of the names selects, each once; all there are without a name. Raises: ValueError, as `select`."""
    if not wanted:
        return benches
    return list(dict.fromkeys(bench for name in wanted for bench in select(benches, name)))


def run_benches(
    benches: Sequence[Bench], setting: Setting, keep: Callable[[Report], object] = lambda report: None
) -> tuple[Report | None, list[str]]:
    """The joined record of those that ran, None if none did; and the names of those that failed.

    `keep` gets the record so far after each bench: a run that is stopped has what it measured.
    """
    report: Report | None = None
    failed: list[str] = []
    began = time.perf_counter()
    print(f"{plan_text(benches, setting)}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, bench in enumerate(benches, 1):
            started, path = time.perf_counter(), Path(folder) / f"{bench.name}.json"
            elapsed = started - began
            about = f"; about {bench.budget:.0f} s" if setting.is_short else ""
            at = f"{elapsed // 60:.0f}:{elapsed % 60:02.0f}"
            print(f"== {number} of {len(benches)}, at {at}  {bench.name}: {bench.what}{about}", flush=True)
            limited = setting
            if setting.is_short and math.isinf(setting.budget):
                limited = replace(setting, budget=round(allotted(bench, benches[number:], elapsed)))
            # A process of its own: what one bench imports (torch's threads, say) is not in the way of the next.
            options = [*arguments_of(limited), "--json", str(path)] if bench.is_recorded else []
            command = [sys.executable, "-m", bench.module, *options]
            done = subprocess.run(command, env=child_environment(), check=False)
            if done.returncode != 0:
                failed.append(bench.name)
            if path.is_file():
                latest = read_report(path)
                report = latest if report is None else report.joined(latest)
                keep(report)
            print(f"-- {bench.name}: {time.perf_counter() - started:.0f} s\n", flush=True)
    return report, failed


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of a run of several benches."""
    parser.add_argument("names", nargs="*", metavar="BENCH", help="a bench, or part of its name; all if not given")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"write {RESULTS} and {HTML} there")
    add_options(parser)


def run_all(options: argparse.Namespace) -> int:
    """What `longspan bench run` does. Returns: 0, or 1 where a bench failed. Raises: ValueError, OSError."""
    from .html import write_html

    setting = setting_of(options)
    benches = select_all(find_benches(), options.names)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    paths = [path for path in (options.json, options.out and options.out / RESULTS) if path]

    def keep(report: Report) -> None:
        ceilings = Ceilings(report.ceilings)  # of all benches; the highest was measured while one of them ran
        results = tuple(with_loops(result, ceilings) for result in report.results)
        named = replace(report, results=results, command=command_of(options.names, setting))
        for path in paths:
            write_report(path, named)
        if options.out is not None:
            write_html(options.out / HTML, named)

    report, failed = run_benches(benches, setting, keep)
    if report is not None:
        print(report_end(report))
        for path in (*paths, *([options.out / HTML] if options.out else [])):
            print(f"wrote {path}")
        for failure in failures(report):
            print(f"failed: {failure}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def print_list() -> None:
    """What there is."""
    for bench in find_benches():
        print(f"{bench.name:<18} {bench.budget:>4.0f} s  {bench.what}")
    print(plan_text(find_benches(), Setting(1)))


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0, or 1 where a bench failed, 2 where none has the name or an option is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    add_run_options(parser)
    options = parser.parse_args(argv)
    if options.list:
        print_list()
        return 0
    try:
        return run_all(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def child_environment() -> dict[str, str]:
    """With which a child finds this package as this process did, wherever both were started."""
    top = ROOT.parents[PACKAGE.count(".")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(top), os.environ.get("PYTHONPATH")]))}


if __name__ == "__main__":
    sys.exit(main())
