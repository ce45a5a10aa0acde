"""Readers of the judged data, the table of known figures and the commands, on small files made here."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.encoders import RUNTIMES, Kind, Runtime
from bench.quality import baselines, retrieval, sts
from bench.quality.baselines import Baseline, all_baselines, find_baseline
from bench.quality.data import load_retrieval, load_sts
from bench.quality.report import Result, table, verdict


def write_jsonl(path: Path, records: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """A corpus of whole texts, one of passages in two languages, and sentence pairs."""
    corpus = [{"_id": "b", "title": "A ship", "text": "at\u2028sea "}, {"_id": "a", "title": "", "text": "a hill"}]
    write_jsonl(tmp_path / "cosqa" / "corpus.jsonl.gz", corpus)
    write_jsonl(tmp_path / "cosqa" / "queries.jsonl", [{"_id": "q1", "text": "hill?"}, {"_id": "q2", "text": " ship "}])
    (tmp_path / "cosqa" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq2\tb\t2\nq2\ta\t0\nq1\ta\t1\n")
    for language, text in (("en", "One. Two\u00e9."), ("de", "Eins. Zwei.")):
        spans = [{"id": "d.p0", "start": 0, "end": 4}, {"id": "d.p1", "start": 5, "end": len(text)}]
        document = {"_id": "d", "title": "not read", "text": text, "passages": spans}
        write_jsonl(tmp_path / "xquad" / f"documents.{language}.jsonl.gz", [document])
        write_jsonl(tmp_path / "xquad" / f"queries.{language}.jsonl.gz", [{"_id": "q", "text": language}])
    (tmp_path / "xquad" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\td.p1\t1\n")
    (tmp_path / "stsb").mkdir()
    pairs = 'sentence1\tsentence2\tscore\n"A cat\ta cat\t4.5\na dog\tthe sea\t0\nA cat\tthe sea\t1\n'
    (tmp_path / "stsb" / "en.test.tsv").write_text(pairs)
    return tmp_path


def test_whole_texts_join_title_and_text_and_keep_the_order(data_folder: Path) -> None:
    data = load_retrieval(data_folder, "cosqa")
    assert data.documents == ("A ship at\u2028sea", "a hill")
    assert data.queries == ("hill?", " ship ")
    assert data.gains == ({1: 1.0}, {0: 2.0})


def test_passages_are_the_spans_of_the_text(data_folder: Path) -> None:
    assert load_retrieval(data_folder, "xquad.en").documents == ("One.", "Two\u00e9.")
    across = load_retrieval(data_folder, "xquad.de-en")
    assert across.queries == ("de",)
    assert across.documents == ("One.", "Two\u00e9.")
    assert across.gains == ({1: 1.0},)


def test_the_smaller_scifact_keeps_the_judged_and_the_first_others(tmp_path: Path) -> None:
    corpus = [{"_id": f"d{place}", "title": "", "text": f"text {place}"} for place in range(1200)]
    write_jsonl(tmp_path / "scifact" / "corpus.jsonl.gz", corpus)
    write_jsonl(tmp_path / "scifact" / "queries.jsonl", [{"_id": "q", "text": "?"}])
    (tmp_path / "scifact" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\td3\t1\nq\td1150\t1\n")
    data = load_retrieval(tmp_path, "scifact-1283")
    assert len(data.documents) == 1002
    assert data.documents[:5] == tuple(f"text {place}" for place in range(5))
    assert data.documents[-2:] == ("text 1000", "text 1150")
    assert data.gains == ({3: 1.0, 1001: 1.0},)


def test_quotes_in_sentence_pairs_mean_nothing(data_folder: Path) -> None:
    pairs = load_sts(data_folder, "en")
    assert pairs.first == ('"A cat', "a dog", "A cat")
    assert pairs.second == ("a cat", "the sea", "the sea")
    assert pairs.scores.tolist() == [4.5, 0, 1]


@pytest.mark.parametrize("name", ["nothing", "xquad", "xquad.", "scifact.en", "../cosqa"])
def test_an_unknown_set_lists_those_that_there_are(data_folder: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=r"set must be one of scifact, .*xquad\.LANGUAGE, got|set must be one of scifa"
    ):
        load_retrieval(data_folder, name)


def test_data_that_is_not_there_is_named(data_folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"documents\.fr\.jsonl\.gz is not there"):
        load_retrieval(data_folder, "xquad.fr")
    with pytest.raises(FileNotFoundError, match=r"fr\.test\.tsv is not there"):
        load_sts(data_folder, "fr")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cosqa/qrels.tsv", "query-id\tcorpus-id\tscore\nq1\tz\t1\n", "judges 'q1' and 'z', but one of them is not"),
        ("cosqa/qrels.tsv", "query-id\tcorpus-id\tscore\nq9\ta\t1\n", "judges 'q9' and 'a', but one of them is not"),
        ("cosqa/qrels.tsv", "query-id corpus-id score\n", r"line 1: must have 3 columns, got 1"),
        ("cosqa/queries.jsonl", '{"_id": "q1"}\n', "line 1: text must be a string, got None"),
        ("cosqa/queries.jsonl", "[]\n", "line 1: must be a JSON object"),
    ],
)
def test_broken_files_say_where(data_folder: Path, file: str, content: str, message: str) -> None:
    (data_folder / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_retrieval(data_folder, "cosqa")


def test_two_documents_of_one_name_are_refused(data_folder: Path) -> None:
    write_jsonl(data_folder / "cosqa" / "corpus.jsonl.gz", [{"_id": "a", "title": "", "text": "x"}] * 2)
    with pytest.raises(ValueError, match="two documents have the identifier 'a'"):
        load_retrieval(data_folder, "cosqa")


@pytest.mark.parametrize("span", [{"id": "p", "start": 0, "end": 99}, {"id": "p", "start": 2, "end": 2}, {"id": "p"}])
def test_a_span_outside_the_text_is_refused(data_folder: Path, span: dict[str, object]) -> None:
    document = {"_id": "d", "title": "", "text": "short", "passages": [span]}
    write_jsonl(data_folder / "xquad" / "documents.en.jsonl.gz", [document])
    with pytest.raises(ValueError, match="line 1: passages must be id, start and end in the text"):
        load_retrieval(data_folder, "xquad.en")


def test_a_score_that_is_no_number_is_refused(data_folder: Path) -> None:
    (data_folder / "stsb" / "en.test.tsv").write_text("sentence1\tsentence2\tscore\na\tb\thigh\n")
    with pytest.raises(ValueError, match="the third column must be numbers: .*'high'"):
        load_sts(data_folder, "en")


# what is known


def test_known_figures_are_shares_and_have_limits() -> None:
    for known in all_baselines():
        for rankings in known.figures.values():
            assert set(rankings) <= set(known.limits)
            assert all(0 < figure <= 1 for figures in rankings.values() for figure in figures.values())


def test_a_baseline_is_found_by_its_name_or_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    mine, other = Baseline("mine", digest, {}, {}), Baseline("other", None, {}, {})
    monkeypatch.setattr(baselines, "all_baselines", lambda: (other, mine))
    assert find_baseline(tmp_path, None) is mine
    assert find_baseline(tmp_path, "other") is other
    (tmp_path / "model.safetensors").write_bytes(b"others")
    assert find_baseline(tmp_path, None) is None
    assert find_baseline(tmp_path / "empty", None) is None
    with pytest.raises(ValueError, match="baseline must be one of other, mine, got 'nobody'"):
        find_baseline(tmp_path, "nobody")


def result(figure: float) -> Result:
    known = Baseline("m", None, {"float32": 0.001}, {"set": {"float32": {"nDCG@10": 0.5, "R@10": 0.7}}})
    return Result.against(known, "set", "float32", "cosine", {"nDCG@10": figure, "MRR@10": 0.25})


def test_the_table_shows_figure_baseline_and_difference() -> None:
    lines = table("ranking", [result(0.50102), result(0.4987)], ["nDCG@10", "R@10", "MRR@10"]).splitlines()
    assert [[cell.strip() for cell in line.split("|")] for line in lines] == [
        ["ranking", "nDCG@10  known    diff", "R@10     known    diff", "MRR@10   known    diff"],
        ["cosine", "0.5010 0.5000 +0.0010", "-", "0.2500 -"],
        ["cosine", "0.4987 0.5000 -0.0013!", "-", "0.2500 -"],
    ]


def test_the_verdict_names_what_is_off() -> None:
    assert verdict([result(0.5), result(0.49896)]) == (
        "all 2 known figures agree within their limits; largest difference 0.0010",
        True,
    )
    assert verdict([result(0.5), result(0.4987)]) == (
        "1 of 2 figures are off their baseline: set float32 nDCG@10",
        False,
    )
    unknown = Result.against(None, "set", "float32", "cosine", {"nDCG@10": 0.5})
    assert verdict([unknown]) == ("no baseline is known for these weights and sets", True)


# the commands, with a runtime that counts letters


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Kind, str | None]]:
    """What the runtime was asked for."""
    calls: list[tuple[Kind, str | None]] = []

    def embed(texts: Sequence[str], kind: Kind = "text", prompt: str | None = None) -> np.ndarray:
        calls.append((kind, prompt))
        counts = np.array([[text.lower().count(letter) for letter in "acdeghilnopst"] for text in texts], np.float32)
        unit: np.ndarray = counts / np.linalg.norm(counts, axis=1, keepdims=True)
        return unit

    monkeypatch.setitem(RUNTIMES, "longspan", lambda model, num_threads: Runtime("letters", embed))
    return calls


def test_retrieval_command(
    data_folder: Path, letters: list[tuple[Kind, str | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = data_folder / "out.json"
    arguments = [str(data_folder), "--model", str(data_folder), "--sets", "cosqa", "--json", str(out)]
    assert retrieval.main([*arguments, "--precision", "float32", "--document-prompt", "passage: "]) == 0
    assert letters == [("query", None), ("document", "passage: ")]
    assert "cosqa: 2 documents, 2 queries" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["schema"] == 1
    assert written["runtime"] == "letters"
    assert [entry["figures"] for entry in written["results"]] == [{"nDCG@10": 1.0, "R@10": 1.0, "MRR@10": 1.0}]


def test_sts_command(
    data_folder: Path, letters: list[tuple[Kind, str | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sts.main([str(data_folder), "--model", str(data_folder), "--prompt", "query: "]) == 0
    assert letters == [("text", "query: ")]
    said = capsys.readouterr().out
    assert "stsb.en test, 3 pairs" in said
    assert "cosine" in said
    assert "Hamming" in said


def test_a_figure_off_its_baseline_is_exit_code_1(
    data_folder: Path,
    letters: list[tuple[Kind, str | None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = Baseline("m", None, {"float32": 0.001}, {"cosqa": {"float32": {"nDCG@10": 0.9}}})
    monkeypatch.setattr(baselines, "all_baselines", lambda: (known,))
    arguments = [str(data_folder), "--model", str(data_folder), "--sets", "cosqa", "--baseline", "m"]
    assert retrieval.main(arguments) == 1
    assert "1 of 1 figures are off their baseline: cosqa float32 nDCG@10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone", "--model", ".", "--sets", "cosqa"], "there is no data folder gone"),
        ([".", "--model", ".", "--sets", "nothing"], "set must be one of scifact"),
        ([".", "--model", ".", "--sets", "cosqa", "--baseline", "nobody"], "baseline must be one of all-MiniLM-L6-v2,"),
        ([".", "--model", "no/such/folder", "--sets", "cosqa"], "there is no folder 'no/such/folder'"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    arguments: list[str],
    message: str,
    letters: list[tuple[Kind, str | None]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert retrieval.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1
