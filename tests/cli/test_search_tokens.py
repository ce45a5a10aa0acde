"""`longspan search` with a late-interaction model: what is built is what MultiVectorEncoder and MaxSim make of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, TEXTS, ask, build
from longspan import MultiVectorEncoder, MultiVectorStore
from longspan.cli import main
from longspan.documents import folder as index_folder

COLBERT = str(Path(__file__).parents[1] / "golden" / "jina-colbert-v2")
QUESTIONS = ["what is text number 7?", "and more words"]


@pytest.fixture(scope="module")
def colbert() -> MultiVectorEncoder:
    return MultiVectorEncoder(COLBERT)


@pytest.mark.parametrize("store, dim", [("int8", None), ("float16", 16), ("binary", None)])
def test_answers_are_maxsim_s(
    colbert: MultiVectorEncoder,
    lines: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    store: str,
    dim: int | None,
) -> None:
    """In any store, of whole and of shortened vectors; `info` tells, and the folder is a MultiVectorStore."""
    index, words = tmp_path / "index", ("--lines", "--model", COLBERT, "--store", store)
    assert build(index, lines, *words, *(("--truncate-dim", dim) if dim else ()), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["added"], summary["is_centered"]) == (150, 150, False)
    truth = MultiVectorStore(dim or colbert.dim, store=store)  # type: ignore[arg-type]
    truth.add(colbert.encode_documents(TEXTS, dim=dim))
    expected = truth.search(colbert.encode_queries(QUESTIONS, dim=dim), 5)
    (tmp_path / "questions.txt").write_text("\n".join(QUESTIONS))
    answers = ask(capsys, index, "--file", tmp_path / "questions.txt", "-k", 5)
    assert [answer["query"] for answer in answers] == QUESTIONS
    found = [[TEXTS.index(hit["text"]) for hit in answer["hits"]] for answer in answers]
    assert found == expected.ids.tolist()
    scores = [[hit["score"] for hit in answer["hits"]] for answer in answers]
    np.testing.assert_array_equal(np.array(scores, np.float32), expected.scores)
    assert MultiVectorStore.load(index).info().documents == 150
    assert main(["info", str(index), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["model"], info["store"], info["documents"], info["is_whole"]) == (COLBERT, store, 150, True)


def test_stopped_resumed_appended_and_replaced(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_folder, "_SECONDS_BETWEEN_SAVES", -1.0)
    index, more, words = tmp_path / "index", tmp_path / "more.txt", ("--lines", "--model", COLBERT)
    more.write_text("something else\n")
    encode = MultiVectorEncoder.encode_documents

    def stops(self: MultiVectorEncoder, texts: list[str], **options: object) -> object:
        if TEXTS[120] in texts:
            raise KeyboardInterrupt
        return encode(self, texts, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(MultiVectorEncoder, "encode_documents", stops)
        assert build(index, lines, *words) == 130
    kept = int(capsys.readouterr().err.split(" documents kept")[0].split()[-1])
    assert 0 < kept <= 120
    assert build(index, lines, *words, "--resume", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["resumed"]) == (150, kept)
    assert build(index, more, "--lines", "--append") == 0
    (answer,) = ask(capsys, index, *TEXTS[60].split(), "-k", 200)
    assert sorted(hit["text"] for hit in answer["hits"]) == sorted([*TEXTS, "something else"])
    assert build(index, more, *words, "--force") == 0
    (answer,) = ask(capsys, index, "something", "else")
    assert [hit["text"] for hit in answer["hits"]] == ["something else"]


def test_passages(colbert: MultiVectorEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text file is cut by the model's own tokens."""
    text = "\n\n".join(f"Here is paragraph number {i}, which says one thing." for i in range(12))
    (tmp_path / "a.md").write_text(text)
    assert build(tmp_path / "index", tmp_path / "a.md", "--model", COLBERT, "--chunk-tokens", 30) == 0
    (answer,) = ask(capsys, tmp_path / "index", "which", "paragraph", "-k", 50)
    assert len(answer["hits"]) > 3
    for hit in answer["hits"]:
        assert hit["text"] == text[hit["start"] : hit["end"]]
        assert len(colbert.tokenizer.encode([hit["text"]], max_length=500)[0].ids) <= 30 + 4  # seams, and both ends


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["build", "i", "in.txt", "--model", COLBERT, "--store", "codes"],
            "--store codes is for models of one vec",
        ),
        (["build", "i", "in.txt", "--model", COLBERT, "--prompt", "p"], "--prompt and --prompt-name are for models of"),
        (["build", "i", "in.txt", "--model", COLBERT, "--center", "yes"], "--center and --query-sample are for models"),
        (
            ["build", "i", "in.txt", "--model", MODEL, "--store", "binary"],
            "--store binary is for token vectors; one",
        ),
        (
            ["query", "tokens", "x", "--model", MODEL],
            "tokens holds token vectors, but these are one vector a text; take",
        ),
        (
            ["query", "single", "x", "--model", COLBERT],
            "single holds one vector a text, but these are token vectors; take",
        ),
        (["query", "tokens", "x", "--no-rescore"], "--no-rescore is for models of one vector a text"),
        (["query", "tokens", "x", "--prompt", "p"], "--prompt and --prompt-name are for models of one vector a text"),
        (
            ["build", "tokens", "v.npy", "--vectors", "--append"],
            "the index holds token vectors, but these are one",
        ),
    ],
    ids=str,
)
def test_errors_are_one_sentence(
    lines: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(lines.parent)
    lines.write_text("one\ntwo\n")
    np.save("v.npy", np.ones((2, 64), np.float32))
    for name, model in (("tokens", COLBERT), ("single", MODEL)):
        if name in words:
            assert build(Path(name), lines, "--lines", "--model", model) == 0
    capsys.readouterr()
    assert main(["search", *words]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not Path("i").exists()
