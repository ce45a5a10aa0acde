"""`longspan rerank`, and `--rerank` of `longspan search query`: what Python gives, in files and lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_encoder import MODEL, TEXTS, FakeEncoder, write_lines
from longspan import Reranker
from longspan.cli import main

QUERY = "how do I reset a forgotten password"
DOCUMENTS = ["To reset a forgotten password, open the sign-in page.", "The licence.", "", "def reset(user): pass"]


@pytest.fixture
def model(golden: Path) -> str:
    return str(golden / "rerank-bert" / "model")


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.jsonl"
    rows = [{"body": text, "id": f"d{place}"} for place, text in enumerate(DOCUMENTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_query(model: str, documents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rerank", model, str(documents), "--field", "body", "--keep", "id", "--query", QUERY, "--top-k", "3"]
    assert main(words) == 0
    expected = Reranker(model).rank(QUERY, DOCUMENTS, 3)
    assert lines_of(capsys) == [
        {
            "query": QUERY,
            "rank": rank,
            "score": entry["score"],
            "index": entry["corpus_id"],
            "id": f"d{entry['corpus_id']}",
            "text": DOCUMENTS[entry["corpus_id"]],
        }
        for rank, entry in enumerate(expected, 1)
    ]


def test_rows_without_a_query_are_bad_rows(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "q": "a"}\n{"text": "y", "q": null}\n{"text": "z"}\n{"text": "w", "q": "a"}\n')
    words = ["rerank", model, str(path), "--query-field", "q", "--scores"]
    assert main(words) == 1
    assert "2: field 'q' must be a string, a query (--skip-bad passes over bad rows)" in capsys.readouterr().err
    assert main([*words, "--skip-bad"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and "2 bad rows passed over; the first: " in said.err
    path.write_text('{"text": "x"}\n')
    assert main(words) == 1
    assert "--keep" not in capsys.readouterr().err  # which was not given


def test_queries_of_a_file_into_a_file(model: str, documents: Path, tmp_path: Path) -> None:
    queries, out = tmp_path / "queries.txt", tmp_path / "ranked.jsonl"
    queries.write_text(f"{QUERY}\n\nlicence\n")
    rows = tmp_path / "documents.txt"
    rows.write_text("".join(text + "\n" for text in DOCUMENTS))
    assert main(["rerank", model, str(rows), "--queries", str(queries), "-o", str(out)]) == 0
    found = [json.loads(line) for line in out.read_text().splitlines()]
    expected = Reranker(model).rank([QUERY, "licence"], DOCUMENTS)
    assert [(row["query"], row["index"]) for row in found] == [
        (query, entry["corpus_id"])
        for query, ranking in zip((QUERY, "licence"), expected, strict=True)
        for entry in ranking
    ]
    assert main(["rerank", model, str(rows), "--queries", str(queries), "-o", str(out)]) == 1  # it exists
    assert not list(tmp_path.glob(".ranked*"))


def test_a_query_a_row(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(QUERY, DOCUMENTS[0]), ("licence", DOCUMENTS[1]), (QUERY, DOCUMENTS[3])]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"q": query, "text": text}) + "\n" for query, text in pairs))
    assert main(["rerank", model, str(path), "--query-field", "q", "--scores"]) == 0
    scores = Reranker(model).predict(pairs).tolist()
    assert lines_of(capsys) == [{"index": place, "score": score} for place, score in enumerate(scores)]
    assert main(["rerank", model, str(path), "--query-field", "q", "--top-k", "1", "--activation", "sigmoid"]) == 0
    best = lines_of(capsys)
    assert [row["query"] for row in best] == [QUERY, "licence"] and all(0 < row["score"] < 1 for row in best)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--query", "a", "-o", "x.npy"], "rankings are written as .jsonl"),
        (["--query", "a", "-o", "/nowhere/x.jsonl"], "the folder /nowhere does not exist"),
        (["--queries", "-", "--scores"], "--scores is for one query a row"),
        (["--query-field", "id"], "no field 'text'"),
        (["--query-field", "number", "--field", "body"], "field 'number' must be a string, a query"),
    ],
)
def test_what_is_wrong_is_said(
    model: str, documents: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rerank", model, str(documents), *words]) == 1
    assert message in capsys.readouterr().err


def test_a_model_that_is_no_reranker(golden: Path, documents: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerank", str(golden / "bert-minilm"), str(documents), "--field", "body", "--query", "a"]) == 1
    assert "is no reranker" in capsys.readouterr().err


def test_search_query_with_a_reranker(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = FakeEncoder.stand_in(monkeypatch)
    monkeypatch.setattr(encoder, "encode_query", encoder.encode)
    monkeypatch.setattr(encoder, "encode_document", encoder.encode)
    index = str(tmp_path / "index")
    assert main(["search", "build", index, str(write_lines(tmp_path / "in.txt")), "--lines", "--model", MODEL]) == 0
    question = TEXTS[0]
    capsys.readouterr()
    words = ["search", "query", index, "--json", "--rerank", model, "--candidates", "9999", "--top-k", "3"]
    assert main([*words, question]) == 0
    [answer] = lines_of(capsys)
    indexed = [text for text in TEXTS if text.strip()]
    expected = Reranker(model).rank(question, indexed, 3, return_documents=True, on_truncate="ignore")
    assert sorted(hit["text"] for hit in answer["hits"]) == sorted(entry["text"] for entry in expected)
    assert [hit["score"] for hit in answer["hits"]] == [entry["score"] for entry in expected]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert all(1 <= hit["found_at"] <= len(indexed) for hit in answer["hits"])


def test_what_a_reranker_cuts_is_told(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = FakeEncoder.stand_in(monkeypatch)
    monkeypatch.setattr(encoder, "encode_query", encoder.encode)
    monkeypatch.setattr(encoder, "encode_document", encoder.encode)
    index, path = str(tmp_path / "index"), tmp_path / "in.txt"
    path.write_text("word " * 600 + "\nshort\n")
    assert main(["search", "build", index, str(path), "--lines", "--model", MODEL]) == 0
    capsys.readouterr()
    assert main(["search", "query", index, "--json", "--rerank", model, "a question"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1 and "1 of 2 pairs had more than 512 tokens" in said.err


@pytest.mark.parametrize(
    "name, says", [("rerank-bert", "each pair by itself"), ("rerank-jina-v3", "the documents of a")]
)
def test_info_of_a_reranker(name: str, says: str, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(golden / name / "model")
    assert main(["info", folder]) == 0
    shown = capsys.readouterr()
    assert f"scores {says}" in shown.out and not shown.err
    assert main(["info", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == 1
