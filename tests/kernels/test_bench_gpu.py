"""The GPU benches' plumbing, on tiny sizes in the interpreter: who is timed, and what the record says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel_cases import ON_GPU, torch  # isort: skip  # skips where torch or triton is not installed
from bench.gpu.__main__ import main
from bench.gpu.contest import OURS, Setting, contest

pytestmark = pytest.mark.skipif(ON_GPU, reason="the dry run needs the interpreter, which a process with a GPU lacks")


@pytest.mark.parametrize("part", ["streams", "adapters"])
def test_dry_run(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gpu.json"
    assert main(["--dry", "--only", part, "--json", str(file)]) == 0
    record = json.loads(file.read_text())
    assert record["command"] == f"python -m bench.gpu --dry --only {part} --json gpu.json"
    assert record["failed"] == [] and {"commit", "versions", "machine", "date"} <= record.keys()
    assert {row["contestant"] for row in record["rows"]} > {OURS}
    printed = capsys.readouterr().out
    assert all(row["case"] in printed for row in record["rows"])


def test_without_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "error: no CUDA device; --dry tries the plumbing without one" in capsys.readouterr().err


def test_a_wrong_result_of_ours_is_an_error_and_a_peers_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    setting, truth = Setting("cpu", dry=True), torch.ones(3)
    how = {"work": 1.0, "unit": "GB/s", "limit": 1e-3}
    rows = contest(setting, "case", {OURS: lambda: truth, "peer": lambda: 2 * truth}, truth, **how)
    assert [row.contestant for row in rows] == [OURS]
    assert "case: peer left out, off by 1" in capsys.readouterr().out
    with pytest.raises(ValueError, match="case: longspan is off by 1, allowed is 0.001"):
        contest(setting, "case", {OURS: lambda: 2 * truth}, truth, **how)
    with pytest.raises(ValueError, match="case: longspan too is off by 1"):
        contest(setting, "case", {OURS: lambda: truth, f"{OURS} too": lambda: 2 * truth}, truth, **how)
    with pytest.raises(RuntimeError, match="broken"):
        contest(setting, "case", {OURS: broken}, truth, **how)
    assert len(contest(setting, "case", {OURS: lambda: truth, "peer": broken}, truth, **how)) == 1


def broken() -> torch.Tensor:
    raise RuntimeError("broken")
