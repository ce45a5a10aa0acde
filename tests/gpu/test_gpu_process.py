"""The hooks of tests/conftest.py around GPU tests, in a pytest of their own with a torch that can lose its device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]

# A torch whose device is lost by one test, as an illegal address would: every later call fails.
CONFTEST = """
import sys, types
lost = []

def call(*_args, **_named):
    if lost:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return types.SimpleNamespace(item=lambda: 0)

torch = types.ModuleType("torch")
torch.lost, torch.zeros = lost, call
torch.cuda = types.SimpleNamespace(is_initialized=lambda: True, synchronize=call, is_available=lambda: True)
sys.modules["torch"] = torch
sys.path[:0] = [{tests!r}]
from gpu_process import MARGINS
from conftest_of_longspan import *
"""
CASES = """
import torch, pytest
from gpu_process import MARGINS

def test_one():
    MARGINS.extend([0.25, 0.5])

def test_breaks():
    torch.lost.append(True)  # the kernel fails later, when it runs

def test_skips():
    pytest.skip("not here")

@pytest.mark.parametrize("number", range(3))
def test_after(number):
    pass
"""


def run(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, dict[str, object]]]:
    """pytest on CASES, and its lines by test."""
    (folder / "conftest_of_longspan.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "conftest.py").write_text(CONFTEST.format(tests=str(TESTS)))
    (folder / "test_cases.py").write_text(CASES)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  emulator: x\npythonpath = .\n")
    lines = folder / "lines.jsonl"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_cases.py"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    here = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    env = {**kept, "LONGSPAN_TEST_LINES": str(lines), "PYTHONPATH": here}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    return done, {str(line["test"]).partition("::")[2]: line for line in found}


def test_a_lost_device_is_its_tests_own_failure_and_ends_the_process(tmp_path: Path) -> None:
    done, lines = run(tmp_path)
    assert lines["test_one"]["outcome"] == "passed" and lines["test_one"]["margin"] == 0.5
    assert lines["test_breaks"]["outcome"] == "failed" and "illegal memory access" in str(lines["test_breaks"]["why"])
    assert done.returncode == 3 and "test_breaks has lost the CUDA device" in done.stdout + done.stderr
    assert "test_after[0]" not in lines, "it would fail with the error of another"


def test_a_worker_that_lost_the_device_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    _, lines = run(tmp_path, "-n", "1")
    assert lines["test_breaks"]["outcome"] == "failed"
    assert lines["test_skips"]["outcome"] == "skipped" and "not here" in str(lines["test_skips"]["why"])
    assert [lines[f"test_after[{number}]"]["outcome"] for number in range(3)] == ["passed"] * 3


def test_what_runs_in_the_emulator_is_marked() -> None:
    """By its fixtures: no test's name says so."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "emulator", "tests/gpu"]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, timeout=120, check=False)
    named = {line.partition("[")[0].rpartition("/")[2] for line in done.stdout.splitlines() if "::" in line}
    wanted = ["test_cuda_hamming.py", "test_cuda_span_mean.py", "test_cuda_binarize.py"]
    assert all(any(name.startswith(file) for name in named) for file in wanted), done.stdout[-500:]
    assert "on_device" not in done.stdout
