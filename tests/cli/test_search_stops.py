"""Runs of `longspan search build` that are stopped or killed: what is kept, and how they go on."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest

from damage import killed_writers
from fake_encoder import MODEL, TEXTS, FakeEncoder, ask, build, found
from longspan.cli import main
from longspan.cli.search import build as search_build
from longspan.documents import folder as index_folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """Stands in for the model of every command. Queries have the vectors of documents."""
    return FakeEncoder.stand_in(monkeypatch, has_roles=False)


def test_the_old_index_stays_until_the_new_one_is_whole(
    fake: FakeEncoder,
    lines: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run with --force that is stopped, before and after its first save; resumed; one that cannot
    be put in place; and one that was killed between the two renames."""
    monkeypatch.setattr(index_folder, "_SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr(search_build, "SAMPLE", 10)
    index, old, words = tmp_path / "index", tmp_path / "old.txt", ("--lines", "--model", MODEL)
    old.write_text("the old one\n")
    assert build(index, old, *words) == 0
    kept = "64 documents of the new one kept, and the same command with --resume in place of --force goes on from there"
    for place, fate, names in ((0, "", set()), (120, f"; {kept}", {"index.new"})):
        fake.raises[TEXTS[place]] = KeyboardInterrupt()
        capsys.readouterr()
        assert build(index, lines, *words, "--force") == 130
        assert capsys.readouterr().err == f"longspan: interrupted; {index} is as it was{fate}\n"
        assert found(ask(capsys, index, "x", "-k", 9)) == [["the old one"]]
        fake.raises.clear()
        assert {path.name for path in tmp_path.iterdir()} == {"index", "old.txt", "in.txt", *names}
    fake.texts.clear()
    rename = os.rename

    def refused(source: object, target: object) -> None:
        if str(source).endswith(".new"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refused)
        assert build(index, lines, *words, "--resume") == 1
    assert fake.texts == TEXTS[64:]
    assert found(ask(capsys, index, "x", "-k", 9)) == [["the old one"]]
    os.rename(index, tmp_path / "index.old")  # as a run that is killed between its two renames leaves it
    assert build(index, lines, *words, "--resume") == 0
    assert found(ask(capsys, index, "--file", lines, "-k", 1)) == [[text] for text in TEXTS]
    assert build(index, old, *words, "--force") == 0
    assert found(ask(capsys, index, "x", "-k", 9)) == [["the old one"]]
    assert {path.name for path in tmp_path.iterdir()} == {"index", "old.txt", "in.txt"}
    (tmp_path / "index.new").mkdir()
    (tmp_path / "index.new" / "of somebody else").touch()
    assert build(index, old, *words, "--force") == 1
    assert f"{index}.new is no index of `longspan search`" in capsys.readouterr().err


def test_a_stopped_run_goes_on(
    fake: FakeEncoder,
    lines: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Saved after every block, stopped at the 120th text, with rows behind the last save that do not count."""
    monkeypatch.setattr(index_folder, "_SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr(search_build, "SAMPLE", 10)
    index, words = tmp_path / "index", ("--lines", "--model", MODEL)
    fake.raises[TEXTS[120]] = KeyboardInterrupt()
    assert build(index, lines, *words) == 130
    err = capsys.readouterr().err
    assert err == "longspan: interrupted; 64 documents kept, and the same command with --resume goes on from there\n"
    with open(index / "documents.jsonl", "a") as file:
        file.write('{"id": 1, "text": "left by a save that did not end')
    assert build(index, lines, *words, "--append") == 1
    assert "was stopped; go on with it by --resume" in capsys.readouterr().err
    assert main(["info", str(index)]) == 0 and "goes on with it" in capsys.readouterr().out
    assert main(["search", "query", str(index), "word"]) == 0
    assert capsys.readouterr().err.endswith("was stopped; --resume goes on with it\n")
    assert build(index, lines, *words, "--resume", "--store", "codes") == 1
    assert "holds a run of another kind (store differs)" in capsys.readouterr().err
    fake.raises.clear()
    fake.texts.clear()
    assert build(index, lines, *words, "--resume", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["added"], summary["resumed"]) == (150, 150, 64)
    assert fake.texts == TEXTS[64:]
    assert found(ask(capsys, index, "--file", lines, "-k", 1)) == [[text] for text in TEXTS]
    assert build(index, lines, *words, "--resume") == 1
    assert "is done; there is nothing to resume" in capsys.readouterr().err


def test_a_run_without_rows_leaves_nothing(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = tmp_path / "index"
    fake.raises[TEXTS[0]] = OSError(28, "No space left on device")
    assert build(index, lines, "--lines", "--model", MODEL) == 1
    assert capsys.readouterr().err == f"longspan: error: No space left on device; nothing was written to {index}\n"
    assert not index.exists()


WRITER = """
import sys
from pathlib import Path
import numpy as np
from longspan import BinaryIndex
from longspan.documents.folder import IndexWriter, Settings, load_index
folder, rng = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2]))
index = load_index(folder) or BinaryIndex(24)
writer = IndexWriter(folder, Settings(None, None, None, None), {}, index, first=0, target=folder)
print("ready", flush=True)
while True:
    rows = len(index) + np.arange(int(rng.integers(1, 300)))
    # Document i has the bits of i, and says i.
    writer.append(((rows[:, None] >> np.arange(24)) & 1) - 0.5, [f'{{"text": "{i}", "source": "s"}}' for i in rows])
    if rng.random() < 0.7:
        writer.save()
        print(len(index), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_run_leaves_texts_that_fit(tmp_path: Path) -> None:
    """Every document that the index counts has its own text; what a killed run left behind is cut off by the next."""
    folder, count = tmp_path / "index", 0
    for said in killed_writers(WRITER, folder, 5):
        index = index_folder.load_index(folder)
        if index is None:
            assert said is None and count == 0
            continue
        assert len(index) >= (int(said) if said else count)
        count = len(index)
        with closing(index_folder.Documents(folder)) as documents:
            assert [documents.get(id).text for id in index.ids.tolist()] == [str(row) for row in range(count)]
    assert count > 0
