"""Timing of contestants in turn, so that a machine that slows down slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of some measurements, and where their middle three fifths lie."""

    p20: float
    median: float
    p80: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of `values`. Raises: ValueError, there are none."""
        if not values:
            raise ValueError("Spread.of: values is empty; measure at least once")
        p20, median, p80 = np.percentile(values, [20, 50, 80]).tolist()
        return cls(p20, median, p80)

    def text(self, digits: int = 2) -> str:
        """Such as `1.20 (1.10 .. 1.30)`."""
        return f"{self.median:.{digits}f} ({self.p20:.{digits}f} .. {self.p80:.{digits}f})"


def interleave(
    contestants: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    min_rounds: int = 5,
    pause: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run every contestant once a round, A B A B, until `seconds` are over; one more round before warms up, unmeasured.

    Args:
        contestants: what to call, by name; results are thrown away.
        seconds: for the measured rounds together. A round that has begun is finished.
        min_rounds: rounds to measure however long they take.
        pause: seconds to sleep before each call, so that the idle threads of the one before have let go of the cores.
        clock: seconds since any moment.
    Returns: seconds of each call, by name, in order of rounds: element n of all lists ran in the same round.
    """
    for run in contestants.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    started = clock()
    rounds = 0
    while contestants and (rounds < min_rounds or clock() - started < seconds):
        for name, run in contestants.items():
            time.sleep(pause)
            before = clock()
            run()
            times[name].append(clock() - before)
        rounds += 1
    return times


def speedup(times: Sequence[float], over: Sequence[float]) -> Spread:
    """How many times faster `times` are than `over`, round by round: 2 where they take half as long.

    Raises: ValueError, the two are not from the same rounds.
    """
    if len(times) != len(over):
        raise ValueError(f"speedup: both need the same rounds, got {len(times)} and {len(over)} times")
    return Spread.of([slow / fast for fast, slow in zip(times, over, strict=True)])
