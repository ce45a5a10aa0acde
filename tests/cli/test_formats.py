"""Formats of input files: encodings, paths to fields, JSON, zipped files, the text of PDF files."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from fake_encoder import MODEL
from longspan.cli import main
from longspan.cli.console.failures import CommandError
from longspan.cli.files.inputs import Reading, find_inputs
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import Record, Selection

zstandard = pytest.importorskip("zstandard")


def read(path: Path | str, selection: Selection | None = None, **reading: object) -> list[str]:
    inputs = find_inputs([str(path)], reading=Reading(**reading))  # type: ignore[arg-type]
    rows = read_records(inputs, selection or Selection())
    return [row.text if isinstance(row, Record) else f"BAD {row.reason}" for row in rows]


def test_encodings_and_delimiters(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("caf\xe9\n\xfcber".encode("latin-1"))
    assert read(tmp_path / "a.txt", encoding="latin-1") == ["café", "über"]
    (tmp_path / "a.csv").write_bytes('id;text\n1;caf\xe9\n2;"a;b"\n'.encode("cp1252"))
    assert read(tmp_path / "a.csv", encoding="cp1252", delimiter=";") == ["café", "a;b"]
    (tmp_path / "b.csv").write_text("id\ttext\n1\tx\n")
    assert read(tmp_path / "b.csv", delimiter="tab") == ["x"]
    (tmp_path / "u.txt").write_bytes("a\nb\n".encode("utf-16-le"))
    assert read(tmp_path / "u.txt", encoding="utf-16-le") == ["a", "b"]
    for name, message in (("klingon", "there is no such encoding"), ("base64", "there is no such encoding")):
        with pytest.raises(CommandError, match=message):
            read(tmp_path / "a.txt", encoding=name)
    with pytest.raises(CommandError, match=r"a\.txt is not ascii: .*--encoding says what it is"):
        read(tmp_path / "a.txt", encoding="ascii")
    for bad in ("", "ab", '"', "\n"):
        with pytest.raises(CommandError, match="--delimiter must be one character, or tab"):
            read(tmp_path / "a.csv", delimiter=bad)


def test_paths_to_fields(tmp_path: Path) -> None:
    rows = [{"meta": {"text": "one", "tags": [{"text": "t"}]}, "a.b": "dotted"}, {"meta": {"text": 3}}, {"meta": "x"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "a.jsonl"
    found = read(path, Selection("meta.text"))
    assert found[0] == "one" and "field 'meta.text' must be a string, got a number" in found[1]
    assert "no field 'meta.text' (the row has 'meta')" in found[2]
    assert read(path, Selection("meta.tags.0.text"))[0] == "t" and read(path, Selection("a.b"))[0] == "dotted"
    [first, *_] = read_records(
        find_inputs([str(path)]), Selection("meta.text", keep=("meta.tags.0.text", "a.b", "no.no"))
    )
    assert isinstance(first, Record) and json.loads(first.kept) == {"meta.tags.0.text": "t", "a.b": "dotted"}


def test_paths_to_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"meta": {"text": "one", "n": 1}, "x": 1}, {"meta": {"text": "two", "n": 2}, "x": 2}]
    path = tmp_path / "a.parquet"
    pq.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read(path, Selection("meta.text", keep=("meta.n",))) == ["one", "two"]
    with pytest.raises(CommandError, match=r"no column 'meta\.body'; 'meta' has '\w+', '\w+'"):
        read(path, Selection("meta.body"))
    (tmp_path / "a.parquet.zst").write_bytes(zstandard.compress(path.read_bytes()))
    assert read(tmp_path / "a.parquet.zst", Selection("meta.text")) == ["one", "two"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ('[{"text": "a"}, {"text": "b"}]', ["a", "b"]),
        ('  [\n {"text": "a"},\n{"text": "b"}\n]\n', ["a", "b"]),
        ("[]", []),
        ("", []),
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('{\n "text": "a"\n}', ["a"]),
        ('[{"text": "' + "x" * 200_000 + '"}, {"text": "b"}]', ["x" * 200_000, "b"]),
        ('[{"text": "é\\u00e9 \\ud83d\\ude00"}]', ["éé \U0001f600"]),
    ],
)
def test_json_files(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read(tmp_path / "a.json") == expected


@pytest.mark.parametrize(
    "text",
    ['[{"text": "a"}', '[{"text": "a"} {"text": "b"}]', '[{"text": "a"}] x', "[1,", '{"text": "a" "b"}', "[" * 100_000],
)
def test_json_files_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CommandError, match=r"a\.json: not JSON: "):
        read(tmp_path / "a.json")


def test_a_number_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2.5]")
    assert read(tmp_path / "a.json")[1].endswith("a.json: row 2: a row must be a JSON object, got a number")


@pytest.mark.parametrize("zipped", [gzip.compress, zstandard.compress])
def test_zipped_standard_input(zipped: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = zipped(b"one\ntwo\n")  # type: ignore[operator]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read("-", format="text") == ["one", "two"]
    reader = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(reader))
    assert read("-", format="text") == ["one", "two"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
    assert read("-", format="text") == ["a"]


def test_damaged_zstd(tmp_path: Path) -> None:
    whole = zstandard.compress(b"line\n" * 100_000)
    (tmp_path / "two.txt.zst").write_bytes(zstandard.compress(b"a\n") + zstandard.compress(b"b\n"))
    assert read(tmp_path / "two.txt.zst") == ["a", "b"]
    for data in (b"no zstd at all", whole[:-3], whole[:6] + b"\xff" * 8 + whole[14:]):
        (tmp_path / "a.txt.zst").write_bytes(data)
        with pytest.raises(CommandError, match=r"a\.txt\.zst is not a whole zstd file: "):
            read(tmp_path / "a.txt.zst")


def test_pages_of_a_pdf_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that reads texts gets the text of a PDF file."""
    pytest.importorskip("pypdfium2")
    monkeypatch.chdir(tmp_path)
    Path("doc.pdf").write_bytes(pdf_of(["Cats sleep all day.", "Dogs bark at night."]))
    assert main(["search", "build", "i", "doc.pdf", "--model", MODEL]) == 0
    documents = [json.loads(line) for line in Path("i/documents.jsonl").read_text().splitlines()]
    assert [(one["source"], one["text"]) for one in documents] == [
        ("doc.pdf: page 1", "Cats sleep all day."), ("doc.pdf: page 2", "Dogs bark at night.")
    ]  # fmt: skip
    assert main(["embed", MODEL, "doc.pdf", "--keep", "page", "--keep", "text", "-o", "o.jsonl"]) == 0
    assert [json.loads(line)["page"] for line in Path("o.jsonl").read_text().splitlines()] == [1, 2]
    assert main(["chunk", MODEL, "doc.pdf", "-o", "c.jsonl"]) == 0
    [chunk] = [json.loads(line) for line in Path("c.jsonl").read_text().splitlines()]
    assert chunk["text"] == "Cats sleep all day.\n\nDogs bark at night."


def pdf_of(pages: list[str]) -> bytes:
    """A PDF file with a line of text a page."""
    kids = " ".join(f"{4 + 2 * place} 0 R" for place in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for place, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 50 150 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents {5 + 2 * place} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode()
