"""Inputs of the command line: formats, gzip, marks, line ends, rows that cannot be used."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from longspan.cli.console.failures import CommandError
from longspan.cli.files.inputs import find_inputs
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import BadRow, Record, Selection

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def read(path: Path | str, selection: Selection | None = None, **options: object) -> list[Record | BadRow]:
    selection = selection or Selection()
    return list(read_records(find_inputs([str(path)], whole_file=selection.whole_file, **options), selection))


def texts(rows: list[Record | BadRow]) -> list[str]:
    return [row.text if isinstance(row, Record) else f"BAD {row.reason}" for row in rows]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\xef\xbb\xbf", []),
        (b"one", ["one"]),
        (b"one\n", ["one"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\n\n  two  \n", ["one", "", "  two  "]),
        (b"\xef\xbb\xbfone\ntwo", ["one", "two"]),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),  # only \n ends a line
        (b"nul\x00byte\rreturn\n", ["nul\x00byte\rreturn"]),
        ("naïve 日本 \U0001f600".encode(), ["naïve 日本 \U0001f600"]),
    ],
)
@pytest.mark.parametrize("name", ["in.txt", "in.TXT", "in.text.gz"])
def test_a_text_a_line(tmp_path: Path, name: str, data: bytes, expected: list[str]) -> None:
    assert texts(read(write(tmp_path / name, data))) == expected


def test_sizes_add_up_to_the_file(tmp_path: Path) -> None:
    data = {"a.txt": b"one\r\ntwo\n\nlast", "a.csv": b'text\n"a\nb"\nc\n', "a.jsonl": b'{"text": "x"}\n{"text": "y"}\n'}
    header = {"a.txt": 0, "a.csv": len(b"text\n"), "a.jsonl": 0}
    for name, content in data.items():
        path = write(tmp_path / name, content)
        assert sum(row.size for row in read(path)) == len(content) - header[name]
        assert find_inputs([str(path)])[0].size == len(content)
    zipped = write(tmp_path / "a.txt.gz", b"one")
    assert find_inputs([str(zipped)])[0].size is None


def test_text_rows_know_their_place_and_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"one\ntwo\n")
    rows = read(path, Selection(keep=("line", "text", "file", "absent")))
    assert [row.place for row in rows] == [f"{path}:1", f"{path}:2"]
    assert json.loads(rows[1].kept) == {"line": 2, "text": "two", "file": str(path)}


def test_a_line_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"one\nbad \xff here\nthree\n")
    assert texts(read(path)) == ["one", f"BAD {path}:2: not UTF-8: byte 0xff at position 4", "three"]


@pytest.mark.parametrize("name", ["in.txt", "in.jsonl", "in.csv"])
def test_a_mark_tells_the_encoding(tmp_path: Path, name: str) -> None:
    data = {"in.txt": "naïve\n日本", "in.jsonl": '{"text": "naïve"}\n{"text": "日本"}', "in.csv": "text\nnaïve\n日本\n"}
    for encoding in ("utf-16", "utf-32", "utf-8-sig"):
        assert texts(read(write(tmp_path / name, data[name].encode(encoding)))) == ["naïve", "日本"]
    with pytest.raises(CommandError, match=r"in\.\w+ is not utf-16: .*truncated data; --encoding says what it is"):
        read(write(tmp_path / name, data[name].encode("utf-16")[:-1]))


def test_whole_files(tmp_path: Path) -> None:
    path = write(tmp_path / "notes.md", b"\xef\xbb\xbfone\n\ntwo\r\n")
    rows = read(path, Selection(whole_file=True, keep=("file",)))
    assert texts(rows) == ["one\n\ntwo\r\n"]
    assert json.loads(rows[0].kept) == {"file": str(path)}
    assert texts(read(write(tmp_path / "empty.md", b""), Selection(whole_file=True))) == [""]
    bad = write(tmp_path / "bad.md.gz", b"x\ny\xff")
    assert texts(read(bad, Selection(whole_file=True))) == [f"BAD {bad}: not UTF-8: byte 0xff at position 3"]


def test_jsonl(tmp_path: Path) -> None:
    lines = ['{"text": "a", "id": 7, "tags": ["x"]}', "", '{"id": null, "text": "é\\u00e9\\ud83d\\ude00"}', "  "]
    rows = read(write(tmp_path / "in.jsonl", "\r\n".join(lines).encode()), Selection(keep=("id", "tags")))
    assert texts(rows) == ["a", "éé\U0001f600"]
    assert [json.loads(row.kept) for row in rows] == [{"id": 7, "tags": ["x"]}, {"id": None}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', r"not JSON: .* delimiter"),
        (b"[" * 100_000, r"not JSON: .*recursion"),
        (b'"text"', r"a row must be a JSON object, got a string"),
        (b"[1]", r"a row must be a JSON object, got a list"),
        (b'{"body": "a", "id": 1}', r"no field 'text' \(the row has 'body', 'id'\)"),
        (b"{}", r"no field 'text' \(the row has none\)"),
        (b'{"text": null}', r"field 'text' must be a string, got null"),
        (b'{"text": 3}', r"field 'text' must be a string, got a number"),
        (b'{"text": ["a"]}', r"field 'text' must be a string, got a list"),
        (b'{"text": {}}', r"field 'text' must be a string, got an object"),
        (b'{"text": true}', r"field 'text' must be a string, got true or false"),
        (b'{"text": "a \\ud800"}', r"the row holds half a character \(U\+D800\)"),
        (b'{"text": "a", "id": "\\udfff"}', r"the row holds half a character \(U\+DFFF\)"),
        (b'{"text": "a", "id": 1e999}', r"a kept field cannot be written as JSON: .*JSON compliant"),
        (b'{"text": "\xff"}', r"not UTF-8: byte 0xff at position 10"),
    ],
)
def test_bad_json_lines(tmp_path: Path, line: bytes, reason: str) -> None:
    path = write(tmp_path / "in.jsonl", b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n')
    before, bad, after = read(path, Selection(keep=("id",)))
    assert (before.text, after.text) == ("before", "after")
    with pytest.raises(CommandError, match=rf"in\.jsonl:2: {reason}"):
        raise CommandError(bad.reason)


def test_names_of_many_fields_are_cut(tmp_path: Path) -> None:
    row = json.dumps({f"f{i}": 0 for i in range(11)}).encode()
    (bad,) = read(write(tmp_path / "in.jsonl", row))
    assert bad.reason.endswith("'f6', 'f7' and 3 more)")


@pytest.mark.parametrize(("name", "mark"), [("in.csv", ","), ("in.tsv", "\t"), ("in.csv.gz", ",")])
def test_csv(tmp_path: Path, name: str, mark: str) -> None:
    big = "b" * 1_000_000
    lines = ["id,text,x", "1,a,", '2,"two\r\nlines, ""quoted""",y', "", f"3,{big},z"]
    data = (
        b"\xef\xbb\xbf"
        + "\r\n".join(line.replace(",", mark) if "quoted" not in line else line for line in lines).encode()
    )
    if mark == "\t":
        data = data.replace(b'2,"', b'2\t"').replace(b'""",y', b'"""\ty')
    path = write(tmp_path / name, data)
    rows = read(path, Selection(keep=("id",)))
    assert texts(rows) == ["a", 'two\r\nlines, "quoted"', big]
    assert [row.place for row in rows] == [f"{path}:2", f"{path}:3", f"{path}:6"]
    assert [json.loads(row.kept) for row in rows] == [{"id": "1"}, {"id": "2"}, {"id": "3"}]


def test_an_empty_csv_has_no_rows(tmp_path: Path) -> None:
    assert read(write(tmp_path / "in.csv", b"")) == []
    assert read(write(tmp_path / "head.csv", b"text,id\n")) == []


def test_bad_csv_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "in.csv", b'id,text\n1\n2,b,c\n3,"x\xff\ny"\n4,"a"b\n5,good\n6,"never closed\nand on\n')
    assert texts(read(path)) == [
        f"BAD {path}:2: 1 field where the header has 2",
        f"BAD {path}:3: 3 fields where the header has 2",
        f"BAD {path}:4: the row is not UTF-8",
        f"BAD {path}:6: not a row of CSV: ',' expected after '\"'",
        "good",
        f"BAD {path}:8: not a row of CSV: unexpected end of data",
    ]


def test_bad_csv_headers(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"in\.csv: no column 'text'; it has 'id', 'body'"):
        read(write(tmp_path / "in.csv", b"id,body\n1,a\n"))
    for mark, name in ((b";", "';'"), (b"\t", "tab")):
        with pytest.raises(
            CommandError, match=f"no column 'text'; it has '.*'; --delimiter {name} would cut it into more"
        ):
            read(write(tmp_path / "in.csv", b"id" + mark + b"text\n1" + mark + b"one\n"))
    with pytest.raises(CommandError, match=r"in\.csv: no column 'title'; it has 'text'"):
        read(write(tmp_path / "in.csv", b"text\na\n"), Selection(keep=("title",)))
    with pytest.raises(CommandError, match=r"in\.csv: 2 columns are named 'text'"):
        read(write(tmp_path / "in.csv", b"text,text\na,b\n"))
    with pytest.raises(CommandError, match=r"in\.csv:1: not a header line: unexpected end of data"):
        read(write(tmp_path / "in.csv", b'"text\na\n'))


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=700)
    return path


def test_parquet_streams_row_groups(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", text=[f"t{i}" for i in range(2500)], id=list(range(2500)))
    rows = read(path, Selection(keep=("id", "text")))
    assert texts(rows) == [f"t{i}" for i in range(2500)]
    assert rows[2400].place == f"{path}: row 2401"
    assert json.loads(rows[2400].kept) == {"id": 2400, "text": "t2400"}


def test_parquet_kinds_of_text_column(tmp_path: Path) -> None:
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        column = pa.array(["a", None, "b"]).cast(kind)
        path = parquet(tmp_path / "in.parquet", text=column)
        assert texts(read(path)) == ["a", f"BAD {path}: row 2: field 'text' must be a string, got null", "b"]
    path = parquet(tmp_path / "in.parquet", text=[b"bytes"])
    assert texts(read(path)) == [f"BAD {path}: row 1: field 'text' must be a string, got bytes"]


def test_parquet_kept_values_become_json(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "in.parquet",
        text=["a"],
        day=[datetime.date(2024, 2, 29)],
        time=[datetime.datetime(2024, 2, 29, 12, 30)],
        wait=[datetime.timedelta(seconds=90)],
        price=[decimal.Decimal("1.10")],
    )
    (row,) = read(path, Selection(keep=("day", "time", "wait", "price")))
    expected = {"day": "2024-02-29", "time": "2024-02-29T12:30:00", "wait": "0:01:30", "price": "1.10"}
    assert json.loads(row.kept) == expected
    (bad,) = read(parquet(tmp_path / "b.parquet", text=["a"], raw=[b"x"]), Selection(keep=("raw",)))
    assert bad.reason.endswith("row 1: a kept field cannot be written as JSON: it holds bytes")


def test_parquet_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match=r"in\.parquet: no column 'text'; it has 'body'"):
        read(parquet(tmp_path / "in.parquet", body=["a"]))
    with pytest.raises(CommandError, match=r"in\.pq cannot be read as Parquet: "):
        read(write(tmp_path / "in.pq", b"PAR1 no"))
    whole = parquet(tmp_path / "cut.parquet", text=["abc"] * 1000).read_bytes()
    with pytest.raises(CommandError, match=r"cut\.parquet cannot be read as Parquet: "):
        read(write(tmp_path / "cut.parquet", whole[: len(whole) // 2]))
    with pytest.raises(CommandError, match=r"Parquet cannot be read from standard input, .*name a file"):
        read("-", format="parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CommandError, match=r"Parquet needs pyarrow: pip install 'longspan\[parquet\]'"):
        read(parquet(tmp_path / "in.parquet", text=["a"]))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}\n{"text": 1}\n')))
    assert texts(read("-", format="jsonl")) == ["a", "BAD -:2: field 'text' must be a string, got a number"]


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(b"line\n" * 10_000)
    for data in (b"no gzip at all", whole[:-8], whole[:20] + b"\x00" * 20 + whole[40:]):
        (tmp_path / "in.txt.gz").write_bytes(data)
        with pytest.raises(CommandError, match=r"in\.txt\.gz is not a whole gzip file: "):
            read(tmp_path / "in.txt.gz")


def test_inputs_that_cannot_be_found(tmp_path: Path) -> None:
    path = write(tmp_path / "in.txt", b"a")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt: no such file"):
        find_inputs([str(tmp_path / "absent.txt")])
    with pytest.raises(CommandError, match=r"is a folder; name the files in it, for example .*/\*\.txt"):
        find_inputs([str(tmp_path)])
    with pytest.raises(CommandError, match=r"in\.txt is given twice; its texts would be embedded twice"):
        find_inputs([str(path), f"{tmp_path}/./in.txt"])
    with pytest.raises(CommandError, match=r"- is given twice"):
        find_inputs(["-", "-"], format="text")
    with pytest.raises(
        CommandError, match=r"standard input has no suffix; say what it is with --format text\|markdown"
    ):
        find_inputs(["-"])
    with pytest.raises(
        CommandError, match=r"in\.dat: the suffix does not tell the format \(\.txt .*\); say it with --f"
    ):
        find_inputs([str(write(tmp_path / "in.dat", b"[]"))])
    with pytest.raises(CommandError, match=r"OTHER: the suffix does not tell"):
        find_inputs([str(write(tmp_path / "OTHER", b""))])
    assert find_inputs([str(tmp_path / "in.dat")], format="jsonl")[0].format == "jsonl"


# ---- the same rows as other tools see


def test_quotes_in_tab_separated_data_are_quotes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "q.tsv",
        b'id\ttext\n1\t"start of a quote\n2\tmiddle\n3\tend of it"\n4\t"Quoted" start\n5\t"a ""b"""\n',
    )
    rows = read(path, Selection(keep=("id",)))
    assert texts(rows) == ['"start of a quote', "middle", 'end of it"', '"Quoted" start', 'a "b"']
    assert [json.loads(row.kept)["id"] for row in rows] == ["1", "2", "3", "4", "5"]


def test_a_line_too_many_or_too_few_is_told_and_costs_itself_alone(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "q.tsv", b"id\ttext\n1\ta\n2\n3\tc\td\n4\te\n"))
    assert [getattr(row, "text", "bad") for row in rows] == ["a", "bad", "bad", "e"]
    assert "1 field where the header has 2" in rows[1].reason


@pytest.mark.parametrize("name, want", [("mac.txt", ["one", "two", "three"]), ("mac.jsonl", ["a", "b"])])
def test_line_ends_of_an_old_macintosh(tmp_path: Path, name: str, want: list[str]) -> None:
    data = b"one\rtwo\rthree\r" if name == "mac.txt" else b'{"text": "a"}\r{"text": "b"}\r'
    assert texts(read(write(tmp_path / name, data))) == want


def test_a_nan_that_nobody_keeps(tmp_path: Path) -> None:
    path = write(tmp_path / "n.jsonl", b'{"text": "good", "score": NaN}\n')
    assert texts(read(path)) == ["good"]
    [bad] = read(path, Selection(keep=("score",)))
    assert "a kept field cannot be written as JSON" in bad.reason
