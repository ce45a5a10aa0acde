"""`longspan search`: what is built is found again, with its text; errors are one sentence."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, TEXTS, FakeEncoder, ask, build, found, longspan_process, vectors_of
from longspan import BinaryIndex, Encoder, MultiVectorStore
from longspan.cli import main
from longspan.late_chunking.chunking import split_document


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """Stands in for the model of every command. Queries have the vectors of documents."""
    return FakeEncoder.stand_in(monkeypatch, has_roles=False)


@pytest.mark.parametrize("store", ["codes", "int8", "float32"])
def test_every_text_finds_itself(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    index = tmp_path / "index"
    assert build(index, lines, "--lines", "--model", MODEL, "--store", store) == 0
    assert capsys.readouterr() == ("", "")  # silence in a pipe
    answers = ask(capsys, index, "--file", lines, "--top-k", 3)
    assert [answer["query"] for answer in answers] == TEXTS
    assert store == "codes" or [texts[0] for texts in found(answers)] == TEXTS
    assert all([hit["rank"] for hit in answer["hits"]] == [1, 2, 3] for answer in answers)
    vectors = vectors_of(TEXTS)
    truth = BinaryIndex(16, store=store)  # type: ignore[arg-type]
    truth.add(vectors)
    expected = truth.search(vectors, 3)
    assert [[TEXTS.index(text) for text in texts] for texts in found(answers)] == expected.ids.tolist()
    scores = [[hit["score"] for hit in answer["hits"]] for answer in answers]
    np.testing.assert_array_equal(np.array(scores, np.float32), expected.scores)
    places = {hit["source"]: hit["text"] for answer in answers for hit in answer["hits"]}
    assert all(place == f"{lines}:{TEXTS.index(text) + 1}" for place, text in places.items())
    bare = ask(capsys, index, "--file", lines, "--top-k", 3, "--no-rescore")
    assert [[-hit["score"] for hit in answer["hits"]] for answer in bare] == truth.search(
        vectors, 3, rescore=False
    ).distances.tolist()


def test_files_become_passages(fake: FakeEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Passages cover the file's words, each with its place; a row of a table stays whole and keeps its fields."""
    text = "\n\n".join(f"# Part {i}\n\nHere is paragraph number {i}, which says one thing." for i in range(12))
    (tmp_path / "a.md").write_text(text)
    rows = [{"body": f"row {i} of the table", "year": 1990 + i} for i in range(3)] + [{"body": "  ", "year": 0}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = Encoder(MODEL).tokenizer
    fake.tokenizer = tokenizer  # type: ignore[attr-defined]
    index = tmp_path / "index"
    words = ("--model", MODEL, "--field", "body", "--keep", "year", "--keep", "yaer", "--chunk-tokens", 40)
    assert build(index, tmp_path / "a.md", tmp_path / "b.jsonl", *words) == 0
    assert capsys.readouterr().err == "longspan: warning: --keep yaer: no row has that field\n"
    documents = [json.loads(line) for line in (index / "documents.jsonl").read_text().splitlines()]
    passages = [one for one in documents if one["source"] == str(tmp_path / "a.md")]
    assert [(one["start"], one["end"]) for one in passages] == split_document(text, tokenizer, 40, unit="markdown")
    assert all(one["text"] == text[one["start"] : one["end"]] for one in passages) and len(passages) > 3
    assert [one["fields"] for one in documents if "fields" in one] == [{"year": year} for year in (1990, 1991, 1992)]
    (answer,) = ask(capsys, index, "row", "1", "of the table", "-k", 1)
    assert answer["query"] == "row 1 of the table"
    assert answer["hits"][0]["text"] == answer["query"] and answer["hits"][0]["fields"] == {"year": 1991}


def test_words_may_stand_behind_options(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines.write_text("".join(f"number {i}\n" for i in range(20)))
    build(tmp_path / "index", lines, "--lines", "--model", MODEL)
    capsys.readouterr()
    assert main(["search", "query", str(tmp_path / "index"), "-k", "1", "number", "7"]) == 0
    assert capsys.readouterr().out.endswith(f"  {lines}:8\n     number 7\n")
    answers = ask(capsys, tmp_path / "index", "a", "-k", 2, "b", "c")
    assert [answer["query"] for answer in answers] == ["a b c"]


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
def test_vectors_and_their_texts(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    """What `embed` wrote, as floats and as codes; asked by words, by vectors and by codes."""
    out, index = tmp_path / f"v.{suffix}", tmp_path / "index"
    kept = ["--keep", "text"] if suffix == "parquet" else []
    assert main(["embed", MODEL, str(lines), "-o", str(out), *kept]) == 0
    texts = ["--texts", lines] if suffix == "npy" else []
    assert build(index, out, "--vectors", *texts, "--model", MODEL) == 0
    assert found(ask(capsys, index, "--file", lines, "-k", 1)) == [[text] for text in TEXTS]
    np.save(tmp_path / "q.npy", vectors_of(TEXTS[:3]))
    answers = ask(capsys, index, "--vectors", tmp_path / "q.npy", "-k", 1)
    assert found(answers) == [[text] for text in TEXTS[:3]]
    assert answers[1]["query"] == f"{tmp_path / 'q.npy'}: row 2"
    codes = tmp_path / f"codes.{suffix}"
    assert main(["embed", MODEL, str(lines), "-o", str(codes), "--precision", "ubinary", *kept]) == 0
    assert build(tmp_path / "coded", codes, "--vectors", *texts) == 0
    np.save(tmp_path / "codes_q.npy", np.packbits(vectors_of(TEXTS[:3]) > 0, axis=1))
    answers = ask(capsys, tmp_path / "coded", "--vectors", tmp_path / "codes_q.npy", "-k", 1)
    assert [hit["score"] for answer in answers for hit in answer["hits"]] == [0.0] * 3
    assert main(["search", "query", str(tmp_path / "coded"), "words"]) == 1
    assert "was built from vectors, and no model is known; give --model or --vectors" in capsys.readouterr().err


def test_append_and_replace(fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, more = tmp_path / "index", tmp_path / "more.txt"
    more.write_text("a new text\nanother\n")
    assert build(index, lines, "--lines", "--model", MODEL) == 0
    assert build(index, more, "--lines") == 1
    assert (
        f"{index} exists; give --append to add to it, --sync to bring it in step with the inputs, or"
        in capsys.readouterr().err
    )
    assert build(index, more, "--lines", "--append", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["added"], summary["resumed"]) == (152, 2, 0)
    assert found(ask(capsys, index, "a new text", "-k", 1)) == [["a new text"]]
    assert build(index, more, "--lines", "--append", "--model", str(tmp_path)) == 1
    assert "was built with the model" in capsys.readouterr().err
    assert build(index, more, "--lines", "--force", "--model", MODEL) == 0
    assert sorted(found(ask(capsys, index, TEXTS[0], "-k", 5))[0]) == ["a new text", "another"]


def test_standard_input(
    fake: FakeEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of a pipe, blank ones passed over; or what a person types until the end of the input."""
    (tmp_path / "in.txt").write_text("one\ntwo\n\nthree\n")
    build(tmp_path / "index", tmp_path / "in.txt", "--lines", "--model", MODEL)
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\n\n three \n"))
    assert found(ask(capsys, tmp_path / "index", "-k", 1)) == [["two"], ["three"]]
    piped = io.TextIOWrapper(io.BytesIO("\ufefftwo\r\nthr\xe4\n".encode()), "latin-1")  # a locale's encoding counts not
    monkeypatch.setattr(sys, "stdin", piped)
    assert [answer["query"] for answer in ask(capsys, tmp_path / "index", "-k", 1)] == ["two", "thr\xe4"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"two\nthr\xe4\n")))
    assert main(["search", "query", str(tmp_path / "index")]) == 1
    assert capsys.readouterr().err == "longspan: error: standard input:2: not UTF-8: byte 0xe4 at position 3\n"
    (tmp_path / "asked.txt").write_bytes(b"thr\xe4\n")
    assert main(["search", "query", str(tmp_path / "index"), "--file", str(tmp_path / "asked.txt")]) == 1
    assert capsys.readouterr().err.endswith("asked.txt:1: not UTF-8: byte 0xe4 at position 3\n")  # it has no --skip-bad
    typed = iter(["one", "two"])

    def type_line(prompt: str) -> str:
        print(prompt, end="")
        if (line := next(typed, None)) is None:
            raise EOFError
        return line

    monkeypatch.setattr(sys, "stdin", type("Terminal", (io.StringIO,), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", type_line)
    assert main(["search", "query", str(tmp_path / "index"), "-k", "1"]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'in.txt'}:1\n     one\n" in out and f"{tmp_path / 'in.txt'}:2\n     two\n" in out


def cone(rows: int, seed: int) -> np.ndarray:
    """Unit vectors around one direction: their mean is about 0.9 long, as e5's."""
    rng = np.random.default_rng(seed)
    x = np.random.default_rng(0).standard_normal(64) * 2 + rng.standard_normal((rows, 64))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_a_narrow_cone_is_told_and_centred(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself; with --center no the codes stay plain and the command says so, and so does `info`."""
    np.save(tmp_path / "v.npy", cone(2000, 1))
    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        assert build(tmp_path / "auto", tmp_path / "v.npy", "--vectors") == 0
    assert re.fullmatch(
        r".*/auto: 2,000 passages, codes centred \(2,000 new; 2,000 passages added in .* s\)\n", capsys.readouterr().err
    )
    assert main(["info", str(tmp_path / "auto")]) == 0
    out = capsys.readouterr().out
    assert "centred: documents and queries" in out and "good codes" in out
    assert build(tmp_path / "plain", tmp_path / "v.npy", "--vectors", "--center", "no") == 0
    assert "warning: the vectors lie in a narrow cone (mean vector 0." in capsys.readouterr().err
    assert main(["info", str(tmp_path / "plain"), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["advice"].startswith("the vectors lie in a narrow cone") and info["rows"] == 2000
    np.save(tmp_path / "few.npy", cone(40, 1))
    assert build(tmp_path / "few", tmp_path / "few.npy", "--vectors") == 0
    info = BinaryIndex.load(tmp_path / "few").info()
    assert not info.has_center_documents and info.advice is None  # too few to tell
    queries, truth = cone(50, 2), []
    for name in ("auto", "plain"):
        index = BinaryIndex.load(tmp_path / name)
        best = np.argsort(-queries @ cone(2000, 1).T, axis=1)[:, :10]
        hits = index.search(queries, 10, rescore=False)
        rows = np.searchsorted(index.ids, hits.ids)
        truth.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), best.tolist())]))
    assert truth[0] > 2 * truth[1]  # what centring is for


def test_info_of_a_store_of_token_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = MultiVectorStore(16, store="int8")
    store.add([np.ones((5, 16)), np.ones((2, 16))])
    store.save(tmp_path / "store")
    assert main(["info", str(tmp_path / "store")]) == 0
    out = capsys.readouterr().out
    assert "2 documents" in out and "7 tokens of 16 dimensions as int8, 20 bytes" in out
    assert main(["info", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "i", "in.txt"], "--model is missing: texts need one; inputs that hold vectors need --vectors"),
        (
            ["build", "i", "in.txt", "--model", "m", "--append", "--force"],
            "--append, --sync, --resume and --force exclude",
        ),
        (["build", "i", "in.txt", "--model", "m", "--append"], "is no index of `longspan search`: there is no"),
        (["build", "i", "in.txt", "--model", "m", "--texts", "in.txt"], "--texts is for --vectors"),
        (["build", "i", "in.txt", "--model", "m", "--lines", "--whole-file"], "--lines and --whole-file exclude"),
        (["build", "i", "-", "--model", "m", "--resume"], "--resume needs input files"),
        (["build", "i", "absent.txt", "--model", "m"], "absent.txt: no such file"),
        (["build", "i", "v.npy", "--model", "m"], "v.npy holds vectors; give --vectors"),
        (["build", "i", "in.odd", "--model", "m"], "in.odd: the suffix does not tell the format (.txt .md .rst"),
        (["build", "no/i", "in.txt", "--model", "m"], "does not exist"),
        (["build", "i", "in.txt", "--vectors"], "in.txt: vectors are read from .npy and .parquet files"),
        (["build", "i", "cube.npy", "--vectors"], r"cube.npy must hold vectors, (n, dim) of floats, or (n, dim / 8)"),
        (["build", "i", "v.npy", "--vectors", "--texts", "in.txt"], "in.txt has more texts than there are vectors"),
        (["build", "i", "long.npy", "--vectors", "--texts", "in.txt"], "in.txt has fewer texts than there are vec"),
        (["build", "i", "v.npy", "other.npy", "--vectors"], "the vectors have 8 dimensions, but the index has 16"),
        (["build", "i", "in.txt", "--model", "m", "--query-sample", "absent"], "--query-sample: absent: no such file"),
        (["query", "i", "x"], "is no index of `longspan search`: there is no search.json in it"),
        (["query", "i", "x", "--file", "in.txt"], "ask by words, by --file or by --vectors, not by two of them"),
    ],
    ids=str,
)
def test_errors_are_one_sentence(
    fake: FakeEncoder,
    lines: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(lines.parent)
    for name, shape in {"v": (3, 16), "cube": (2, 2, 2), "long": (200, 16), "other": (3, 8)}.items():
        np.save(f"{name}.npy", np.ones(shape, np.float32))
    Path("in.odd").touch()
    assert main(["search", *words]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not Path("i").exists()


def test_a_real_model_end_to_end(tmp_path: Path) -> None:
    """In processes of their own, killed in between by nobody: build, ask, and a damaged text file is told."""
    (tmp_path / "a.txt").write_text("The cat sleeps.\n\nBread is baked in an oven.\n")
    process = longspan_process(
        "search", "build", tmp_path / "i", tmp_path / "a.txt", "--model", MODEL, "--chunk-tokens", 12
    )
    assert (process.returncode, process.stderr) == (0, b"")
    process = longspan_process("search", "query", tmp_path / "i", "Bread is baked in an oven.", "-k", "1")
    assert process.returncode == 0 and b"oven" in process.stdout
    documents = tmp_path / "i" / "documents.jsonl"
    documents.write_text(documents.read_text()[5:])
    process = longspan_process("search", "query", tmp_path / "i", "bread")
    assert process.returncode == 1 and b"documents.jsonl was altered: there is no document at byte" in process.stderr


def test_a_model_that_has_changed_adds_nothing(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another pooling in the same folder makes other vectors: --append is refused, and a query is warned of."""
    model, index, text = tmp_path / "model", tmp_path / "index", tmp_path / "a.txt"
    shutil.copytree(golden / "bert-minilm", model)
    text.write_text("hello")
    assert main(["search", "build", str(index), str(text), "--model", str(model)]) == 0
    pooling = {"word_embedding_dimension": 64, "pooling_mode_cls_token": True}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (tmp_path / "b.txt").write_text("more")
    capsys.readouterr()
    assert main(["search", "build", str(index), str(tmp_path / "b.txt"), "--append", "--model", str(model)]) == 1
    assert "the vectors are of another model" in capsys.readouterr().err
    assert main(["search", "query", str(index), "hello", "--json"]) == 0
    shown = capsys.readouterr()
    assert "asked with vectors of another model" in shown.err and len(json.loads(shown.out)["hits"]) == 1


def test_lines_that_give_no_token(golden: Path, tmp_path: Path) -> None:
    """An empty line of a model without special tokens has a row of its own, by the padding token."""
    model, lines = str(golden / "jina-code" / "model"), tmp_path / "gap.txt"
    lines.write_text("a\n\nb\n")
    assert main(["embed", model, str(lines), "-o", str(tmp_path / "gap.npy")]) == 0
    assert np.load(tmp_path / "gap.npy").shape == (3, 64)
    assert main(["chunk", model, str(lines), "-o", str(tmp_path / "gap.jsonl")]) == 0
