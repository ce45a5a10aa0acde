"""Timing in turn: whose turn it is, what is counted, how ratios are taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.timing import Spread, speedup, take_turns


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def takes(self, name: str, *seconds: float) -> Callable[[], None]:
        """A contestant that takes these times, one after the other, the last for ever."""
        left = list(seconds)

        def run() -> None:
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_speedup_is_taken_round_by_round() -> None:
    assert speedup([1, 2, 4], over=[2, 4, 8]) == Spread(2, 2, 2)
    with pytest.raises(ValueError, match="the same rounds, got 1 and 2 times"):
        speedup([1], over=[1, 2])


def test_spread_is_median_and_percentiles() -> None:
    spread = Spread.of([5, 1, 2, 3, 4, 0])
    assert spread == Spread(1, 2.5, 4)
    assert spread.text(1) == "2.5 (1.0 .. 4.0)"
    with pytest.raises(ValueError, match="values is empty"):
        Spread.of([])


def test_a_turn_has_as_many_calls_as_fit_and_a_waking_one_before() -> None:
    clock = Clock()
    contestants = {"quick": clock.takes("quick", 1), "slow": clock.takes("slow", 10)}
    times = take_turns(contestants, seconds=8, rounds=2, clock=lambda: clock.now)
    # A call that wakes and four that count. The slow one outlasts its share: it is not woken again once that is known,
    # and has one call a round.
    assert clock.calls == [*["quick"] * 5, "slow", "slow", *["quick"] * 5, "slow"]
    assert times["quick"].calls == [1] * 8 and times["quick"].rounds == [1, 1]
    assert times["slow"].calls == times["slow"].rounds == [10, 10]


def test_a_round_is_told_by_its_median_call() -> None:
    clock = Clock()
    times = take_turns({"a": clock.takes("a", 1, 9, 2, 3, 1)}, seconds=14, rounds=1, clock=lambda: clock.now)
    assert times["a"].calls == [9, 2, 3] and times["a"].rounds == [3]


def test_slow_contestants_have_fewer_rounds() -> None:
    def rounds_of(seconds: float) -> int:
        clock = Clock()
        contestants = {"a": clock.takes("a", seconds), "b": clock.takes("b", seconds)}
        return len(take_turns(contestants, seconds=1, rounds=9, slow_round=8, clock=lambda: clock.now)["b"].rounds)

    assert (rounds_of(4), rounds_of(4.1)) == (9, 3)


def test_a_contestant_is_warm_before_its_first_turn_counts() -> None:
    clock = Clock()
    contestants = {"a": clock.takes("a", 3, 2, 1), "b": clock.takes("b", 7)}
    times = take_turns(contestants, seconds=2, rounds=2, warm=5, clock=lambda: clock.now)
    assert clock.calls == ["a", "a", "a", "b", "b", "a", "b"]  # three to warm, or one that outlasts it
    assert times["a"].calls == [1, 1] and times["b"].calls == [7, 7]
