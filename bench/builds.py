"""Two builds of longspan on the same cases, in turn: what became slower between two commits.

Each build runs in a process of its own, which holds the inputs and waits for its turns; A B A B, as contestants of one
run. Where a process lies in memory moves its times by a percent or two, so both are started anew some times.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from .command import add_case_options, arguments_of, setting_of
from .run import PACKAGE, ROOT, Bench, find_benches, select_all
from .timing import Spread

FILES_THRESHOLD, BUILDS_THRESHOLD = 0.10, 0.02
STARTS: Final = 3

Verdict = Literal["same", "slower", "faster"]


@dataclass(slots=True)
class Turns:
    """One of our contestants at one case in both builds: seconds of a call, the median and the least of each round."""

    medians: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    least: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    def change(self) -> Spread:
        """Of the time, relative to before, round by round."""
        return Spread.of([after / before - 1 for before, after in zip(*self.medians, strict=True)])

    def least_change(self) -> float:
        """Of the shortest call of all, which others on the machine disturb least."""
        return min(self.least[1]) / min(self.least[0]) - 1

    def verdict(self, threshold: float) -> Verdict:
        """A change counts when the median of the rounds is beyond the threshold, the middle three fifths of them are on
        one side, and the shortest calls moved there too, by half of it."""
        change, least = self.change(), self.least_change()
        if change.median > threshold and change.p20 > 0 and least > threshold / 2:
            return "slower"
        if change.median < -threshold and change.p80 < 0 and least < -threshold / 2:
            return "faster"
        return "same"

    def text(self, threshold: float) -> str:
        """A line's figures."""
        change, least = self.change(), self.least_change()
        return (
            f"{self.verdict(threshold):<8}{change.median:+7.1%} ({change.p20:+.1%} .. {change.p80:+.1%})"
            f"  least calls {least:+.1%}"
        )


# An editable install's finder would come before any path, and every build would be that one.
START: Final = """\
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class Build:
    """A build that cases are run with: a process that imports longspan from `folder`."""

    def __init__(self, folder: Path, bench: Bench, arguments: Sequence[str]) -> None:
        """Raises: ValueError, there is no built longspan in the folder."""
        top = packages_of(folder)
        # The suite of a checkout lies beside its package, whatever an editable install calls it; a wheel's lies inside.
        is_checkout = not (ROOT.parent / "__init__.py").is_file()
        package = ROOT.name if is_checkout else PACKAGE
        module = bench.module.replace(PACKAGE, package, 1)
        paths = [str(top), str(ROOT.parent) if is_checkout else "", os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, f"{package}.build_worker", str(top), module, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Build:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def ask(self, **words: object) -> Any:
        """The process's answer. Raises: ValueError, it has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ValueError("compare: the process of a build ended; its last lines are above")
        return json.loads(line)


def packages_of(folder: Path) -> Path:
    """Where Python finds the folder's longspan: a checkout's python/, or the folder itself.

    Raises: ValueError, there is none, or it is not built.
    """
    for top in (folder / "python", folder):
        if (top / "longspan" / "__init__.py").is_file():
            if any((top / "longspan").glob("_core.*.so")) or any((top / "longspan").glob("_core.*.pyd")):
                return top.resolve()
            raise ValueError(f"compare: {folder} holds longspan, but not built: no _core is in {top / 'longspan'}")
    raise ValueError(f"compare: {folder} holds no longspan: give a checkout, or a folder that a wheel was unpacked to")


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """The options of `longspan bench compare`."""
    parser.add_argument("before", type=Path, metavar="BEFORE", help="results of a run (.json), or a build's folder")
    parser.add_argument("after", type=Path, metavar="AFTER", help="the same of the other one")
    parser.add_argument("names", nargs="*", metavar="BENCH", help="of builds: a bench, or part of its name")
    parser.add_argument(
        "--threshold", type=float, help=f"the change that counts ({FILES_THRESHOLD}; of builds {BUILDS_THRESHOLD})"
    )
    parser.add_argument("--all", action="store_true", help="show what stayed the same, too")
    parser.add_argument("--starts", type=int, default=STARTS, help="of builds: processes of each (%(default)s)")
    add_case_options(parser)


def threshold_of(options: argparse.Namespace) -> float:
    """The change that counts. Raises: ValueError, it is not above 0."""
    if options.threshold is None:
        return BUILDS_THRESHOLD if options.before.is_dir() and options.after.is_dir() else FILES_THRESHOLD
    if not options.threshold > 0:
        raise ValueError(f"compare: the threshold must be above 0, got {options.threshold:g}")
    return float(options.threshold)


def compare_builds(options: argparse.Namespace) -> int:
    """Measures and prints what changed.

    Returns: how many of ours are slower or gone. Raises: ValueError, a folder has no build, no bench is named so, or
    one is not made of cases.
    """
    folders = (options.before, options.after)
    for folder in folders:
        packages_of(folder)
    if options.starts <= 0:
        raise ValueError(f"--starts must be above 0, got {options.starts}")
    if not options.names:
        raise ValueError("compare: name the benches to run with the two builds, such as linear attention_varlen")
    setting = setting_of(argparse.Namespace(**{**vars(options), "peers": [], "budget": None}))
    threshold, worse = threshold_of(options), 0
    for bench in select_all(find_benches(), options.names):
        print(f"== {bench.name}: {options.before} -> {options.after}, {options.starts} starts of each", flush=True)
        turns: dict[tuple[str, str], Turns] = {}
        lacks: dict[str, str] = {}
        for start in range(options.starts):
            before, after = (Build(folder, bench, arguments_of(setting)) for folder in folders)
            with before, after:
                _take_turns((before, after), setting.rounds, start % 2, turns, lacks)
        for (case, contestant), times in turns.items():
            verdict = times.verdict(threshold)
            worse += verdict == "slower"
            if options.all or verdict != "same":
                print(f"{times.text(threshold)}  {case}  {contestant}")
        for name, why in lacks.items():
            worse += why.startswith("after")
            print(f"left out  {name}: {why}")
        slower = sum(times.verdict(threshold) == "slower" for times in turns.values())
        if turns:
            middle = Spread.of([times.change().median for times in turns.values()])
            print(f"{len(turns)} compared, {slower} slower; changes {middle.p20:+.1%} .. {middle.p80:+.1%}", flush=True)
    return worse


def _take_turns(
    builds: tuple[Build, Build],
    rounds: int,
    first: int,
    turns: dict[tuple[str, str], Turns],
    lacks: dict[str, str],
) -> None:
    """Every case of both builds; `first` begins each round. What one of them lacks joins `lacks`, with the reason."""
    names = [build.ask(do="list") for build in builds]
    for case in names[0]:
        if case not in names[1]:
            lacks[case] = "after has no such case"
            continue
        ready: list[Mapping[str, Any]] = [build.ask(do="build", case=case) for build in builds]
        for contestant in ready[0]["timed"]:
            if contestant not in ready[1]["timed"]:
                lacks[f"{case}  {contestant}"] = f"after: {ready[1]['refused'].get(contestant, 'it is not there')}"
                continue
            both = turns.setdefault((case, contestant), Turns())
            for _ in range(rounds):
                for index in (first, 1 - first):
                    median, least = builds[index].ask(do="turn", contestant=contestant)
                    both.medians[index].append(median)
                    both.least[index].append(least)
        for contestant, why in ready[0]["refused"].items():
            lacks[f"{case}  {contestant}"] = f"before: {why}"
