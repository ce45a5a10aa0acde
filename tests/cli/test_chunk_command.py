"""`longspan chunk`: documents in, rows of chunks out, the same as `Encoder.encode_chunks`; stopped runs; errors."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, names
from longspan import Encoder
from longspan.cli import main
from longspan.late_chunking.windows import Chunks
from longspan.vectors.quantize import quantize_embeddings

DOCUMENTS = [
    "Dr. Smith went to Berlin. It has 3.85 million people!\n\nIts area is large.",
    "",
    " ".join(f"Sentence number {i} says something new." for i in range(90)),  # more than a window
    "Größe, naïveté und 東京。そして 👩\N{ZERO WIDTH JOINER}👧!\r\n\r\nOne more paragraph.",
    "   ",
    "The end.",
]
FIELDS = ("document", "chunk", "start", "end", "token_start", "token_end")
OPTIONS = {"chunk_tokens": 20}
WORDS = ("--chunk-tokens", "20")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(MODEL)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """DOCUMENTS as JSONL, with an id each."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{i}", "body": text}) + "\n" for i, text in enumerate(DOCUMENTS)))
    return path


def chunk(*words: object) -> int:
    """The exit code of `longspan chunk MODEL ...`, run in this process."""
    return main(["chunk", MODEL, *map(str, words)])


def read(path: Path) -> list[dict[str, object]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_rows(rows: list[dict[str, object]], vectors: np.ndarray, truth: list[Chunks]) -> None:
    """Every field but the kept ones, in order, and the vectors to the bit."""
    expected = [
        (document, place, *one.spans[place], *one.token_spans[place].tolist(), one.texts[place])
        for document, one in enumerate(truth)
        for place in range(len(one))
    ]
    assert [tuple(row[name] for name in (*FIELDS, "text")) for row in rows] == expected
    assert [row["index"] for row in rows] == list(range(len(expected)))
    np.testing.assert_array_equal(vectors, np.concatenate([one.embeddings for one in truth]), strict=True)


def test_jsonl_parquet_and_npy(encoder: Encoder, corpus: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    truth = encoder.encode_chunks(DOCUMENTS, **OPTIONS)
    for suffix in ("jsonl", "parquet", "npy"):
        out = tmp_path / f"out-{suffix}.{suffix}"
        assert chunk(corpus, "--field", "body", "--keep", "id", *WORDS, "-o", out) == 0
        if suffix == "npy":
            rows, vectors = read(out.with_suffix(".jsonl")), np.load(out)
        else:
            rows = read(out) if suffix == "jsonl" else pq.read_table(out).to_pylist()
            vectors = np.array([row.pop("embedding") for row in rows], np.float32)
        assert list(rows[0]) == ["index", *FIELDS, "id", "text"]
        assert [row["id"] for row in rows] == [f"d{row['document']}" for row in rows]
        assert_rows(rows, vectors, truth)
    with gzip.open(tmp_path / "corpus.csv.gz", "wt", newline="") as handle:
        csv.writer(handle).writerows([["text"], *([text] for text in DOCUMENTS)])
    assert chunk(tmp_path / "corpus.csv.gz", *WORDS, "-o", tmp_path / "csv.npy", "--no-text") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "csv.npy"), vectors)
    assert list(read(tmp_path / "csv.jsonl")[0]) == ["index", *FIELDS]


def test_a_document_a_file_and_a_document_a_line(encoder: Encoder, tmp_path: Path) -> None:
    paths = [tmp_path / "a.txt", tmp_path / "b.md", tmp_path / "c.rst"]
    for path, text in zip(paths, DOCUMENTS[2:5]):
        path.write_bytes(text.encode())  # as it is: line ends too
    assert chunk(*paths, *WORDS, "-o", tmp_path / "files.jsonl") == 0
    rows = read(tmp_path / "files.jsonl")
    vectors = np.array([row["embedding"] for row in rows], np.float32)
    assert_rows(rows, vectors, encoder.encode_chunks(DOCUMENTS[2:5], **OPTIONS))
    assert [row["file"] for row in rows] == [str(paths[row["document"]]) for row in rows]
    lines = tmp_path / "lines.txt"
    lines.write_text("One. Two.\n\nThree.\n")
    assert chunk(lines, "--lines", "--chunk-tokens", "none", "--keep", "line", "-o", tmp_path / "lines.jsonl") == 0
    rows = read(tmp_path / "lines.jsonl")
    assert [(row["document"], row["line"], row["text"]) for row in rows] == [
        (0, 1, "One. "),
        (0, 1, "Two."),
        (2, 3, "Three."),
    ]
    assert "file" not in rows[0]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--mode", "naive", "--chunks", "paragraph"], {"mode": "naive", "chunks": "paragraph", "chunk_tokens": 256}),
        (["--mode", "whole"], {"mode": "whole"}),
        (
            ["--chunks", "tokens", "--chunk-tokens", "16", "--chunk-overlap", "4", "--window", "64", "--overlap", "9"],
            {"chunks": "tokens", "chunk_tokens": 16, "chunk_overlap": 4, "window": 64, "overlap": 9},
        ),
        (
            ["--strategy", "reference", "--no-special-tokens", "--max-length", "50", "--truncate-dim", "24"],
            {"strategy": "reference", "special_tokens": False, "max_length": 50, "truncate_dim": 24},
        ),
        (["--prompt", "passage: ", "--no-normalize"], {"prompt": "passage: ", "normalize_embeddings": False}),
    ],
)
def test_options(
    encoder: Encoder, corpus: Path, tmp_path: Path, words: list[str], options: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out.npy"
    # Whole documents are cut at the model's limit, with a warning, there and here.
    if options.get("mode") == "whole":
        with pytest.warns(UserWarning, match="1 of 6 texts had more than 256 tokens"):
            truth = encoder.encode_chunks(DOCUMENTS, **options)
    else:
        truth = encoder.encode_chunks(DOCUMENTS, **options)
    assert chunk(corpus, "--field", "body", *words, "-o", out, "--json") == 0
    assert_rows(read(out.with_suffix(".jsonl")), np.load(out), truth)
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert (summary["documents"], summary["chunks"]) == (6, len(np.load(out)))
    assert (summary["mode"], summary["dim"]) == (options.get("mode", "late"), options.get("truncate_dim", 64))
    assert ("texts had more than 256 tokens" in told.err) == (options.get("mode") == "whole")


def test_precisions(encoder: Encoder, corpus: Path, tmp_path: Path) -> None:
    vectors = np.concatenate([one.embeddings for one in encoder.encode_chunks(DOCUMENTS, **OPTIONS)])
    for precision in ("ubinary", "float16"):
        out = tmp_path / f"{precision}.npy"
        assert chunk(corpus, "--field", "body", *WORDS, "--precision", precision, "-o", out) == 0
        np.testing.assert_array_equal(np.load(out), quantize_embeddings(vectors, precision), strict=True)
    assert chunk(corpus, "--field", "body", *WORDS, "--precision", "int8", "-o", tmp_path / "int8.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "int8.npy"), quantize_embeddings(vectors, "int8"), strict=True)


def test_standard_streams(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DOCUMENTS[2].encode())))
    assert chunk("-", "--format", "text", *WORDS, "-o", "-") == 0
    rows = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    vectors = np.array([row["embedding"] for row in rows], np.float32)
    assert_rows(rows, vectors, encoder.encode_chunks(DOCUMENTS[2:3], **OPTIONS))
    assert rows[0]["file"] == "-"


# ---- runs that are stopped


@pytest.mark.parametrize("suffix", ["jsonl", "npy"])
def test_a_stopped_run_goes_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    """Ctrl-C in the third document keeps the first two, one of which has no chunk; the rest comes later, once each."""
    words = [corpus, "--field", "body", "--keep", "id", *WORDS]
    own, seen = Encoder.encode_chunks, []
    stops = [True]

    def stopped(self: Encoder, documents: list[str], **options: object) -> object:
        if DOCUMENTS[2] in documents and stops:
            stops.clear()
            raise KeyboardInterrupt
        seen.extend(documents)
        return own(self, documents, **options)

    monkeypatch.setattr(Encoder, "encode_chunks", stopped)
    out = tmp_path / f"out.{suffix}"
    assert chunk(*words, "-o", out, "--resume") == 130
    assert "3 rows kept, and the same command goes on from there" in capsys.readouterr().err
    assert names(tmp_path) == [f".out.{suffix}.partial", "corpus.jsonl"] and seen == DOCUMENTS[:2]
    assert chunk(*words, "-o", out, "--resume", "--chunk-overlap", "0", "--mode", "naive") == 1
    assert 'holds a run of another kind (mode: "late" there, "naive" now)' in capsys.readouterr().err
    assert chunk(*words, "-o", out, "--resume", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["resumed_documents"]) == (6, 2) and seen == DOCUMENTS
    assert chunk(*words, "-o", tmp_path / f"again.{suffix}") == 0
    for name in {f".{suffix}", ".jsonl"}:
        assert out.with_suffix(name).read_bytes() == (tmp_path / "again").with_suffix(name).read_bytes()
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_an_error_in_the_middle_leaves_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Encoder.encode_chunks

    def failing(self: Encoder, documents: list[str], **options: object) -> object:
        if DOCUMENTS[3] in documents:
            raise ValueError("encode_chunks: no")
        return own(self, documents, **options)

    monkeypatch.setattr(Encoder, "encode_chunks", failing)
    assert chunk(corpus, "--field", "body", "-o", tmp_path / "out.npy") == 1
    err = capsys.readouterr().err
    assert err.startswith("longspan: error: encode_chunks: no (in the documents from ") and err.count("\n") == 1
    assert err.endswith(f"corpus.jsonl:6); nothing was written to {tmp_path / 'out.npy'}\n")
    assert names(tmp_path) == ["corpus.jsonl"]


# ---- errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("corpus.jsonl -o corpus.npy", "corpus.jsonl exists; give --force to replace it"),
        ("corpus.jsonl -o corpus.npy --force", "corpus.jsonl is an input too; name another output"),
        ("corpus.jsonl -o o.npy", "no field 'text' (the row has 'id', 'body') (--skip-bad passes over bad rows)"),
        ("corpus.jsonl -o o.jsonl --keep start", "--keep start: the output has a column of that name already"),
        ("corpus.jsonl -o o.jsonl --chunks tokens --chunk-tokens none", "chunk_tokens must be a number for chunks of"),
        ("corpus.jsonl -o o.jsonl --chunk-overlap 3", "chunk_overlap is for chunks of tokens, got 3 for 'sentence'"),
        ("corpus.jsonl -o o.jsonl --window 2", "window must be from 3 to 512, got 2"),
        ("corpus.jsonl -o o.jsonl --overlap 256", "overlap must be from 0 to 255 in a window of 256, got 256"),
        ("corpus.jsonl -o o.jsonl --task x", "task must be None or one of 'base', got 'x'"),
        ("corpus.jsonl -o o.txt", "o.txt: the suffix does not tell the format"),
        ("corpus.jsonl -o - --json", "--json prints its summary where the vectors go with -o -; name an output file"),
    ],
)
def test_errors(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    monkeypatch.chdir(corpus.parent)
    assert chunk(*words.split()) == 1
    err = capsys.readouterr().err
    assert err.startswith("longspan: error: ") and message in err and err.count("\n") == 1
    assert names(corpus.parent) == ["corpus.jsonl"]


def test_wrong_numbers(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chunk(corpus, "-o", "o.jsonl", "--overlap", "-1") == 2
    assert "must be a whole number from 0 up, got '-1'" in capsys.readouterr().err
    assert chunk(corpus, "-o", "o.jsonl", "--chunk-tokens", "0") == 2
    assert "must be a whole number from 1 up, got '0'" in capsys.readouterr().err
