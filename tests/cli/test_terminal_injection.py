"""What a text of somebody else's may do to a terminal: nothing, whichever command shows it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from longspan.cli import main
from longspan.cli.console.terminal import excerpt, json_line, one_line, shown, style, table

EVIL = "\x1b]0;owned\x07 \x1b[31mred \x9b31m C1 \u202eesrever\u202c \u2066x\u2069 \x7f \x00 car\rriage"
CONTROLS = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))} | set(
    "\u202a\u202b\u202d\u202e\u2066\u2067\u2069\u200f"
)


def harmless(text: str) -> bool:
    return not CONTROLS & set(text)


def test_every_way_to_the_terminal() -> None:
    assert shown(EVIL) == (
        r"\x1b]0;owned\x07 \x1b[31mred \x9b31m C1 \u202eesrever\u202c \u2066x\u2069 \x7f \x00 car\rriage"
    )
    assert shown("plain é 日本 \t\n") == "plain é 日本 \t\n"
    assert one_line("a name\n1  0.999  of two\x1b") == r"a name\n1  0.999  of two\x1b"
    for text in (
        excerpt(EVIL, indent=2, lines=9),
        table([("name", EVIL)]),
        style(EVIL, "bold"),
        json_line({"a": EVIL}),
    ):
        assert harmless(text)
    assert json.loads(json_line({"a": EVIL, "b": "日本"})) == {"a": EVIL, "b": "日本"}
    assert "日本" in json_line({"b": "日本"})


@pytest.mark.parametrize("options", [[], ["--json"], ["--full"]])
def test_a_search_that_finds_one(
    options: list[str],
    golden: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e\x1b[31mvil.jsonl").write_text(json.dumps({"text": EVIL, "na\x1bme": EVIL}) + "\n", "utf-8")
    model = str(golden / "bert-minilm")
    built = main(["search", "build", "it.index", "e\x1b[31mvil.jsonl", "--model", model, "--keep", "na\x1bme"])
    assert built == 0
    capsys.readouterr()
    assert main(["search", "query", "it.index", "red \x1b[32m", *options]) == 0
    out, err = capsys.readouterr()
    assert "owned" in out
    assert harmless(out)
    assert harmless(err)
    assert main(["search", "build", "it.index", "no\x1b[31mfile.txt", "--model", model]) == 1
    assert harmless(capsys.readouterr().err)


def test_a_database_with_evil_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute('CREATE TABLE "a\x1b[31m\n" (id INTEGER PRIMARY KEY, "t\x07" TEXT)')
    connection.execute('CREATE TABLE b (id INTEGER PRIMARY KEY, "r\x1b" INTEGER REFERENCES "a\x1b[31m\n", u TEXT)')
    for number in range(3):
        connection.execute(
            'INSERT INTO "a\x1b[31m\n" VALUES (?, ?)', (number, f"{EVIL} and more words of it, {number}")
        )
        connection.execute("INSERT INTO b VALUES (?, ?, ?)", (number, number, f"u {number}"))
    connection.commit()
    connection.close()
    for least in ("2", "9"):  # relations that are used, and ones with too few pairs
        assert main(["retro", "plan", str(tmp_path / "x.db"), "--min-edges", least]) == 0
        out = capsys.readouterr().out
        assert harmless(out) and r"b.u - a\x1b[31m\n.t\x07 (b: r\x1b)" in out
        assert "'…\n" not in out and "…'" in out  # a sample that is cut has both its quotes
