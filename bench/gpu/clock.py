"""Timing on a GPU: by its own events, or by the host's clock where results come back to it; and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import torch

FLUSH_BYTES: Final = 256 << 20  # several times any L2 cache
WARM_ROUNDS: Final = 3
HEAD_START: Final = 400_000  # cycles, a fifth of a millisecond: time to launch in
FEWEST_ROUNDS: Final = 3

Calls: TypeAlias = Mapping[str, Callable[[], object]]


class OutOfTimeError(Exception):
    """A case was not begun, because its part's time is over."""


def rounds_within(seconds: float, one_round: float, most: int) -> int:
    """How many rounds fit: as many as asked for, fewer where they take long, never less than a median needs."""
    return max(min(FEWEST_ROUNDS, most), min(most, int(seconds / max(one_round, 1e-9))))


def device_seconds(calls: Calls, *, device: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of each call between two events, A B A B, each with a cold L2 cache. The host runs ahead, so that its
    launches are not waited for."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
    events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    def one_round() -> None:
        for name, call in calls.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flush.zero_()
            # The device is kept busy until the call's launches wait in its queue: else a call of ours, whose launches
            # are Python, would be billed for them, and one of torch's, which are C++, would not.
            torch.cuda._sleep(HEAD_START)
            start.record()
            call()
            end.record()
            events.append((name, start, end))

    rounds = rounds_within(seconds, _warmed(one_round), rounds)
    events.clear()
    for _ in range(rounds):
        one_round()
    torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, start, end in events:
        times[name].append(start.elapsed_time(end) * 1e-3)
    return times


def host_seconds(calls: Calls, *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of each call on the host's clock, A B A B; a call waits for its results, and the device is idle before.
    Caches are as the call before left them, as they are in a server."""
    times: dict[str, list[float]] = {name: [] for name in calls}

    def one_round() -> None:
        for name, call in calls.items():
            torch.cuda.synchronize()
            before = time.perf_counter()
            call()
            torch.cuda.synchronize()
            times[name].append(time.perf_counter() - before)

    rounds = rounds_within(seconds, _warmed(one_round), rounds)
    for taken in times.values():
        taken.clear()
    for _ in range(rounds):
        one_round()
    return times


def _warmed(one_round: Callable[[], None]) -> float:
    """Seconds of a round, after some that compile, tune, capture and let the clocks rise."""
    for _ in range(WARM_ROUNDS - 1):
        one_round()
    torch.cuda.synchronize()
    before = time.perf_counter()
    one_round()
    torch.cuda.synchronize()
    return time.perf_counter() - before
