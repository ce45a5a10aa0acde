"""`search build --sync`, `--append` and `search delete`: the index holds what its files hold."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_encoder import MODEL, FakeEncoder
from longspan import SparseIndex
from longspan.cli import main
from synced_notes import counts, held, summary_of

GOLDEN = Path(__file__).parents[1] / "golden"
COLBERT = str(GOLDEN / "jina-colbert-v2")
SPLADE = str(GOLDEN / "splade-bert" / "model")
CLIP = str(GOLDEN / "jina-clip-v2" / "model")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    return FakeEncoder.stand_in(monkeypatch, has_roles=False)


def test_new_changed_and_gone(notes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = summary_of(capsys, "build", "i", "notes", "--sync", "--model", MODEL)
    assert counts(first) == (6, 0, 0, 0) and first["added"] == 6
    assert sorted(held()) == [f"notes/{n}.md#0" for n in range(4)] + ["notes/rows.jsonl:1#0", "notes/rows.jsonl:2#0"]
    again = summary_of(capsys, "build", "i", "notes", "--sync")
    assert counts(again) == (0, 0, 6, 0) and (again["added"], again["deleted"]) == (0, 0)
    Path("notes/0.md").write_text("Other words.\n")
    Path("notes/1.md").unlink()
    Path("notes/sub").mkdir()
    Path("notes/sub/new.txt").write_text("New words.")
    monkeypatch.chdir("notes")
    summary = summary_of(capsys, "build", "../i", "--sync")  # from another folder, with the inputs of the last run
    assert counts(summary) == (1, 1, 4, 1) and (summary["added"], summary["deleted"]) == (2, 2)
    texts = held("../i")
    assert texts["notes/0.md#0"] == "Other words.\n" and texts["notes/sub/new.txt#0"] == "New words."
    assert "notes/1.md#0" not in texts and len(texts) == 6


def test_inputs_of_the_last_run_are_named_as_if_typed_here(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary_of(capsys, "build", "i", "notes", "--sync", "--model", MODEL)
    Path("notes/new.txt").write_text("New words.")
    Path("notes/new.wav").write_bytes(b"RIFF")
    assert main(["search", "build", "i", "--sync"]) == 0
    assert "1 sound, and this model reads texts (notes/new.wav)" in capsys.readouterr().err
    assert main(["search", "query", "i", "--json", "-k", "1", "New words."]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["source"] == "notes/new.txt"


def test_nothing_unchanged_is_embedded(fake: FakeEncoder, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("build", "i", "notes", "--whole-file", "--model", MODEL)
    summary_of(capsys, *words)
    fake.texts.clear()
    assert counts(summary_of(capsys, *words, "--append")) == (0, 0, 6, 0) and fake.texts == []
    Path("notes/2.md").write_text("changed")
    assert counts(summary_of(capsys, *words, "--sync")) == (0, 1, 5, 0) and fake.texts == ["changed"]
    assert counts(summary_of(capsys, *words, "--sync", "--prompt", "p: ")) == (0, 6, 0, 0)  # other vectors


def test_the_same_file_twice_is_there_once(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary_of(capsys, "build", "i", "notes/0.md", "--model", MODEL)
    before = held()
    assert summary_of(capsys, "build", "i", "notes/0.md", "--append")["documents"] == 1 and held() == before
    assert counts(summary_of(capsys, "build", "i", "notes/1.md", "--append")) == (
        1,
        0,
        0,
        0,
    )  # all else stays
    assert len(held()) == 2
    shutil.copytree(notes.parent, notes.parent.parent / "moved")
    os.chdir(notes.parent.parent / "moved")  # both together, elsewhere
    assert counts(summary_of(capsys, "build", "i", "notes/0.md", "notes/1.md", "--sync")) == (0, 0, 2, 0)


def test_keys_of_rows(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("build", "i", "notes/rows.jsonl", "--key", "id", "--model", MODEL)
    summary_of(capsys, *words)
    assert held() == {"1#0": "row a", "2#0": "row b"}
    Path("notes/rows.jsonl").write_text(
        '{"text": "new", "id": 3}\n{"text": "row b", "id": 2}\n{"text": "A", "id": 1}\n'
    )
    assert counts(summary_of(capsys, *words, "--sync")) == (1, 1, 1, 0)
    assert held() == {"1#0": "A", "2#0": "row b", "3#0": "new"}
    for bad, message in (
        ('{"text": "x"}', "field 'id' must be the row's key, a string or a number"),
        ('{"text": "x", "id": 1}\n{"text": "y", "id": 1}', "the key '1' is another document's too"),
    ):
        Path("notes/rows.jsonl").write_text(bad)
        assert main(["search", *words, "--sync"]) == 1
        assert message in capsys.readouterr().err
    assert len(held()) >= 3  # nothing was deleted


def test_vectors_are_synced(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    np.save("v.npy", rows)
    summary_of(capsys, "build", "i", "v.npy", "--vectors")
    rows[2] += 1
    np.save("v.npy", rows[:4])
    assert counts(summary_of(capsys, "build", "i", "v.npy", "--vectors", "--sync")) == (0, 1, 3, 1)
    assert sorted(held()) == [f"v.npy: row {n}#0" for n in range(1, 5)]


def test_what_cannot_be_read_stays(
    notes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary_of(capsys, "build", "i", "notes", "--sync", "--model", MODEL)
    Path("notes/3.md").write_bytes(b"\xff not text any more")
    scandir, opened = os.scandir, open

    def refuse(path: object, *args: object, **options: object) -> object:
        if str(path).endswith("0.md"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", refuse)
    summary = summary_of(capsys, "build", "i", "notes", "--sync")
    monkeypatch.undo()
    os.chdir(notes.parent)
    assert counts(summary) == (0, 0, 4, 0) and summary["passed_over"]["not readable (Permission denied)"]["files"] == 1
    assert {"notes/0.md#0", "notes/3.md#0"} <= set(held())

    def no_folder(path: object) -> object:
        if str(path) == "notes":
            raise PermissionError(13, "Permission denied")
        return scandir(path)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "scandir", no_folder)
    assert main(["search", "build", "i", "notes", "--sync"]) == 1
    assert "there is no text in the inputs" in capsys.readouterr().err
    monkeypatch.undo()
    os.chdir(notes.parent)
    assert len(held()) == 6


def test_an_empty_folder_deletes_nothing(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary_of(capsys, "build", "i", "notes", "--sync", "--model", MODEL)
    before = held()
    shutil.rmtree("notes")
    Path("notes").mkdir()
    assert main(["search", "build", "i", "--sync"]) == 1
    assert "there is no text in the inputs" in capsys.readouterr().err
    assert held() == before


def test_what_was_appended_is_remembered(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary_of(capsys, "build", "i", "notes/0.md", "--model", MODEL)
    summary_of(capsys, "build", "i", "notes/1.md", "--append")
    Path("notes/1.md").write_text("changed")
    assert counts(summary_of(capsys, "build", "i", "--sync")) == (0, 1, 1, 0)
    settings = json.loads(Path("i/search.json").read_text())
    del settings["run"]["about"]["everything"]  # of an older longspan
    Path("i/search.json").write_text(json.dumps(settings))
    summary_of(capsys, "build", "i", "notes/2.md", "--append")
    assert main(["search", "build", "i", "--sync"]) == 1
    assert "does not say what it was built from; name the inputs" in capsys.readouterr().err
    assert len(held()) == 3


def test_files_and_folders_that_are_no_longer_there(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other").mkdir()
    Path("other/z.md").write_text("other words")
    summary_of(capsys, "build", "i", "notes/0.md", "notes/1.md", "other", "--sync", "--model", MODEL)
    Path("notes/0.md").unlink()
    assert counts(summary_of(capsys, "build", "i", "--sync")) == (0, 0, 2, 1)
    shutil.move("other", "away")
    assert main(["search", "build", "i", "--sync"]) == 1  # a disk that is not mounted, perhaps
    assert "other: no such file" in capsys.readouterr().err
    assert sorted(held()) == ["notes/1.md#0", "other/z.md#0"]
    summary_of(capsys, "build", "j", "notes/1.md", "--model", MODEL)
    Path("notes/1.md").unlink()
    assert main(["search", "build", "j", "--sync"]) == 1
    assert "nothing was deleted" in capsys.readouterr().err and len(held("j")) == 1


def test_delete(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary_of(capsys, "build", "i", "notes", "--model", MODEL, "--sparse", SPLADE)
    dry = summary_of(capsys, "delete", "i", "notes/*.md", "--dry-run")
    assert dry["keys"] == [f"notes/{n}.md" for n in range(4)] and len(held()) == 6
    assert main(["search", "delete", "i", "notes/0.md", "absent.md"]) == 1
    assert "holds no document that 'absent.md' means; nothing was deleted" in capsys.readouterr().err
    assert len(held()) == 6
    summary = summary_of(capsys, "delete", "i", "./notes/0.md", str(notes / "1.md"))
    assert (summary["deleted"], summary["passages"], summary["documents"]) == (2, 2, 4)
    assert summary_of(capsys, "delete", "i", "notes/rows.jsonl")["deleted"] == 2  # every row of it
    assert sorted(held()) == ["notes/2.md#0", "notes/3.md#0"]
    assert len(SparseIndex.load("i/sparse")) == 2
    assert counts(summary_of(capsys, "build", "i", "notes", "--sync")) == (4, 0, 2, 0)
    assert len(SparseIndex.load("i/sparse")) == 6
    assert summary_of(capsys, "delete", "i", "notes")["documents"] == 0
    assert main(["search", "query", "i", "words"]) == 0
    assert "nothing was found" in capsys.readouterr().out


def test_a_sparse_index_that_lags_shows_nothing_deleted(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary_of(capsys, "build", "i", "notes", "--model", MODEL, "--sparse", SPLADE)
    shutil.copytree("i/sparse", "sparse")
    summary_of(capsys, "delete", "i", "notes/0.md")
    shutil.rmtree("i/sparse")
    shutil.move("sparse", "i/sparse")  # as it is where a run is killed between the two
    assert main(["search", "query", "i", "--fusion", "sparse", "--json", "words of note 0"]) == 0
    assert "notes/0.md" not in capsys.readouterr().out
    summary_of(capsys, "build", "i", "notes/2.md", "--append")
    assert len(SparseIndex.load("i/sparse")) == 5


def test_token_vectors_and_pictures(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary_of(capsys, "build", "t", "notes", "--sync", "--model", COLBERT)
    Path("notes/1.md").write_text("changed")
    Path("notes/0.md").unlink()
    assert counts(summary_of(capsys, "build", "t", "notes", "--sync")) == (0, 1, 4, 1) and len(held("t")) == 5
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (40, 40), colour).save(name)
    Image.new("RGB", (40, 40), "white").save(
        "doc.pdf", save_all=True, append_images=[Image.new("RGB", (40, 40), "black")]
    )
    words = ("build", "p", "a.png", "b.png", "doc.pdf", "--model", CLIP, "--sync")
    assert counts(summary_of(capsys, *words)) == (4, 0, 0, 0)
    Image.new("RGB", (40, 40), "green").save("b.png")
    assert counts(summary_of(capsys, *words)) == (0, 1, 3, 0)
    assert sorted(held("p")) == ["a.png#0", "b.png#0", "doc.pdf: page 1#0", "doc.pdf: page 2#0"]


@pytest.mark.parametrize(
    "words", [["--sync", "--append"], ["--sync", "--force"], ["--sync", "--limit", "3"], ["--sync", "-"]]
)
def test_what_does_not_go_together(words: list[str], notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "build", "i", "notes", "--model", MODEL, "--format", "jsonl", *words]) == 1
    assert "--sync" in capsys.readouterr().err
    assert main(["search", "build", "i", "--sync", "--model", MODEL]) == 1  # there is none
