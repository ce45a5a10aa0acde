"""What tests of the command line share: an encoder that stands in for every model, files to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_encoder import FakeEncoder, write_lines
from synced_notes import write_notes


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """Stands in for the model of every command; the folder is a real one."""
    return FakeEncoder.stand_in(monkeypatch)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """TEXTS, one a line."""
    return write_lines(tmp_path / "in.txt")


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `notes` of the folder that the test runs in."""
    monkeypatch.chdir(tmp_path)
    write_notes(tmp_path / "notes")
    return tmp_path / "notes"
