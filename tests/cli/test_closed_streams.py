"""Commands whose standard streams the caller has closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def run(words: list[str], closed: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f'exec "$@" {closed}'
    full = ["sh", "-c", command, "sh", sys.executable, "-m", "longspan", *words]
    return subprocess.run(full, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.fixture
def words(golden: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "in.txt").write_text("a\nb\n")
    return ["embed", str(golden / "bert-minilm"), "in.txt", "-o", "out.npy"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_the_work_is_done(closed: str, words: list[str], tmp_path: Path) -> None:
    done = run(words, closed, tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert np.load(tmp_path / "out.npy").shape == (2, 64)


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_an_index_is_built_and_asked(closed: str, words: list[str], tmp_path: Path) -> None:
    assert run(["search", "build", "it.index", "in.txt", "--model", words[1]], closed, tmp_path).returncode == 0
    assert run(["search", "query", "it.index", "a"], closed, tmp_path).returncode == 0


def test_what_was_to_come_or_go_there_is_told(words: list[str], tmp_path: Path) -> None:
    done = run([*words[:2], "-", "--format", "text", "-o", "out.npy"], "<&-", tmp_path)
    said = "longspan: error: standard input is closed; name a file; nothing was written to out.npy\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert not (tmp_path / "out.npy").exists()
    done = run([*words[:3], "-o", "-"], ">&-", tmp_path)
    assert (done.returncode, done.stderr) == (1, "longspan: error: standard output is closed; name an output file\n")
    assert run([*words[:2], "no.txt", "-o", "out.npy"], "2>&-", tmp_path).returncode == 1
