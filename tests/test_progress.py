"""What shows how far work is: on a terminal, in a notebook, and where there is neither."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios
import types
from pathlib import Path

import pytest

from longspan import Encoder, progress
from longspan.progress import Meter, NotebookBar, progress_bar


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_line_every_30_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(5000, "text", None) as advance:
        for _ in range(50):
            clock.now += 2.5
            advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "longspan: texts: 1,200 of 5,000 (24 %), 40 texts/s, 1:35 left",
        "longspan: texts: 2,400 of 5,000 (48 %), 40 texts/s, 1:05 left",
        "longspan: texts: 3,600 of 5,000 (72 %), 40 texts/s, 0:35 left",
        "longspan: texts: 4,800 of 5,000 (96 %), 40 texts/s, 0:05 left",
        "longspan: texts: 5,000 of 5,000 (100 %), 40 texts/s, 2:05 in all",
    ]


def test_short_work_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(10, "text", None) as advance:
        clock.now += 29
        advance(10)
    with progress_bar(10, "text", False) as advance:
        clock.now += 99
        advance(10)
    assert capsys.readouterr().err == ""
    with progress_bar(2, "pair", True) as advance:
        clock.now += 4
        advance(2)
    assert capsys.readouterr().err == "longspan: pairs: 2 of 2 (100 %), 0.5 pairs/s, 0:04 in all\n"


def test_bytes_and_what_has_no_total(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3_400_000_000, "B", None, what="documents") as advance:
        clock.now += 40
        advance(34_000_000)
    with progress_bar(None, "row", None) as advance:
        clock.now += 4000
        advance(123)
    assert capsys.readouterr().err.splitlines() == [
        "longspan: documents: 34 MB of 3.4 GB (1 %), 850 kB/s, 1:06:00 left",
        "longspan: documents: 34 MB of 3.4 GB (1 %), 850 kB/s, 0:40 in all",
        "longspan: rows: 123, 0.031 rows/s",
        "longspan: rows: 123, 0.031 rows/s, 1:06:40 in all",
    ]


def test_no_stderr_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar(1, "text", True) as advance:
        advance(1)


def test_a_bar_on_a_terminal_names_what_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress_bar(3, "document", True) as advance:
            advance(3)
        terminal.flush()
        shown = ""
        while "100%" not in shown and select.select([master], [], [], 10)[0]:  # it comes in pieces
            shown += os.read(master, 4096).decode()
    os.close(master)
    last = shown.rstrip().split("\r")[-1]
    assert last.startswith("documents: 100%|")
    assert " documents/s" in last


class Cell:
    """What a notebook's cell shows: IPython's `display` and its handle."""

    def __init__(self) -> None:
        self.shown: list[NotebookBar] = []

    def display(self, value: NotebookBar, *, display_id: bool) -> Cell:
        assert display_id
        self.shown.append(value)
        return self

    def update(self, value: NotebookBar) -> None:
        self.shown.append(value)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    cell = Cell()
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = cell.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return cell


def test_a_bar_in_a_notebook(clock: Clock, cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(10, "text", None) as advance:
        for _ in range(10):
            clock.now += 0.5
            advance(1)
    assert [repr(bar) for bar in cell.shown][:2] == [
        "texts: 2 of 10 (20 %), 2 texts/s, 0:04 left",
        "texts: 3 of 10 (30 %), 2 texts/s, 0:04 left",
    ]
    assert repr(cell.shown[-1]) == "texts: 10 of 10 (100 %), 2 texts/s, 0:05 in all"
    assert cell.shown[0]._repr_html_() == (
        '<div><progress value="2" max="10" style="width: 20em"></progress> '
        "texts: 2 of 10 (20 %), 2 texts/s, 0:04 left</div>"
    )
    assert capsys.readouterr().err == ""


def test_short_work_shows_nothing_in_a_notebook(clock: Clock, cell: Cell) -> None:
    with progress_bar(10, "text", None) as advance:
        clock.now += 0.5
        advance(10)
    assert cell.shown == []


def test_a_name_is_no_html() -> None:
    bar = NotebookBar(Meter(None, "text", "<b>&", print, 1.0))
    assert "&lt;b&gt;&amp;: 0" in bar._repr_html_()
    assert "value" not in bar._repr_html_()


def test_an_ipython_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch, cell: Cell) -> None:
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", types.SimpleNamespace)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(1, "text", True) as advance:
        advance(1)
    assert cell.shown == []


def test_encode_says_how_far_it_is(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = Encoder(golden / "bert-minilm")
    encoder.encode(["a", "b"], show_progress_bar=True)
    encoder.encode_chunks(["One. Two."], show_progress_bar=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("longspan: texts: 2 of 2 (100 %), ")
    assert lines[1].startswith("longspan: characters of documents: 9 of 9 (100 %), ")
