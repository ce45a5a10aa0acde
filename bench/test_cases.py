"""Every case of the short form and all that may take part in it, for pytest-benchmark; parity comes before the timing.

pytest bench -k "linear and rows:512" --bench-numerics bfloat16
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("pytest_benchmark", reason="pip install pytest-benchmark")

from .case import OURS, Case, Contest, Setting
from .contest import check
from .peers import PEERS
from .run import find_benches

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.filterwarnings("default")  # peers warn of things that are not ours to mend


def short_cases() -> Iterator[Case]:
    """Of every bench that is made of cases; others measure whole processes, which is not for this plugin."""
    for bench in find_benches():
        cases = getattr(import_module(bench.module), "cases", None)
        try:
            yield from () if cases is None else cases(Setting(threads=1))
        except FileNotFoundError:  # the demo's model is not installed
            continue


CASES = {f"{case.bench} {case.name}": case for case in short_cases()}
PAIRS = [
    (name, who)
    for name, case in CASES.items()
    for who in (OURS, *(peer.name for peer in PEERS if case.asks in peer.does))
]


@cache
def built(name: str, setting: Setting) -> Contest:
    """The case's contest, built once for all that take part."""
    return CASES[name].build(setting)


@pytest.mark.parametrize("name, who", PAIRS, ids=[f"{name}-{who}".replace("=", ":") for name, who in PAIRS])
def test_case(name: str, who: str, numerics: str, setting: Setting, benchmark: BenchmarkFixture) -> None:
    contest = built(name, setting)
    if who in contest.absent:
        pytest.skip(contest.absent[who])
    mine = [each for each in contest.contestants if each.name.startswith(who) and each.numerics in (numerics, "bits")]
    if not mine:
        pytest.skip(f"{who} does not do this in {numerics}")
    error, reason = check(mine[0], contest)
    assert reason is None, reason
    benchmark.group = name
    benchmark.extra_info.update(contestant=mine[0].name, numerics=numerics, error=error, note=mine[0].note)
    benchmark(mine[0].run)
