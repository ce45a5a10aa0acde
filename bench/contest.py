"""One case, from inputs to a result: parity first, then time in turn, then the share of what the machine allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np

from .case import OURS, Case, Contest, Contestant, Setting, Work
from .ceilings import COPY, READ, Ceilings
from .results import Entry, Result
from .timing import Spread, Times, speedup, take_turns

PAUSE: Final = 0.04  # seconds; other libraries' idle threads hold their cores for about 25 ms
WARM: Final = 0.05  # seconds; calls of microseconds are a third slower in a process that has just begun
CALLS_FOR_LATENCY: Final = 100  # from here on the slowest hundredth means something

# Seconds of each contestant, by name; whoever comes here was checked, and so has run.
Timer: TypeAlias = Callable[[Mapping[str, Callable[[], object]], Setting], Mapping[str, Times]]


def in_turn(calls: Mapping[str, Callable[[], object]], setting: Setting) -> Mapping[str, Times]:
    """By the clock of the processor."""
    return take_turns(
        calls, seconds=setting.seconds, rounds=setting.rounds, slow_round=setting.slow_round, pause=PAUSE, warm=WARM
    )


def run_case(case: Case, setting: Setting, timer: Timer = in_turn) -> tuple[Result, Mapping[str, str]]:
    """The case's result, without shares, and of peers that could not enter, why.

    A contestant without parity gets no time. Another device has another `timer`.
    """
    contest = case.build(setting)
    errors: dict[str, float | None] = {}
    refused: dict[str, str] = {}
    for contestant in contest.contestants:
        error, reason = check(contestant, contest)
        errors[contestant.name] = error
        if reason is not None:
            refused[contestant.name] = reason
    timed = {each.name: each.run for each in contest.contestants if each.name not in refused}
    times = timer(timed, setting)
    entries: list[Entry] = []
    for contestant in contest.contestants:
        name = contestant.name
        error, limit = errors[name], contest.limit(contestant)
        if name in refused:
            kept = Entry(name, contestant.numerics, refused=refused[name], note=contestant.note)
        else:
            against = rival(contestant, contest.contestants, refused)
            kept = _timed(contestant, contestant.work or case.work, times, against)
        entries.append(replace(kept, error=error, limit=limit))
    return Result(case.bench, case.labels, tuple(entries), rate_unit(case.work), case.plot), contest.absent


def check(contestant: Contestant, contest: Contest) -> tuple[float | None, str | None]:
    """The largest error of its result, and why it may not be timed; None if it may."""
    try:
        values = contestant.read(contestant.run())
    except Exception as problem:  # whatever a peer raises is told, and the others go on
        return None, f"it failed: {type(problem).__name__}: {str(problem).partition(chr(10))[0][:200]}"
    if values.shape != contest.truth.shape:
        return None, f"its result has shape {values.shape}, not {contest.truth.shape}"
    if contest.truth.dtype.kind in "iub":
        wrong = float(np.count_nonzero(values != contest.truth))
        return wrong, f"{wrong:.0f} of its {values.size} numbers are wrong" if wrong else None
    error = float(np.abs(values.astype(np.float64) - contest.truth).max(initial=0.0))
    limit = contest.limit(contestant)
    return error, None if error <= limit else f"its error of {error:.1e} is above {limit:.1e}"


def with_shares(result: Result, ceilings: Ceilings) -> Result:
    """The result with each contestant's share of the speed that the ceilings allow."""

    def shared(entry: Entry) -> Entry:
        least = ceilings.least_seconds(Work(entry.flops, entry.bytes), entry.numerics)
        if least is None or entry.value is None:
            return entry
        return replace(entry, share=least[0] / entry.value.median, bound=least[1])

    return replace(result, entries=tuple(map(shared, result.entries)))


def with_loops(result: Result, ceilings: Ceilings) -> Result:
    """The result with shares of the loops' rates taken anew, where other benches of the run have read higher ones.

    Shares of the rate of memory stay: others on the machine change it from minute to minute, so that of another bench
    is another one.
    """
    anew = with_shares(result, ceilings)
    pairs = zip(result.entries, anew.entries, strict=True)
    return replace(result, entries=tuple(was if was.bound in (READ, COPY) else now for was, now in pairs))


def rival(contestant: Contestant, contestants: tuple[Contestant, ...], refused: Mapping[str, str]) -> Contestant | None:
    """The one of ours that it is compared with: in the same numerics if there is one, else our first; None for it."""
    ours = [each for each in contestants if each.is_ours and each.name not in refused]
    same = [each for each in ours if each.numerics == contestant.numerics]
    return next((each for each in (*same[:1], *ours[:1]) if each is not contestant), None)


def rate_unit(work: Work) -> str:
    """How the report counts the speed of such work."""
    if work.item:
        return f"{work.item}/s"
    return "GFLOP/s" if work.flops else "GB/s"


def _timed(
    contestant: Contestant,
    work: Work,
    times: Mapping[str, Times],
    against: Contestant | None,
) -> Entry:
    each = times[contestant.name]
    value = Spread.of(each.rounds)
    amount = work.items if work.item else (work.flops or work.bytes) * 1e-9
    latency: dict[str, float] | None = None
    if len(each.calls) >= CALLS_FOR_LATENCY:
        p50, p95, p99 = np.percentile(each.calls, [50, 95, 99]).tolist()
        latency = {"p50": p50, "p95": p95, "p99": p99, "calls": float(len(each.calls))}
    return Entry(
        contestant.name,
        contestant.numerics,
        value=value,
        rounds=tuple(each.rounds),
        latency=latency,
        ratio=None if against is None else speedup(times[against.name].rounds, each.rounds),
        against=None if against is None else against.name,
        flops=work.flops,
        bytes=work.bytes,
        least=min(each.calls),
        least_ratio=None if against is None else min(each.calls) / min(times[against.name].calls),
        note=contestant.note,
        target=contestant.target,
        rate=amount / value.median,
    )


def our_name(dtype: str) -> str:
    """Ours in these numerics: `longspan`, `longspan bfloat16`."""
    return OURS if dtype == "float32" else f"{OURS} {dtype}"
