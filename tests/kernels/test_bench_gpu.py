"""The GPU benches' plumbing, on tiny sizes in the interpreter: who is timed, and what the record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kernel_cases import ON_GPU, torch  # isort: skip  # skips where torch or triton is not installed
from bench.command import failures
from bench.compare import compare, comparison_text
from bench.gpu import late_interaction
from bench.gpu.__main__ import main
from bench.gpu.contest import OURS, Setting, contest
from bench.html import html_text
from bench.results import Report, joined_reports, read_report, write_report

pytestmark = pytest.mark.skipif(ON_GPU, reason="the dry run needs the interpreter, which a process with a GPU lacks")


@pytest.mark.parametrize("part", ["streams", "adapters"])
def test_dry_run(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.json"
    assert main(["--dry", "--only", part, "--json", str(file)]) == 0
    report = read_report(file)
    assert report.command == f"python -m bench.gpu --dry --only {part} --json gpu.json"
    assert {"gpu", "torch", "triton", "commit", "form"} <= report.machine.keys() and report.date
    assert set(report.ceilings) == {"matrix float16", "copy"}
    printed = capsys.readouterr().out
    for result in report.results:
        ours, *peers = result.entries
        assert ours.contestant == OURS and ours.target and ours.share is not None and result.case in printed
        assert all(peer.ratio is not None and peer.against == OURS for peer in peers)


def test_the_suites_commands_read_its_file(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    assert main(["--dry", "--only", "streams", "--json", str(file)]) == 0
    report = read_report(file)
    page = html_text(report)
    assert "gpu layer_norm" in page and "of copy" in page and "target &gt;= 85 %" in page
    rows = compare(report, report)
    assert rows and {row.verdict for row in rows} == {"same"}
    elsewhere = replace(report, machine={**report.machine, "gpu": "another"})
    assert "note: gpu was none, in Triton's interpreter and is another" in comparison_text(report, elsewhere, rows)
    cpu = tmp_path / "cpu.json"
    write_report(cpu, replace(report, machine={}))
    with pytest.raises(ValueError, match="cpu.json was not measured on what .*gpu.json was: gpu is"):
        joined_reports([file, cpu])


def test_without_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and main(["--only", "codes"]) == 2
    assert "error: no CUDA device; --dry tries the plumbing without one" in capsys.readouterr().err


def test_peers_that_compile_for_long_cost_no_row_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is ours is measured before the first of them is called."""

    def peer(q: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return torch.einsum("qid,njd->qnij", q.float(), d.float()).amax(3).sum(2)

    def never(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no kernel of 43 fits")

    monkeypatch.setattr(late_interaction, "installed", lambda setting: {"peer": peer, "other": never})
    found = [*late_interaction.rows(Setting("cpu", dry=True))]
    has_peers = ["beside" in result.case for result in found]
    assert has_peers == [False] * 6 + [True] * 4 and not failures(Report({}, tuple(found)))
    said = {entry.contestant: entry.refused for result in found[6:] for entry in result.entries}
    assert said == {OURS: None, "peer": None, "other": "it failed: RuntimeError: no kernel of 43 fits"}


def test_whoever_is_wrong_or_fails_has_no_time() -> None:
    setting, truth = Setting("cpu", dry=True), torch.ones(3)
    calls = {
        OURS: lambda: truth,
        "wrong": lambda: 2 * truth,
        "broken": broken,
        "flat": lambda: truth[:1],
        "other": lambda: 3 * truth,
    }
    [result] = contest(
        setting, "case a b", calls, truth, work=3e9, unit="GB/s", limit=1e-3, truths={"other": 3 * truth}, target="all"
    )
    said = {entry.contestant: entry.refused for entry in result.entries}
    assert (result.key, result.rate_unit) == ("gpu case case=a b", "GB/s")
    assert said == {
        OURS: None,
        "wrong": "its error of 1.0e+00 is above 1.0e-03",
        "broken": "it failed: RuntimeError: broken",
        "flat": "it failed: ValueError: its result has shape (1,), not (3,)",
        "other": None,
    }
    assert [entry.target for entry in result.entries] == ["all", "", "", "", ""]
    [wrong] = contest(setting, "case", {OURS: lambda: 2 * truth}, truth, work=1.0, unit="TFLOP/s", limit=1e-3)
    assert failures(Report({}, (wrong,))) == ["gpu case case=: longspan: its error of 1.0e+00 is above 1.0e-03"]


def broken() -> torch.Tensor:
    raise RuntimeError("broken")
