"""Rows that are passed over: what is left can be told apart, and the rest is told in a file beside the output."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from longspan.cli import main

ROWS = '{"text": "a", "id": 1}\n\n{"text": null, "id": 2}\n{"text": "c", "id": 3}\nno JSON\n'


@pytest.fixture
def model(golden: Path) -> str:
    return str(golden / "bert-minilm")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("resume", [False, True])
def test_what_was_passed_over_is_told(tmp_path: Path, model: str, resume: bool, capsys: object) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "x.npy"
    rows.write_text(ROWS)
    options = ["--skip-bad", "-o", str(out), *(["--resume"] if resume else [])]
    assert main(["embed", model, str(rows), *options]) == 0
    assert np.load(out).shape == (2, 64)
    [null, broken] = lines(tmp_path / "x.npy.skipped.jsonl")
    assert null == {"records_before": 1, "reason": f"{rows}:3: field 'text' must be a string, got null"}
    assert broken["records_before"] == 2 and broken["reason"].startswith(f"{rows}:5: not JSON")
    assert (
        f"2 bad rows passed over, told in {tmp_path}/x.npy.skipped.jsonl; the first: {rows}:3"
        in capsys.readouterr().err
    )
    rows.write_text('{"text": "a"}\n')
    assert main(["embed", model, str(rows), *options, "--force"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "x.npy", "x.npy.json"]


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path, model: str, capsys: object) -> None:
    rows, told = tmp_path / "rows.jsonl", tmp_path / "x.npy.skipped.jsonl"
    rows.write_text(ROWS)
    told.write_text("mine")
    assert main(["embed", model, str(rows), "--skip-bad", "-o", str(tmp_path / "x.npy")]) == 1
    assert "x.npy.skipped.jsonl exists; give --force to replace it" in capsys.readouterr().err
    assert told.read_text() == "mine"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".json", ".parquet", ".txt"])
def test_every_row_has_its_line_and_file(tmp_path: Path, model: str, suffix: str) -> None:
    rows, out = tmp_path / f"rows{suffix}", tmp_path / "x.jsonl"
    wanted = [1, 3]
    if suffix == ".parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"text": ["a", None, "c"]}), rows)
    elif suffix == ".txt":
        rows.write_bytes(b"a\n\xff\nc\n")
    elif suffix in (".csv", ".tsv"):
        rows.write_text("text,id\na,1\nb\nc,3\n".replace(",", "\t" if suffix == ".tsv" else ","))
        wanted = [2, 4]
    else:
        objects = ['{"text": "a"}', '{"text": null}', '{"text": "c"}']
        rows.write_text("\n".join(objects) if suffix == ".jsonl" else f"[{', '.join(objects)}]")
    assert main(["embed", model, str(rows), "--skip-bad", "--keep", "line", "--keep", "file", "-o", str(out)]) == 0
    assert [(row["line"], row["file"]) for row in lines(out)] == [(number, str(rows)) for number in wanted]


def test_a_row_s_own_field_wins(tmp_path: Path, model: str) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "x.jsonl"
    rows.write_text('{"text": "a", "line": "of its own"}\n')
    assert main(["embed", model, str(rows), "--keep", "line", "-o", str(out)]) == 0
    assert lines(out)[0]["line"] == "of its own"


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX")
def test_names_that_are_not_utf8(tmp_path: Path, model: str) -> None:
    """The row is not to blame, and nothing is lost of it."""
    place, out = tmp_path / os.fsdecode(b"caf\xe9.jsonl"), tmp_path / "x.jsonl"
    try:
        place.write_text('{"text": "a"}\n')
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert main(["embed", model, str(place), "--keep", "file", "-o", str(out)]) == 0
    assert lines(out)[0]["file"] == f"{tmp_path}/caf\\xe9.jsonl"
    index = tmp_path / "index"
    assert main(["search", "build", str(index), str(place), "--model", model]) == 0
    assert lines(index / "documents.jsonl")[0]["source"].startswith(f"{tmp_path}/caf\\xe9.jsonl")
    vectors = tmp_path / os.fsdecode(b"caf\xe9.npy")
    np.save(vectors, np.ones((3, 64), np.float32))
    assert main(["search", "build", str(tmp_path / "of vectors"), str(vectors), "--vectors"]) == 0
