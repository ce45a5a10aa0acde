"""`longspan embed`: what is written is what `Encoder` returns, and what cannot be is said before any work."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, TEXTS, FakeEncoder, embed, names, vectors_of
from longspan import Encoder
from longspan.cli import main
from longspan.cli.embedding import stream
from longspan.cli.embedding.options import ModelOptions
from longspan.vectors.quantize import quantize_embeddings


def test_npy_holds_every_line(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed(lines, "-o", tmp_path / "out.npy") == 0
    assert capsys.readouterr() == ("", "")  # silence in a pipe
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors_of(TEXTS), strict=True)
    assert names(tmp_path) == ["in.txt", "out.npy", "out.npy.json"]
    assert len(fake.calls) > 2  # a stream, not one call


def test_options_reach_the_encoder(fake: FakeEncoder, lines: Path, tmp_path: Path) -> None:
    words = "--task t --prompt-name p --batch-tokens 512 --truncate-dim 4 --no-normalize --max-length 99"
    assert embed(lines, "-o", tmp_path / "a.npy", *words.split(), "--on-truncate", "ignore") == 0
    expected = {
        "task": "t", "prompt_name": "p", "prompt": None, "batch_tokens": 512, "truncate_dim": 4,
        "normalize_embeddings": False, "max_length": 99, "on_truncate": "ignore", "show_progress_bar": False,
    }  # fmt: skip
    assert all(call == expected for call in fake.calls)
    for option, role in (("--query", "query"), ("--document", "document")):
        fake.calls.clear()
        assert embed(lines, "-o", tmp_path / f"{role}.npy", option, "--prompt", "x: ", "--normalize") == 0
        wanted = {"role": role, "prompt": "x: ", "normalize_embeddings": True, "on_truncate": "warn"}
        assert all(wanted.items() <= call.items() for call in fake.calls)


def test_model_options_reach_the_encoder(monkeypatch: pytest.MonkeyPatch, lines: Path, tmp_path: Path) -> None:
    seen: list[tuple[ModelOptions, str]] = []
    monkeypatch.setattr(ModelOptions, "open", lambda self, model: seen.append((self, model)) or FakeEncoder())
    words = "--device cpu --dtype float32 --threads 2 --revision main --cache-dir c --local-files-only"
    assert embed(lines, "-o", tmp_path / "a.npy", *words.split()) == 0
    assert seen == [(ModelOptions("cpu", "float32", 2, "main", "c", True), MODEL)]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_every_precision_is_that_of_all_texts_at_once(
    fake: FakeEncoder, lines: Path, tmp_path: Path, precision: str, suffix: str
) -> None:
    out = tmp_path / f"out.{suffix}"
    assert embed(lines, "-o", out, "--precision", precision) == 0
    expected = quantize_embeddings(vectors_of(TEXTS), precision)
    np.testing.assert_array_equal(_load(out, expected.dtype), expected, strict=True)


def _load(path: Path, dtype: np.dtype[np.generic]) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".jsonl":
        return np.array([json.loads(line)["embedding"] for line in path.read_text().splitlines()], dtype)
    parquet = pytest.importorskip("pyarrow.parquet")
    return np.array(parquet.read_table(path)["embedding"].to_pylist(), dtype)


def test_calibration_takes_the_ranges_from_a_file(fake: FakeEncoder, lines: Path, tmp_path: Path) -> None:
    sample = vectors_of([f"other {i}" for i in range(200)])
    np.save(tmp_path / "c.npy", sample)
    out = tmp_path / "out.npy"
    assert embed(lines, "-o", out, "--precision", "int8", "--calibration", tmp_path / "c.npy", "--limit", "1") == 0
    expected = quantize_embeddings(vectors_of(TEXTS[:1]), "int8", calibration_embeddings=sample)
    np.testing.assert_array_equal(np.load(out), expected, strict=True)


def test_few_texts_make_poor_ranges(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed(lines, "-o", tmp_path / "a.npy", "--precision", "int8", "--limit", "99") == 0
    sentence = "int8 ranges come from 99 texts only; --calibration takes better ones"
    assert capsys.readouterr().err == f"longspan: warning: {sentence}\n"
    assert embed(lines, "-o", tmp_path / "b.npy", "--precision", "uint8", "--limit", "1") == 1
    sentence = "uint8 cannot take its ranges from one text; give --calibration FILE.npy"
    assert capsys.readouterr().err == f"longspan: error: {sentence}; nothing was written to {tmp_path}/b.npy\n"
    assert names(tmp_path) == ["a.npy", "a.npy.json", "in.txt"]


@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_an_empty_input_gives_an_empty_output(
    fake: FakeEncoder, tmp_path: Path, precision: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_bytes(b"")
    out = tmp_path / f"out.{suffix}"
    assert embed(tmp_path / "in.txt", "-o", out, "--precision", precision, "--json") == 0
    dim = 2 if precision == "ubinary" else 16
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["dim"], summary["texts_per_second"]) == (0, dim, 0)
    if suffix == "npy":
        expected = quantize_embeddings(np.zeros((0, 16), np.float32), precision)
        np.testing.assert_array_equal(np.load(out), expected, strict=True)
    elif suffix == "jsonl":
        assert out.read_bytes() == b""


def test_several_inputs_of_several_formats(fake: FakeEncoder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.jsonl").write_text('{"body": "three", "id": 3}\n')
    (tmp_path / "c.csv").write_text("id,body\n4,four\n")
    inputs = [tmp_path / name for name in ("c.csv", "a.txt", "b.jsonl")]
    out = tmp_path / "out.jsonl"
    assert embed(*inputs, "-o", out, "--field", "body", "--keep", "id", "--keep", "lin", "--limit", "4") == 1
    (tmp_path / "c.csv").write_text("id,body,line\n4,four,9\n")
    assert embed(*inputs, "-o", out, "--column", "body", "--keep", "id", "--keep", "line") == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert fake.texts[-4:] == ["four", "one", "two", "three"]
    kept = [{key: value for key, value in row.items() if key != "embedding"} for row in rows]
    assert kept == [
        {"index": 0, "id": "4", "line": "9"}, {"index": 1, "line": 1}, {"index": 2, "line": 2},
        {"index": 3, "id": 3, "line": 1},
    ]  # fmt: skip


def test_whole_files(fake: FakeEncoder, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("one\ntwo\n")
    (tmp_path / "b.json").write_text("three")
    inputs, out = [tmp_path / "a.md", tmp_path / "b.json"], tmp_path / "out.jsonl"
    assert embed(*inputs, "--whole-file", "-o", out, "--keep", "file") == 0
    assert fake.texts == ["one\ntwo\n", "three"]
    assert [json.loads(line)["file"] for line in out.read_text().splitlines()] == [str(path) for path in inputs]


def test_standard_streams(
    fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode())))
    assert embed("-", "--format", "text", "-o", "-", "--keep", "line") == 0
    rows = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [row["index"] + 1 for row in rows] == [row["line"] for row in rows]
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), vectors_of(TEXTS))


def test_summary_as_json(fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.npy")
    assert embed(lines, "-o", out, "--json", "--precision", "binary") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary.pop("seconds") > 0
    assert summary.pop("texts_per_second") > 0
    counts = {"rows": 150, "dim": 2, "resumed_rows": 0, "skipped": 0, "passed_over": {}}
    assert summary == {"output": out, "precision": "binary", **counts}


def test_summary_on_a_terminal(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert embed(lines, "-o", tmp_path / "out.npy") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{tmp_path}/out.npy: 150 vectors of 16 float32 (" in shown.err


BAD = b'{"text": "a"}\n{"text": 1}\nnot json\n{"text": "b"}\n'


def test_bad_rows(fake: FakeEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    path.write_bytes(BAD)
    assert embed(path, "-o", out) == 1
    reason = f"{path}:2: field 'text' must be a string, got a number"
    rest = f"(--skip-bad passes over bad rows); nothing was written to {out}"
    assert capsys.readouterr().err == f"longspan: error: {reason} {rest}\n"
    assert names(tmp_path) == ["in.jsonl"]
    assert embed(path, "-o", out, "--skip-bad", "--json") == 0
    shown = capsys.readouterr()
    assert shown.err == f"longspan: warning: 2 bad rows passed over, told in {out}.skipped.jsonl; the first: {reason}\n"
    assert json.loads(shown.out)["skipped"] == 2
    np.testing.assert_array_equal(np.load(out), vectors_of(["a", "b"]), strict=True)


def test_a_kept_field_that_no_row_has(fake: FakeEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "b", "id": 1}\n')
    assert embed(tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", "--keep", "titel", "--keep", "id") == 0
    assert capsys.readouterr().err == "longspan: warning: --keep titel: no row has that field\n"


@pytest.mark.parametrize(
    ("words", "total", "unit"),
    [([], len("\n".join(TEXTS)) + 1, "B"), (["--limit", "90"], 90, "text"), (["--limit", "999"], 999, "text")],
)
def test_progress(
    fake: FakeEncoder, lines: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], total: int, unit: str
) -> None:
    seen: list[object] = []
    steps: list[int] = []

    @contextmanager
    def bar(total: int | None, unit: str, show: bool | None, *, what: str) -> Iterator[Callable[[int], object]]:
        seen.append((total, unit, show))
        yield steps.append

    monkeypatch.setattr(stream, "progress_bar", bar)
    assert embed(lines, "-o", lines.parent / "out.npy", *words) == 0
    assert seen == [(total, unit, None)]
    assert len(steps) > 1
    assert sum(steps) == (min(total, len(TEXTS)) if unit == "text" else total)


def test_progress_of_what_has_no_size(fake: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    seen: list[object] = []

    def bar(total: int | None, unit: str, show: bool | None, *, what: str) -> nullcontext[Callable[[int], object]]:
        seen.extend((total, unit))
        return nullcontext(seen.append)

    monkeypatch.setattr(stream, "progress_bar", bar)
    assert embed(tmp_path / "in.txt.gz", "-o", tmp_path / "out.npy") == 0
    assert seen == [None, "text", 2]


def test_cut_texts_are_warned_of_once(fake: FakeEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.txt"
    path.write_text("a long one\nshort\n")
    assert embed(path, "-o", tmp_path / "a.npy") == 0
    first = "longspan: warning: encode: 1 of 2 texts had more than 8 tokens"
    assert capsys.readouterr().err == f"{first}\n"
    path.write_text("a long one\n" * 300)
    assert embed(path, "-o", tmp_path / "b.npy") == 0
    err = capsys.readouterr().err
    assert err.startswith("longspan: warning: encode: 64 of 64 texts had more than 8 tokens (and so in ")
    assert err.count("\n") == 1


CONFLICTS = {
    "in.txt -o old.npy": "old.npy exists; give --force to replace it",
    "in.txt -o in.txt --to npy --force": "in.txt is an input too; name another output",
    "in.txt in.txt -o o.npy": "in.txt is given twice; its texts would be embedded twice",
    "in.txt -o o.npy --whole-file --format csv": "--whole-file reads plain text, not csv",
    "in.txt -o o.npy --keep x": "--keep needs a .jsonl or .parquet output; a .npy file holds vectors only",
    "in.txt -o o.jsonl --keep index": "--keep index: the output has a column of that name already",
    "in.txt -o o.npy --calibration c": "--calibration is for --precision int8 and uint8, not float32",
    "in.txt -o o.npy --precision int8 --calibration c": "--calibration: c: no such file",
    "in.txt -o - --json": "--json prints its summary where the vectors go with -o -; name an output file",
    "in.txt -o - --resume": "--resume needs an output file; standard output cannot be written to again",
    "in.txt -o - --precision int8": "int8 to standard output needs --calibration, as all vectors set the ranges",
    "- --format text -o o.npy --resume": "--resume needs input files; standard input cannot be read again",
}


@pytest.mark.parametrize("words", CONFLICTS)
def test_what_cannot_be_is_said_before_the_model_is_loaded(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ModelOptions, "open", lambda self, model: pytest.fail("the model was loaded"))
    (tmp_path / "in.txt").write_text("a")
    (tmp_path / "old.npy").write_text("old")
    assert embed(*words.split()) == 1
    assert capsys.readouterr().err == f"longspan: error: {CONFLICTS[words]}\n"
    assert names(tmp_path) == ["in.txt", "old.npy"]


def test_parquet_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.txt").write_text("a")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert embed(tmp_path / "in.txt", "-o", tmp_path / "o.parquet") == 1
    assert capsys.readouterr().err == "longspan: error: Parquet needs pyarrow: pip install 'longspan[parquet]'\n"


def test_force_replaces_the_output(fake: FakeEncoder, lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    out.write_text("old")
    assert embed(lines, "-o", out, "--force") == 0
    assert np.load(out).shape == (150, 16)


# ---- with the real engine, on a tiny checkpoint


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return Encoder(MODEL)


@pytest.mark.parametrize(
    "words", [[], ["--truncate-dim", "16", "--normalize"], ["--prompt", "x: ", "--max-length", "9"]]
)
@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
def test_the_file_holds_what_encode_returns(
    tiny: Encoder, lines: Path, tmp_path: Path, precision: str, words: list[str]
) -> None:
    assert embed(lines, "-o", tmp_path / "out.npy", "--precision", precision, "--on-truncate", "ignore", *words) == 0
    options = {
        "truncate_dim": 16 if "16" in words else None,
        "normalize_embeddings": True if "--normalize" in words else None,
        "prompt": "x: " if "x: " in words else None,
        "max_length": 9 if "9" in words else None,
    }
    expected = tiny.encode(TEXTS, precision=precision, on_truncate="ignore", **options)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected, strict=True)


def test_wrong_names_are_the_encoders_sentences(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, sentence in (
        (["--prompt-name", "nope"], "prompt_name must be one of the model's prompts"),
        (["--task", "nope"], "task must be None or one of"),
        (["--truncate-dim", "100000"], "truncate_dim must be from 1 to"),
    ):
        assert embed(lines, "-o", tmp_path / "out.npy", *words) == 1
        assert sentence in capsys.readouterr().err
    assert main(["embed", str(tmp_path), str(lines), "-o", str(tmp_path / "out.npy")]) == 1
    assert "config.json is missing" in capsys.readouterr().err
    assert names(tmp_path) == ["in.txt"]


def test_a_text_that_may_not_be_cut(lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.npy"
    assert embed(lines, "-o", out, "--on-truncate", "error", "--max-length", "3") == 1
    err = capsys.readouterr().err
    assert f"(in the texts from {lines}:1 to {lines}:64); nothing was written to {out}" in err
