"""Timing of contestants in turn, so that a machine that slows down slows all of them alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

FEW_ROUNDS: Final = 3  # of slow contestants


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


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one contestant's calls."""

    rounds: list[float] = field(default_factory=list)  # the median call of each round
    calls: list[float] = field(default_factory=list)  # every call


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    rounds: int = 5,
    slow_round: float = math.inf,
    pause: float = 0.0,
    warm: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """The contestants in turn, A B A B, each with as many calls a round as fit in its share of the time.

    Short calls need this: a single one after a pause would mostly measure how its threads wake up. After each pause one
    call goes unmeasured, unless the call before it alone outlasted the round's share, where waking is nothing. Nobody
    needs more than `warm`: whoever comes here was checked, and so has run.

    Args:
        contestants: what to call, by name; results are thrown away.
        seconds: of measured calls, for each contestant, all rounds together; every round has at least one.
        rounds: how often each has its turn.
        slow_round: FEW_ROUNDS of them where a call of each, one after the other, takes longer than so many seconds.
        warm: seconds of unmeasured calls before a contestant's first turn, at least one: clocks and caches settle.
        pause: seconds to sleep before each turn, so that the idle threads of the one before have let go of the cores.
        clock: seconds since any moment.
    Returns: by name, the median call of each round (element n of all lists ran in the same round) and every call.
    """
    times = {name: Times() for name in contestants}
    share = seconds / rounds
    for number in range(rounds):
        if number >= min(FEW_ROUNDS, rounds) and sum(each.calls[-1] for each in times.values()) > slow_round:
            break
        for name, run in contestants.items():
            time.sleep(pause)
            each = times[name]
            if number == 0:
                until = clock() + warm
                run()
                while clock() < until:
                    run()
            elif each.calls[-1] < share:
                run()
            turn: list[float] = []
            while not turn or sum(turn) < share:
                before = clock()
                run()
                turn.append(clock() - before)
            each.rounds.append(statistics.median(turn))
            each.calls.extend(turn)
    return times


def speedup(times: Sequence[float], over: Sequence[float]) -> Spread:
    """How many times faster `times` are than `over`, round by round: 2 where they take half as long.

    Raises: ValueError, the two are not from the same rounds.
    """
    if len(times) != len(over):
        raise ValueError(f"speedup: both need the same rounds, got {len(times)} and {len(over)} times")
    return Spread.of([slow / fast for fast, slow in zip(times, over, strict=True)])
