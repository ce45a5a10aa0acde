"""What every bench's `python -m` does: options, the cases in turn, a table on the terminal, records in a file."""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from .cache import seconds_making
from .case import COMPUTE_TYPES, OURS, Cases, Setting
from .contest import run_case, with_shares
from .meter import machine_meter
from .record import commit, machine
from .results import Entry, Report, Result, write_report
from .table import is_broken, report_end, result_text
from .watch import Watch, describe_setting

SHORT_SECONDS, FULL_SECONDS = 0.2, 0.75
SHORT_SLOW_ROUND, FULL_SLOW_ROUND = 1.5, 20.0
SHORT_ROUNDS, FULL_ROUNDS = 7, 9


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all benches share."""
    add_case_options(parser)
    parser.add_argument("--peers", nargs="*", metavar="PEER", help="only these peers; without a name none")
    parser.add_argument("--budget", type=float, help="seconds of a bench; cases that would start later are left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records there as well")


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Which cases, and how each is timed."""
    from longspan import _core

    parser.add_argument("--full", action="store_true", help="every shape, and longer; else those of the short form")
    parser.add_argument("--model", help="for benches of a model: a folder or a Hugging Face id; else the demo's model")
    parser.add_argument("--dtype", action="append", metavar="D", help="of our encoder, may be repeated (all)")
    parser.add_argument("--threads", type=int, default=_core.num_threads(), help="of every contestant (%(default)s)")
    parser.add_argument("--seconds", type=float, help=f"each contestant a case ({SHORT_SECONDS}, full {FULL_SECONDS})")
    parser.add_argument("--rounds", type=int, help=f"turns of each contestant ({SHORT_ROUNDS}, full {FULL_ROUNDS})")
    parser.add_argument(
        "--cases", default="", metavar="REGEX", help="only cases in whose name it is found: 'rows=512$'"
    )


def setting_of(options: argparse.Namespace) -> Setting:
    """What the options say. Raises: ValueError, a number is not above 0, or a dtype or peer is not known."""
    from .peers import check_names

    seconds = options.seconds if options.seconds is not None else FULL_SECONDS if options.full else SHORT_SECONDS
    rounds = options.rounds if options.rounds is not None else FULL_ROUNDS if options.full else SHORT_ROUNDS
    for name, value in (("--threads", options.threads), ("--rounds", rounds), ("--seconds", seconds)):
        if value <= 0:
            raise ValueError(f"{name} must be above 0, got {value:g}")
    asked = tuple(dict.fromkeys(options.dtype or COMPUTE_TYPES))
    for name in asked:
        if name not in COMPUTE_TYPES:
            raise ValueError(f"--dtype must be one of {', '.join(COMPUTE_TYPES)}, got {name!r}")
    dtypes = tuple(dtype for name in asked for dtype in COMPUTE_TYPES if dtype == name)
    peers = None if options.peers is None else tuple(options.peers)
    if peers:
        check_names(peers)
    slow = FULL_SLOW_ROUND if options.full else SHORT_SLOW_ROUND
    budget = math.inf if options.budget is None else options.budget
    try:
        re.compile(options.cases)
    except re.error as error:
        raise ValueError(f"--cases must be a regular expression, got {options.cases!r}: {error}") from None
    return Setting(
        options.threads, seconds, rounds, slow, not options.full, options.model, dtypes, peers, budget, options.cases
    )


def arguments_of(setting: Setting) -> list[str]:
    """The options that make this setting again, in another process."""
    arguments = [
        "--threads",
        str(setting.threads),
        "--seconds",
        f"{setting.seconds:g}",
        "--rounds",
        str(setting.rounds),
    ]
    arguments += [] if setting.is_short else ["--full"]
    arguments += [] if setting.model is None else ["--model", setting.model]
    arguments += [word for dtype in setting.dtypes for word in ("--dtype", dtype)]
    arguments += ["--cases", setting.only] if setting.only else []
    arguments += ["--budget", f"{setting.budget:g}"] if math.isfinite(setting.budget) else []
    return arguments + ([] if setting.peers is None else ["--peers", *setting.peers])


def main(module: str, doc: str | None, cases: Cases, argv: list[str] | None = None, *, min_seconds: float = 0.0) -> int:
    """The command of a bench of cases, each contestant measured for `min_seconds` or longer.

    Returns: 0; 1 where one of ours is not timed; 2 where an option is wrong.
    """

    def run(setting: Setting) -> Report:
        longer = replace(setting, seconds=max(setting.seconds, min_seconds))
        return run_cases(cases, longer, lambda text: print(text, flush=True))

    return run_command(module, doc, run, argv)


def run_command(module: str, doc: str | None, run: Callable[[Setting], Report], argv: list[str] | None = None) -> int:
    """The command of any bench, whatever it measures: `run` prints its results and returns them."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(doc or "").partition("\n")[0])
    add_options(parser)
    options = parser.parse_args(argv)
    try:
        setting = setting_of(options)
        report = run(setting)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if report.warnings or report.absent or report.ceilings:
        print(report_end(report))
    if options.json is not None:
        write_report(options.json, report)
    return 1 if failures(report) else 0


def run_cases(cases: Cases, setting: Setting, say: Callable[[str], object]) -> Report:
    """Every case of the setting; `say` gets each result's text as it comes."""
    from longspan import _core

    _core.set_num_threads(setting.threads)
    meter = machine_meter(setting.threads)
    absent = {f"ceiling {name}": reason for name, reason in meter.absent.items()}
    meter.settle()
    watch = Watch.now()
    results: list[Result] = []
    wanted = [case for case in cases(setting) if setting.wants(case)]
    started, late = time.perf_counter() - seconds_making(), []
    for number, case in enumerate(wanted, 1):
        if time.perf_counter() - started - seconds_making() > setting.budget:
            late.append(case.name)
            continue
        try:
            result, left_out = run_case(case, setting)
            absent.update(left_out)
        except (
            Exception
        ) as error:  # memory that does not suffice, a broken peer: the other cases are still worth having
            said = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            failed = Entry(OURS, "float32", refused=f"it could not be built: {said}")
            result = Result(case.bench, case.labels, (failed,))
        meter.take()
        results.append(result)
        say(f"{number} of {len(wanted)}  {result_text(with_shares(result, meter.ceilings))}")
    report = new_report(tuple(results), setting, watch, absent=absent)
    meter.settle()
    shared = tuple(with_shares(result, meter.ceilings) for result in results)  # the best may have come last
    named = f"{results[0].bench}: " if results else ""
    warnings = [*report.warnings, *(f"{named}{each}" for each in meter.warnings())]
    if late:
        warnings.append(f"{named}left out, for the budget of {setting.budget:.0f} s was over: {', '.join(late)}")
    if seconds_making() > 1:
        say(f"{seconds_making():.0f} s went into compiling and converting, which is kept for the next run")
    return replace(report, results=shared, ceilings=meter.ceilings.rates, warnings=tuple(warnings))


def new_report(
    results: tuple[Result, ...],
    setting: Setting,
    watch: Watch,
    *,
    absent: Mapping[str, str] | None = None,
) -> Report:
    """The record of results that were measured since `watch` began."""
    from .peers import versions

    warning = watch.warning()
    about = {
        **machine(),
        **commit(),
        **describe_setting(setting.threads),
        **versions(),
        "form": "short" if setting.is_short else "full",
    }
    return Report(
        machine=about,
        results=results,
        ceilings={},
        absent=absent or {},
        warnings=() if warning is None or not results else (f"{results[0].bench}: {warning}",),
        command=command_of([result.bench for result in results[:1]], setting),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def command_of(names: Sequence[str], setting: Setting) -> str:
    """What a user types to run these benches so again; none for all."""
    shown = replace(setting, budget=math.inf)
    if shown.model is not None and Path(shown.model).is_dir():  # where it lies is nobody else's business
        shown = replace(shown, model=Path(shown.model).name)
    return shlex.join(["longspan", "bench", "run", *names, *arguments_of(shown)])


def failures(report: Report) -> list[str]:
    """What must not be: one of ours that is wrong and was not timed, or a figure of ours above its limit."""
    bad: list[str] = []
    for result in report.results:
        for entry in result.entries:
            if entry.contestant.split()[0] == OURS and entry.refused is not None:
                bad.append(f"{result.key}: {entry.contestant}: {entry.refused}")
            elif is_broken(entry):
                bad.append(f"{result.key}: {entry.contestant} is above its limit")
    return bad
