"""`longspan search` with a sparse model beside the dense one: both lists joined, or one; runs that stop go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, ask, build, found
from longspan import Encoder, IndexFileError, SparseEncoder, SparseIndex
from longspan.cli import main
from longspan.documents import sparse as hybrid
from longspan.search.fusion import fuse_ranks, fuse_scores

TEXTS = [
    "to reset a forgotten password, open the sign-in page",
    "the interpreter takes the lock before it runs byte code",
    "the licence covers the source form and the object form of the work",
    "opening hours are from nine to five",
    "a link is sent to your mail address",
    "clear the stored hash, then mail a token to the user",
]


def texts(capsys: pytest.CaptureFixture[str], index: Path, *words: object) -> list[str]:
    """Those that one question finds."""
    [answer] = found(ask(capsys, index, *words))
    return answer


@pytest.fixture
def sparse(golden: Path) -> Path:
    """A sparse model."""
    return golden / "splade-bert" / "model"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("\n".join(TEXTS))
    return path


def test_both_lists_joined(sparse: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index, question = tmp_path / "index", "reset the password of a user"
    assert build(index, lines, "--lines", "--model", MODEL, "--sparse", sparse, "--store", "float32") == 0
    assert len(SparseIndex.load(index / "sparse")) == len(TEXTS)
    assert main(["info", str(index)]) == 0
    told = capsys.readouterr().out
    assert "sparse model" in told and f"{sparse}, {len(TEXTS)} documents" in told
    assert main(["info", str(index / "sparse")]) == 0
    assert "903 dimensions in 1 block" in capsys.readouterr().out
    model, dense_model = SparseEncoder(sparse), Encoder(MODEL)
    sparse_scores = model.similarity(model.encode_query(question), model.encode_document(TEXTS))[0]
    dense_scores = np.asarray(dense_model.encode_query(question)) @ np.asarray(dense_model.encode_document(TEXTS)).T
    lists = [np.argsort(-scores, kind="stable")[None] for scores in (dense_scores, sparse_scores)]
    scored = [(ids, scores[ids]) for ids, scores in zip(lists, (dense_scores, sparse_scores), strict=True)]
    wants = {
        "dense": lists[0],
        "sparse": lists[1],
        "ranks": fuse_ranks(lists, 4).ids,
        "scores": fuse_scores(scored, 4, weights=[0.3, 0.7]).ids,
    }
    for fusion, want in wants.items():
        options = ["--weights", "0.3,0.7"] if fusion == "scores" else []
        got = texts(capsys, index, "-k", 4, "--fusion", fusion, *options, *question.split())
        assert got == [TEXTS[place] for place in want[0][:4]], fusion
    assert texts(capsys, index, "-k", 4, *question.split()) == [TEXTS[place] for place in wants["ranks"][0]]


def test_a_sparse_model_can_join_later(
    sparse: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, more = tmp_path / "index", tmp_path / "more.txt"
    more.write_text("one more document about passwords")
    assert build(index, lines, "--lines", "--model", MODEL) == 0
    assert not (index / "sparse").exists()
    assert main(["search", "query", str(index), "--fusion", "ranks", "password"]) == 1
    assert "has no sparse model beside it; build it with --append --sparse MODEL" in capsys.readouterr().err
    assert build(index, more, "--lines", "--append", "--sparse", sparse) == 0
    assert len(SparseIndex.load(index / "sparse")) == len(TEXTS) + 1
    more.write_text("and another")
    assert build(index, more, "--lines", "--append") == 0  # it is remembered
    assert len(SparseIndex.load(index / "sparse")) == len(TEXTS) + 1  # that line of that file has changed
    got = texts(capsys, index, "-k", 8, "--fusion", "sparse", "one more document about passwords")
    assert sorted(got) == sorted([*TEXTS, "and another"])
    other = tmp_path / "other"
    shutil.copytree(sparse, other)
    assert build(index, more, "--lines", "--append", "--sparse", other) == 1
    assert "has the sparse model" in capsys.readouterr().err
    assert build(index, lines, "--lines", "--model", MODEL, "--sparse", sparse, "--force") == 0  # in the new folder
    assert len(SparseIndex.load(index / "sparse")) == len(TEXTS)


def test_a_run_that_stops_goes_on(sparse: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed among the sparse vectors: the dense ones are whole, and only the rest is encoded again."""
    index, calls = tmp_path / "index", list[int]()
    encode = SparseEncoder.encode_document

    def failing(self: SparseEncoder, texts: list[str], **options: object) -> object:
        calls.append(len(texts))
        if len(calls) == 3:
            raise OSError("the power went")
        return encode(self, texts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(hybrid, "_AT_A_TIME", 2)
    monkeypatch.setattr(hybrid, "_SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr(SparseEncoder, "encode_document", failing)
    words = (lines, "--lines", "--model", MODEL, "--sparse", sparse)
    assert build(index, *words) == 1
    assert len(SparseIndex.load(index / "sparse")) == 4
    assert build(index, *words, "--resume") == 0
    assert calls == [2, 2, 2, 2] and len(SparseIndex.load(index / "sparse")) == 6
    assert json.loads((index / "search.json").read_text())["run"]["is_done"]


def test_what_is_refused(sparse: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = tmp_path / "index"
    vectors = tmp_path / "v.npy"
    np.save(vectors, np.ones((2, 48), np.float32))
    assert build(index, lines, "--lines", "--model", MODEL, "--sparse", MODEL) == 1
    assert "is no sparse model" in capsys.readouterr().err and not index.exists()  # before anything is embedded
    assert build(index, lines, "--lines", "--model", MODEL, "--sparse", sparse, "--force") == 0
    for words, message in (
        (["--fusion", "ranks", "--vectors", vectors], "--fusion ranks reads questions"),
        (["--weights", "1", "password"], "must be two numbers of 0 or above, not both 0, such as 0.7,0.3, got '1'"),
        (["--weights", "0,0", "password"], "must be two numbers of 0 or above"),
        (["--fusion", "sum", "password"], "invalid choice: 'sum'"),
        (
            ["--fusion", "dense", "--weights", "1,2", "password"],
            "--weights is for two lists, and --fusion dense",
        ),
    ):
        try:
            code = main(["search", "query", str(index), *map(str, words)])
        except SystemExit as error:
            code = int(error.code or 0)
        assert code != 0 and message in capsys.readouterr().err
    (index / "sparse" / "docs-000001.bin").write_bytes(b"")
    with pytest.raises(IndexFileError, match="is torn"):
        hybrid.load_sparse(index)
