"""`longspan retro`: plan, run, update and query, from a database to answers."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, FakeEncoder, longspan_process
from longspan.cli import main
from longspan.relations import Database, Retrofitted
from retro_databases import make, script


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "x.db", script("library"))


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    stand_in = FakeEncoder.stand_in(monkeypatch)
    plain = stand_in.encode

    def encode(texts: list[str], **options: object) -> np.ndarray:
        return plain(texts, truncate_dim=None, **options)

    stand_in.encode, stand_in.origin = encode, None
    return stand_in


def retro(*words: object) -> int:
    return main(["retro", *map(str, words)])


def test_plan(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = path.read_bytes()
    assert retro("plan", path, "--exclude", "genres", "--exclude", "works.language") == 0
    shown = capsys.readouterr().out
    assert "works.title - authors.name (work_authors: work_id, author_id)" in shown
    assert "genres" not in shown and "too few pairs to be used: awards.name - works.title (awards: work_id): 0" in shown
    name = "works.title - works.language (same row)"
    assert retro("plan", f"sqlite:///{path}", "--json", "--weight", f"{name}=0.5") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["nodes"] == 76 and len(plan["columns"]) == 12 and len(plan["relations"]) == 28
    (weighted,) = (relation for relation in plan["relations"] if relation["weight"] != 1)
    assert weighted["name"] == name and weighted["pairs"] == 13
    assert path.read_bytes() == before


def test_run_update_query(path: Path, encoder: FakeEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    out = path.parent / "r.npz"
    assert retro("run", path, "--model", MODEL, "--exclude", "awards", "--out", out, "--json", "--alpha", 0.3) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["output"], summary["nodes"], summary["dim"], summary["steps"]) == (str(out), 76, 16, 10)
    result = Retrofitted.load(out)
    assert result.settings.strengths.alpha == 0.3 and len(encoder.texts) == len(set(result.plan.texts))

    make(path, script("library_insert"))
    del encoder.texts[:]
    assert retro("update", path, "--model", MODEL, "--out", out, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["added"], report["removed"], report["embedded"], report["nodes"]) == (5, 0, 5, 81)
    assert len(encoder.texts) == 5 and len(Retrofitted.load(out).nodes) == 81

    assert retro("query", out, "--of", "works.title", "Salt", "Road", "North", "-k", 3, "--json") == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    expected = Retrofitted.load(out).neighbors("works.title", "Salt Road North", 3)
    assert [hit["node"] for hit in hits] == [hit.node for hit in expected]
    ask = ("query", out, "--of", "works.title", "Salt Road North", "--complete", "authors.name")
    assert retro(*ask) == 0
    assert "related" in capsys.readouterr().out
    assert retro(*ask, "--unknown") == 0
    assert "related" not in capsys.readouterr().out
    assert retro("query", out, "any", "words", "--model", MODEL, "--within", "genres.name") == 0
    assert len(capsys.readouterr().out.splitlines()) == 9


def test_into_the_database_itself(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only tables of ours come; those that were there stay as they were."""
    was = list(sqlite3.connect(path).iterdump())
    words = ("run", path, "--model", MODEL, "--out", f"sqlite:///{path}", "--table", "vectors")
    assert retro(*words) == 0
    assert retro(*words) == 1
    assert "the table vectors exists; force replaces it" in capsys.readouterr().err
    assert retro(*words, "--force") == 0
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE vectors; DROP TABLE vectors_meta")
    assert list(connection.iterdump()) == was
    connection.close()


def test_nothing_is_written_without_out(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, names = path.read_bytes(), sorted(path.parent.iterdir())
    assert retro("run", path, "--model", MODEL, "--json", "--solver", "ro", "--iterations", "exact") == 0
    assert json.loads(capsys.readouterr().out)["output"] is None
    assert path.read_bytes() == before and sorted(path.parent.iterdir()) == names


def test_vectors_from_a_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = path.parent / "base.npy", path.parent / "r.npz"
    np.save(given, np.random.default_rng(0).standard_normal((76, 5)))
    assert retro("run", path, "--vectors", given, "--out", out) == 0
    assert Retrofitted.load(out).vectors.shape == (76, 5)
    assert retro("query", out, "any words") == 1
    assert "knows no model to embed a text with; give --model, or --of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (("plan", "mysql://x"), "a database is sqlite:///PATH, postgresql"),
        (("plan", "sqlite:///none.db"), "none.db: no such database file"),
        (("plan", "{}", "--exclude", "nothing"), "the database has no table or column 'nothing'"),
        (("plan", "{}", "--weight", "nothing=1"), "--weight: there is no relation 'nothing'"),
        (("plan", "{}", "--weight", "nothing"), "--weight takes RELATION=W"),
        (("run", "{}", "--model", MODEL, "--alpha", "-1"), "alpha must be a finite number from 0 up"),
        (("run", "{}", "--model", MODEL, "--solver", "ro", "--delta", "3"), "RO with delta = 3 diverges"),
        (("run", "{}", "--model", MODEL, "--out", "x.txt"), "a result is kept in FILE.npz"),
        (("run", "{}", "--model", MODEL, "--out", "none/x.npz"), "does not exist"),
        (("update", "{}", "--out", "none.npz"), "none.npz: No such file"),
        (("query", "{}", "word"), "a result is kept in FILE.npz"),
        (("query", "x.npz", "word", "--complete", "a.b"), "--complete needs --of"),
        (("query", "x.npz", "word", "--unknown"), "--unknown goes with --complete"),
    ],
    ids=str,
)
def test_what_is_refused(
    words: tuple[str, ...],
    message: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(path.parent)
    assert retro(*(word.format(path) for word in words)) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_help() -> None:
    for words in ((), ("plan",), ("run",), ("update",), ("query",)):
        assert longspan_process("retro", *words, "--help").returncode == 0


def test_an_empty_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path / "x.db", "CREATE TABLE t (n INTEGER)")
    assert retro("plan", path) == 0
    assert "the database has no text" in capsys.readouterr().out
    assert retro("run", path, "--model", MODEL) == 1
    assert "no text column holds any text; nothing to retrofit" in capsys.readouterr().err
    assert len(Database(path).plan().nodes) == 0
