"""Which readings of a ceiling are believed, and that a low one cannot make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bench.ceilings import Ceilings
from bench.meter import MOST_READINGS, Meter, doubt, machine_meter


def gives(*values: float) -> Callable[[], float]:
    """One after the other; the last again and again."""
    rest: Iterator[float] = iter(values)
    last = values[-1]
    return lambda: next(rest, last)


@pytest.mark.parametrize(
    ("readings", "reason"),
    [
        ({"fma": [530]}, "it was not read twice"),
        ({}, "it was not read twice"),
        ({"fma": [530, 540]}, None),
        ({"fma": [530, 540, 270]}, None),  # what came out low does no harm
        ({"fma": [270, 540, 400]}, "its two best readings of 3 are 540 and 400"),
        ({"fma": [268, 270], "dpbf16": [1080, 1080]}, "dpbf16 is 4.00 times fma, where 2 times is usual"),
        ({"fma": [540, 540], "dpbf16": [540, 540]}, None),  # that is the other's fault
    ],
)
def test_two_readings_must_agree(readings: dict[str, list[float]], reason: str | None) -> None:
    assert doubt("fma", readings) == reason


@pytest.mark.parametrize(
    ("best", "reason"),
    [
        (2150, None),
        (1980, None),  # within a tenth of four times
        (1075, "vpdpbusd is 1.99 times fma, where 4 times is usual"),  # half, as with both threads on one core
    ],
)
def test_a_multipliers_rate_stands_to_the_plain_ones(best: float, reason: str | None) -> None:
    readings = {"fma": [540.0, 540.0], "vpdpbusd": [best, best]}
    assert doubt("vpdpbusd", readings) == reason
    assert doubt("vpdpbusd", {"vpdpbusd": [best, best]}) is None  # nothing to compare with


def test_memory_may_vary_more() -> None:
    assert doubt("read 8 MB", {"read 8 MB": [100, 88]}) is None
    assert doubt("copy", {"copy": [100, 80]}) == "its two best readings of 2 are 100 and 80"


def test_readings_go_on_until_the_ceilings_are_believed() -> None:
    # At the first two moments both threads were on one core: fma and vpdpbusd came out at half, and agreed.
    meter = Meter({"fma": gives(270, 270, 540), "vpdpbusd": gives(1080, 1080, 1080, 2150)})
    meter.settle(apart=0)
    assert meter.ceilings == Ceilings({"fma": 270, "vpdpbusd": 1080})  # alike, so nothing tells yet
    meter.take()
    meter.settle(apart=0)
    assert meter.ceilings == Ceilings({"fma": 540, "vpdpbusd": 2150}) and not meter.warnings()


def test_what_never_settles_is_told() -> None:
    meter = Meter({"fma": gives(540), "vpdpbusd": gives(1080)})
    meter.settle(apart=0)
    assert len(meter.readings["fma"]) == 2 and len(meter.readings["vpdpbusd"]) == MOST_READINGS
    assert meter.warnings() == ["the vpdpbusd ceiling is in doubt: vpdpbusd is 2.00 times fma, where 4 times is usual"]


def test_this_machine_has_ceilings_or_says_why_not() -> None:
    meter = machine_meter(1)
    meter.take()
    assert all(rate > 0 for rate in meter.ceilings.rates.values())
    assert {name.split()[0] for name in meter.ceilings.rates} | set(meter.absent) == {
        "fma",
        "dpbf16",
        "vpdpbusd",
        "read",
    }
