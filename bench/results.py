"""What was measured, as it is kept: records with a schema version, written whole, read back strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import reduce
from pathlib import Path
from typing import Any, Final

from .case import Numerics
from .timing import Spread

SCHEMA: Final = 2  # rises when a reader of the old files would misread the new ones
KIND: Final = "longspan-bench"
DEVICE: Final = (
    "gpu",
    "cpu",
    "threads",
)  # of a machine's facts: where they differ, ceilings and times have no common scale


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant at one case: less is better in every unit."""

    contestant: str
    numerics: Numerics
    unit: str = "s"  # of `value` and `rounds`: seconds a call, or MB
    value: Spread | None = None  # None: not measured, and `refused` says why
    rounds: tuple[float, ...] = ()
    least: float | None = None  # the shortest call of all: what others did to the machine is in few calls of many
    error: float | None = None  # largest absolute difference from the float64 truth
    limit: float | None = None  # the largest that would have been timed; of a figure, the largest that is allowed
    refused: str | None = None
    latency: Mapping[str, float] | None = None  # p50, p95, p99 in seconds over all calls, where there were enough
    ratio: Spread | None = None  # how many times as long as `against` it takes, round by round
    least_ratio: float | None = None  # the same of the shortest calls
    against: str | None = None  # one of ours
    flops: float = 0.0  # that a call makes at least, in these numerics
    bytes: float = 0.0  # and moves
    share: float | None = None  # of the speed that the machine's ceilings allow
    bound: str | None = None  # the ceiling that binds
    note: str = ""  # how it was set up
    rate: float | None = None  # items, FLOP or bytes a second, by the case's `rate_unit`
    target: str = ""  # what it is to reach, in words


@dataclass(frozen=True, slots=True)
class Result:
    """One case."""

    bench: str
    labels: Mapping[str, str | int]
    entries: tuple[Entry, ...]
    rate_unit: str = ""
    plot: str | None = None

    @property
    def case(self) -> str:
        """Such as `model=MiniLM rows=8`."""
        return " ".join(f"{label}={value}" for label, value in self.labels.items())

    @property
    def key(self) -> str:
        """The same in every run of the same case."""
        return f"{self.bench} {self.case}"


@dataclass(frozen=True, slots=True)
class Report:
    """A run: of one bench, or of many joined."""

    machine: Mapping[str, object]
    results: tuple[Result, ...]
    ceilings: Mapping[str, float] = field(default_factory=dict)  # "fma": GFLOP/s ..., "read memory": GB/s
    absent: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    command: str = ""
    date: str = ""

    def joined(self, other: Report) -> Report:
        """Both runs as one; of ceilings the higher, which a busy moment lowered less."""
        names = {**self.ceilings, **other.ceilings}
        ceilings = {name: max(self.ceilings.get(name, 0), other.ceilings.get(name, 0)) for name in names}
        return Report(
            self.machine or other.machine,
            self.results + other.results,
            ceilings,
            {**self.absent, **other.absent},
            tuple(dict.fromkeys(self.warnings + other.warnings)),
            "; ".join(dict.fromkeys(filter(None, [self.command, other.command]))),
            self.date or other.date,
        )


def write_report(path: Path, report: Report) -> None:
    """Write aside first, then rename: the file is whole or absent. Raises: OSError, it cannot be written."""
    body = {"kind": KIND, "schema": SCHEMA, **asdict(report)}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(json.dumps(_rounded(body), indent=1) + "\n", encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_report(path: Path) -> Report:
    """A run that was kept.

    Raises: FileNotFoundError, there is no such file; ValueError, it is no record of ours, or of another schema.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no results file {path}")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no results file: {error}") from None
    if not isinstance(body, dict) or body.get("kind") != KIND:
        raise ValueError(f'{path} is no results file: "kind" must be "{KIND}"')
    if body.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {body.get('schema')}, this version reads {SCHEMA}; measure again")
    try:
        results = tuple(
            _made(Result, {**result, "entries": tuple(map(_entry, result["entries"]))}) for result in body["results"]
        )
        return _made(Report, {**body, "results": results, "warnings": tuple(body["warnings"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no results file: {error}") from None


def joined_reports(paths: Sequence[Path]) -> Report:
    """Several runs of one machine as one. Raises: as `read_report`; ValueError, the machines differ."""
    reports = [read_report(path) for path in paths]
    for path, report in zip(paths, reports, strict=True):
        for name in DEVICE:
            was, now = reports[0].machine.get(name), report.machine.get(name)
            if was != now:
                said = f"{name} is {was} there and {now} here"
                raise ValueError(f"{path} was not measured on what {paths[0]} was: {said}; give each a page of its own")
    return reduce(Report.joined, reports)


def _entry(body: Mapping[str, Any]) -> Entry:
    spreads = {name: Spread(**body[name]) if body[name] else None for name in ("value", "ratio")}
    return _made(Entry, {**body, **spreads, "rounds": tuple(body["rounds"])})


def _made(kind: Any, body: Mapping[str, Any]) -> Any:
    """An instance from the keys that it knows; newer writers may add others."""
    names = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in body.items() if name in names})


def _rounded(value: Any) -> Any:
    """Numbers to five digits: more would be noise, and the files are kept."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value
