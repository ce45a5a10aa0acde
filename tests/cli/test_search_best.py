"""What `search query` shows of a hit: the sentence that answers, in bold on a terminal; "" is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, FakeEncoder
from longspan.cli import main
from longspan.cli.console.terminal import excerpt
from longspan.cli.search.best import sentences_of

COLBERT = str(Path(__file__).parents[1] / "golden" / "jina-colbert-v2")
FILLER = " ".join(f"Filler sentence number {number} says nothing." for number in range(12))
TEXT = f"# Notes\n\n{FILLER} Cats sleep most of the day. And so on.\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("notes.md").write_text(TEXT)
    assert main(["search", "build", "i", "notes.md", "--model", MODEL, "--whole-file"]) == 0
    return "i"


class Words(FakeEncoder):
    """Vectors that count some words."""

    def encode(self, texts: list[str], **options: object) -> np.ndarray:
        self.texts += texts
        known = ("cats", "sleep", "filler", "notes")
        return np.array([[text.lower().count(word) + 0.01 for word in known] for text in texts], np.float32)

    encode_query = encode_document = encode  # type: ignore[assignment]


def test_the_sentence_that_answers(
    index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = Words()
    monkeypatch.setattr("longspan.cli.embedding.options.ModelOptions.open", lambda self, model: words)
    assert main(["search", "build", "w", "notes.md", "--model", MODEL, "--whole-file", "--force"]) == 0
    assert main(["search", "query", "w", "do", "cats", "sleep"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "     ... Cats sleep most of the day. And so on."
    assert main(["search", "query", "w", "cats", "sleep", "--json"]) == 0
    assert "best" not in json.loads(capsys.readouterr().out)["hits"][0]
    assert main(["search", "query", "w", "cats", "sleep", "--json", "--best"]) == 0
    best = json.loads(capsys.readouterr().out)["hits"][0]["best"]
    assert TEXT[best["start"] : best["end"]] == "Cats sleep most of the day."
    words.texts.clear()
    assert main(["search", "query", "w", "cats", "sleep", "--no-best"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "     # Notes" and words.texts == ["cats sleep"]
    assert main(["search", "query", "w", "cats", "sleep", "--full"]) == 0
    assert "     # Notes" in capsys.readouterr().out.splitlines()


def test_bold_on_a_terminal(index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("longspan.cli.console.terminal.is_terminal", lambda stream: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = f"{'Before. ' * 20}The best sentence\ngoes over \x1b[31m lines and is rather long. After it."
    start = text.index("The best")
    told = excerpt(text, indent=2, lines=4, best=(start, text.index("After") - 1))
    bold = "".join(re.findall(r"\x1b\[1m(.*?)\x1b\[0m", told, re.DOTALL))
    assert " ".join(bold.split()) == r"The best sentencegoes over \x1b[31m lines and is rather long."
    assert told.startswith("  ... \x1b[1mThe best sentence\x1b[0m") and told.endswith(" After it.")
    assert "\ue000" not in told and excerpt("a \ue000b\ue001", indent=0, lines=3, best=(0, 1)) == "\x1b[1ma\x1b[0m b"
    near = excerpt("Short. The best one. After.", indent=0, lines=3, best=(7, 20))
    assert near == "Short. \x1b[1mThe best one.\x1b[0m After."


def test_late_interaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.md").write_text(TEXT)
    assert main(["search", "build", "t", "notes.md", "--model", COLBERT, "--whole-file"]) == 0
    assert main(["search", "query", "t", "--json", "--best", "Cats", "sleep", "most", "of", "the", "day."]) == 0
    best = json.loads(capsys.readouterr().out)["hits"][0]["best"]
    assert TEXT[best["start"] : best["end"]] == "Cats sleep most of the day."


@pytest.mark.parametrize("words", [[""], ["  "], ["", " "]])
def test_an_empty_question_is_refused(words: list[str], index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "query", index, *words]) == 1
    assert capsys.readouterr().err == "longspan: error: the question is empty; ask in words\n"


def test_its_siblings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    assert main(["rerank", "model", str(tmp_path / "a.txt"), "--query", " "]) == 1
    assert "--query is empty; ask in words" in capsys.readouterr().err
    assert main(["demo", "--question", ""]) == 1
    assert "--question is empty; ask in words" in capsys.readouterr().err


def test_what_counts_as_a_sentence() -> None:
    text = (
        "# Title\n\nOne. Two goes\non.\n\n| a | b |\n| --- | --- |\n| row | one |\n| row | two |\n\n- item\n- other\n"
    )
    assert [text[start:end] for start, end in sentences_of(text, "x.md")] == [
        "# Title", "One.", "Two goes\non.", "| a | b |\n| --- | --- |\n| row | one |", "| row | two |", "- item",
        "- other"
    ]  # fmt: skip
    code = "import os\n\ndef f(a):\n    x = a.b.c\n    return x\n"
    assert [code[start:end] for start, end in sentences_of(code, "x.py")] == [
        "import os", "def f(a):\n    x = a.b.c", "return x"
    ]  # fmt: skip
    assert sentences_of("", "x") == sentences_of("---\n1\n", "x") == []
    assert len(sentences_of("Word one. " * 500, "x.txt")) == 64
