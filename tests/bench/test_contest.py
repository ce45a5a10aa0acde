"""Parity before timing: who may be timed, whom it is compared with, and what its share of the limit is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from bench.case import OURS, Case, Contest, Contestant, Setting, Work, float32_limit
from bench.ceilings import Ceilings
from bench.command import failures, run_cases
from bench.contest import check, rival, run_case, with_loops, with_shares
from bench.meter import Meter
from bench.results import Entry, Report, Result
from bench.table import entry_text, report_end, result_text
from bench.timing import Spread
from bench.watch import Watch

TRUTH = np.array([1.0, 2.0, 3.0])
SETTING = Setting(threads=1, seconds=0.001, rounds=2)


def contest(*contestants: Contestant, **options: Mapping[str, float] | Mapping[str, str]) -> Contest:
    return Contest(contestants, TRUTH, {"float32": 1e-3, "bfloat16": 0.1}, **options)  # type: ignore[arg-type]


def gives(*values: float) -> Callable[[], np.ndarray]:
    return lambda: np.array(values)


def run(made: Contest, work: Work = Work(flops=1e6)) -> Result:  # noqa: B008
    return run_case(Case("test", {"rows": 3}, work, lambda setting: made), SETTING)[0]


def broken() -> np.ndarray:
    raise RuntimeError("out of luck\nand a second line")


@pytest.mark.parametrize(
    ("contestant", "reason"),
    [
        (Contestant("peer", gives(1, 2, 3.01)), "its error of 1.0e-02 is above 1.0e-03"),
        (Contestant("peer", gives(1, 2, np.nan)), "its error of nan is above 1.0e-03"),
        (Contestant("peer", gives(1, 2)), r"its result has shape \(2,\), not \(3,\)"),
        (Contestant("peer", broken), "it failed: RuntimeError: out of luck$"),
    ],
)
def test_without_parity_there_is_no_time(contestant: Contestant, reason: str) -> None:
    ours, theirs = run(contest(Contestant(OURS, gives(1, 2, 3)), contestant)).entries
    assert ours.value is not None and ours.error == 0
    assert theirs.value is None and theirs.ratio is None and not theirs.rounds
    assert theirs.refused is not None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(theirs.refused)
    assert f"not timed: {theirs.refused}" in entry_text(theirs, "GFLOP/s")


def test_the_limit_is_that_of_the_numerics_or_the_contestants_own() -> None:
    rough = gives(1, 2, 3.05)
    made = contest(Contestant("peer", rough), own_limits={"peer": 0.06})
    assert check(Contestant("peer", rough, "bfloat16"), contest())[1] is None
    assert check(made.contestants[0], made)[1] is None
    assert "is above" in str(check(Contestant("peer", rough), contest())[1])


def test_integers_are_met_exactly() -> None:
    exact = Contest((), np.array([1, 2, 3]), {"bits": 0})
    assert check(Contestant("peer", lambda: np.array([1, 2, 3]), "bits"), exact) == (0, None)
    assert check(Contestant("peer", lambda: np.array([1, 3, 2]), "bits"), exact)[1] == "2 of its 3 numbers are wrong"


def test_a_peer_is_compared_with_ours_in_its_numerics() -> None:
    ours, ours_16 = Contestant(OURS, gives(1)), Contestant(f"{OURS} bfloat16", gives(1), "bfloat16")
    peer, peer_16, peer_8 = (Contestant("peer", gives(1), kind) for kind in ("float32", "bfloat16", "int8"))
    everyone = (ours, ours_16, peer, peer_16, peer_8)
    assert [rival(one, everyone, {}) for one in everyone] == [None, ours, ours, ours_16, ours]
    assert rival(peer_16, everyone, {f"{OURS} bfloat16": "wrong"}) is ours
    assert rival(peer, (peer,), {}) is None


def test_shares_are_of_the_ceiling_that_binds() -> None:
    ceilings = Ceilings({"fma": 100.0, "read 0.5 MB": 50.0, "read 256 MB": 10.0})
    entry = Entry(OURS, "float32", value=Spread(1, 2, 3), flops=100e9, bytes=1e9)
    shared = with_shares(Result("test", {}, (entry,)), ceilings).entries[0]
    assert (shared.share, shared.bound) == (0.5, "fma")  # a second of multiplying, a tenth of one of reading, in two
    slow_read = Entry(OURS, "bits", value=Spread(1, 2, 3), bytes=1e9)
    assert with_shares(Result("test", {}, (slow_read,)), ceilings).entries[0].share == pytest.approx(0.05)
    cached = Entry(OURS, "bits", value=Spread(1, 1, 1), bytes=5e5)
    assert with_shares(Result("test", {}, (cached,)), ceilings).entries[0].share == pytest.approx(1e-5)
    unknown = Entry(OURS, "int8", value=Spread(1, 2, 3), flops=100e9)
    assert with_shares(Result("test", {}, (unknown,)), ceilings).entries[0].share is None


def test_a_joined_run_takes_the_loops_of_all_and_each_its_own_memory() -> None:
    by_loop = Entry(OURS, "float32", value=Spread(2, 2, 2), flops=100e9)
    by_read = Entry(OURS, "bits", value=Spread(1, 1, 1), bytes=5e9)
    first = with_shares(Result("test", {}, (by_loop, by_read)), Ceilings({"fma": 100.0, "read 256 MB": 10.0}))
    assert [entry.share for entry in first.entries] == [0.5, 0.5]
    later = with_loops(first, Ceilings({"fma": 200.0, "read 256 MB": 50.0}))
    assert [entry.share for entry in later.entries] == [0.25, 0.5]


def test_a_gpus_work_is_held_against_its_own_rates() -> None:
    gpu = Ceilings({"matrix bfloat16": 700e3, "copy": 3000.0})
    assert gpu.least_seconds(Work(flops=700e12), "bfloat16") == (1.0, "matrix bfloat16")
    assert gpu.least_seconds(Work(bytes=3e12), "bits") == (1.0, "copy")
    assert gpu.least_seconds(Work(flops=1.0), "float32") is None
    assert report_end(Report({}, (), gpu.rates)) == "ceilings: matrix bfloat16 700 TFLOP/s, copy 3000 GB/s"


def test_of_two_measurements_the_higher_ceiling_counts() -> None:
    joined = Ceilings({"fma": 100.0, "read 8 MB": 5.0}).joined(Ceilings({"fma": 80.0, "dpbf16": 7.0}))
    assert joined.rates == {"fma": 100.0, "read 8 MB": 5.0, "dpbf16": 7.0}


def test_a_run_tells_absent_peers_and_ours_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.command.machine_meter", lambda threads: Meter({"fma": lambda: 1.0}, {"dpbf16": "no"}))
    made = contest(Contestant(OURS, gives(9, 9, 9)), absent={"gone": "gone is not installed: pip install gone"})

    def cannot(setting: Setting) -> Contest:
        raise MemoryError("too large")

    def cases(setting: Setting) -> Iterator[Case]:
        yield Case("test", {"rows": 4}, Work(flops=1e6), cannot)
        yield Case("test", {"rows": 3}, Work(flops=1e6), lambda setting: made)

    said: list[str] = []
    report = run_cases(cases, SETTING, said.append)
    assert report.absent["gone"] == "gone is not installed: pip install gone"
    assert report.absent["ceiling dpbf16"] == "no"
    assert "absent: gone: gone is not installed" in report_end(report)
    first, second = failures(report)  # the first did not end the run
    assert first == "test rows=4: longspan: it could not be built: MemoryError: too large"
    assert second.startswith("test rows=3: longspan: its error of")
    assert report.machine["threads"] == 1 and report.machine["isa"] and report.date


def test_only_wanted_cases_run_and_none_after_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.command.machine_meter", lambda threads: Meter({"fma": lambda: 1.0}))
    made = contest(Contestant(OURS, gives(1, 2, 3)))

    def cases(setting: Setting) -> Iterator[Case]:
        for rows in (3, 30, 4):
            yield Case("test", {"rows": rows}, Work(flops=1e6), lambda setting: made)

    report = run_cases(cases, replace(SETTING, only="rows=3"), print)
    assert [result.labels["rows"] for result in report.results] == [3, 30]
    late = run_cases(cases, replace(SETTING, only="rows=3$|4", budget=0.0), print)
    assert not late.results
    assert late.warnings[-1] == "left out, for the budget of 0 s was over: rows=3, rows=4"


def test_a_figure_fails_by_its_limit() -> None:
    def report(value: float, limit: float | None) -> Report:
        entry = Entry(OURS, "float32", "MB", Spread(value, value, value), (value,), limit=limit)
        return Report({}, (Result("memory", {"tokens": 1}, (entry,)),))

    assert failures(report(1, 2)) == failures(report(3, None)) == []
    assert failures(report(3, 2)) == ["memory tokens=1: longspan is above its limit"]
    assert "BROKEN" in result_text(report(3, 2).results[0])
    spread = Entry(OURS, "float32", "times", Spread(1.9, 2.1, 2.2), limit=2)
    assert "BROKEN" not in result_text(Result("memory", {}, (spread,)))  # some rounds are below


def test_float32_sums_are_allowed_what_they_lose() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2000, 1000), np.float32), rng.standard_normal(1000, np.float32)
    one_by_one = np.cumsum(x * y, axis=1, dtype=np.float32)[:, -1]
    error = np.abs(one_by_one - x.astype(np.float64) @ y).max()
    assert error < float32_limit(1000, 1000**0.5) < 20 * error


def test_the_watch_sees_others_and_not_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.watch.os.cpu_count", lambda: 2)
    monkeypatch.setattr(Watch, "now", classmethod(lambda cls: Watch(10, 10, 30)))
    assert Watch(0, 0, 10).others_share() == 0.5  # 20 CPU seconds passed, 10 ours, on two cores for ten seconds
    assert "others had 50% of its cores" in str(Watch(0, 0, 10).warning())
    assert Watch(0, 0, 20).warning() is None
    assert Watch(0, 0, None).others_share() is None
