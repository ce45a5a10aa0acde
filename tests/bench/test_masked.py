"""A command on a processor that seems to have no AVX-512: what longspan finds there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.masked import LEVELS, main, masked_environment

ASK = "from longspan import _core; print(*_core.available_isas())"


@pytest.mark.parametrize("level", LEVELS)
def test_levels_that_are_left(level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = Path("/proc/cpuinfo")
    if not info.is_file() or "cpuid_fault" not in info.read_text():
        pytest.skip("needs Linux on a processor whose CPUID can trap")
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("needs a C compiler")
    monkeypatch.setenv("LONGSPAN_BENCH_CACHE", str(tmp_path))
    had = subprocess.run([sys.executable, "-c", ASK], check=True, capture_output=True, text=True).stdout.split()
    run = [sys.executable, "-c", ASK]
    left = subprocess.run(run, check=True, capture_output=True, text=True, env=masked_environment(level)).stdout.split()
    kept = ("portable", "avx2", "avx_vnni")[: 3 if level == "avx_vnni" else 2]
    assert left == [isa for isa in had if isa in kept]


def test_wrong_level(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sse2", "true"]) == 2
    assert "the level must be avx2 or avx_vnni, got 'sse2'" in capsys.readouterr().err
    assert main(["avx2"]) == 2
    assert "usage" in capsys.readouterr().err
