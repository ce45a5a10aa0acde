"""Two runs on one folder: the second says so and touches nothing, whatever their options are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from longspan import BinaryIndex
from longspan.cli import main
from longspan.documents.alone import alone


@pytest.fixture
def words(golden: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "a.txt").write_text("\n\n".join(f"paragraph number {place} of some words" for place in range(300)))
    return [
        "search",
        "build",
        str(tmp_path / "it.index"),
        str(tmp_path / "a.txt"),
        "--model",
        str(golden / "bert-minilm"),
    ]


@pytest.mark.parametrize("option", [None, "--force", "--append", "--resume"])
def test_the_second_says_so(
    option: str | None, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if option is not None:
        assert main(words) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with alone(tmp_path / "it.index", "it.index"):
        assert main([*words, *([option] if option else [])]) == 1
    assert "it.index is being written by another process; wait for it to end" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path != tmp_path} == {
        path: time for path, time in before.items() if path != tmp_path
    }


def test_at_once(words: list[str], tmp_path: Path) -> None:
    """Whichever comes first makes the whole index; the other fails, or goes on where it may."""
    command = [sys.executable, "-m", "longspan", *words, "--force"]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [(run.communicate()[1], run.returncode) for run in runs]
    assert min(code for _, code in ends) == 0
    assert all(code == 0 or "is being written by another process" in said for said, code in ends)
    index = BinaryIndex.load(tmp_path / "it.index", verify=True)
    assert len(index) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "it.index"]


def test_the_lock_goes(tmp_path: Path) -> None:
    with alone(tmp_path / "x", "x"):
        assert (tmp_path / ".x.lock").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [None, "--force", "--resume"])
def test_what_a_run_leaves_that_was_killed_at_once(option: str | None, words: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "it.index"
    folder.mkdir()
    (folder / "documents.jsonl").write_text('{"id": 0, "te')
    assert main([*words, *([option] if option else [])]) == 0
    assert len(BinaryIndex.load(folder, verify=True)) > 0


def test_a_folder_of_somebody_else_s_stays(words: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "it.index"
    folder.mkdir()
    (folder / "documents.jsonl").touch()
    (folder / "thesis.tex").write_text("mine")
    for option in ([], ["--force"], ["--resume"]):
        assert main([*words, *option]) == 1
    assert (folder / "thesis.tex").read_text() == "mine"
