"""A folder of notes that `longspan search build --sync` keeps an index in step with, and what the index holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longspan.cli import main
from longspan.documents.folder import load_index


def write_notes(folder: Path) -> None:
    """Four files and two rows."""
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.md").write_text(f"# Note {number}\n\nWords of note {number}.\n")
    (folder / "rows.jsonl").write_text('{"text": "row a", "id": 1}\n{"text": "row b", "id": 2}\n')


def summary_of(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    """What `longspan search ...` says at its end."""
    capsys.readouterr()
    assert main(["search", *map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def counts(summary: dict) -> tuple[int, int, int, int]:
    """Documents that are new, changed, unchanged and gone."""
    return tuple(summary[name] for name in ("new", "changed", "unchanged", "gone"))  # type: ignore[return-value]


def held(folder: str | Path = "i") -> dict[str, str]:
    """The index's texts, by key and passage."""
    index = load_index(Path(folder).resolve())
    assert index is not None
    found = {}
    with open(Path(folder, "documents.jsonl"), "rb") as file:
        for id in index.ids.tolist():
            file.seek(id)
            line = json.loads(file.readline())
            assert line["id"] == id
            found[f"{line['key']}#{line['part'][0]}"] = line["text"]
    assert len(found) == len(index)
    return found
