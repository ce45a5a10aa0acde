"""Two builds compared in turn: what counts as slower, what a folder must hold, and the command on this checkout."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import longspan
from bench.builds import Turns, packages_of
from longspan import _core
from longspan.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this longspan and what is compiled of it, which an editable install keeps elsewhere."""
    folder = tmp_path_factory.mktemp("built").resolve()
    (folder / "longspan").mkdir()
    for entry in (*Path(longspan.__file__).parent.iterdir(), Path(_core.__file__)):
        link = folder / "longspan" / entry.name
        if not link.exists():
            link.symlink_to(entry)
    return folder


def turns(before: list[float], after: list[float]) -> Turns:
    return Turns((before, after), (before, after))


def test_a_change_counts_beyond_the_threshold_on_one_side_and_in_the_shortest_calls() -> None:
    assert turns([1.0, 1.0, 1.0], [1.05, 1.04, 1.05]).verdict(0.02) == "slower"
    assert turns([1.0, 1.0, 1.0], [1.01, 1.01, 1.02]).verdict(0.02) == "same"
    assert turns([1.05, 1.04, 1.05], [1.0, 1.0, 1.0]).verdict(0.02) == "faster"
    noisy = turns([1.0, 1.3, 1.0, 1.1], [1.1, 1.0, 1.2, 1.2])
    assert noisy.verdict(0.02) == "same"
    shortest = Turns(([1.0] * 3, [1.05] * 3), ([0.9] * 3, [0.9] * 3))
    assert shortest.verdict(0.02) == "same"
    assert turns([1.0], [1.5]).text(0.02).startswith("slower")


def test_a_folder_must_hold_a_build(tmp_path: Path, built: Path) -> None:
    assert packages_of(built) == built
    with pytest.raises(ValueError, match="holds no longspan"):
        packages_of(tmp_path)
    (tmp_path / "longspan").mkdir()
    (tmp_path / "longspan" / "__init__.py").touch()
    with pytest.raises(ValueError, match="not built: no _core is in"):
        packages_of(tmp_path)
    (tmp_path / "longspan" / f"_core.{sys.implementation.cache_tag}.so").touch()
    assert packages_of(tmp_path) == tmp_path


def test_the_command(capfd: pytest.CaptureFixture[str], built: Path) -> None:
    quick = ["--seconds", "0.01", "--rounds", "1", "--starts", "1", "--threshold", "50"]
    arguments = ["bench", "compare", str(built), str(built), "span_mean", "--cases", "parting", *quick]
    assert main([*arguments, "--all"]) == 0
    assert "compared, 0 slower" in capfd.readouterr().out
    assert main(["bench", "compare", str(built), str(built)]) == 1
    assert "name the benches to run with the two builds" in capfd.readouterr().err
    assert main(["bench", "compare", str(ROOT / "tests"), str(built), "linear"]) == 1
    assert "tests holds no longspan" in capfd.readouterr().err
    assert main(["bench", "compare", str(built), str(built), "startup", "--starts", "1"]) == 1
    assert "is not made of cases" in capfd.readouterr().err
