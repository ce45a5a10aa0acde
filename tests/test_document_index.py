"""DocumentIndex: documents by key, brought in step, deleted, and found; the folder is that of `longspan search`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longspan import Changes, DocumentIndex, Encoder, MultiVectorEncoder, SparseEncoder
from longspan.cli import main

DOCUMENTS = {
    "a.md": "# Iterators\n\nAn iterator gives one item after the other.",
    "b.md": "# Decorators\n\nA decorator is applied when a function is defined.",
    "c": "A generator resumes where it left off.",
}


@pytest.fixture(scope="module")
def encoder(golden: Path) -> Encoder:
    return Encoder(golden / "bert-minilm")


def test_in_step(encoder: Encoder, tmp_path: Path) -> None:
    index = DocumentIndex(tmp_path / "i", encoder)
    assert len(index) == 0 and index.search("anything") == []
    assert index.sync(DOCUMENTS) == Changes(new=3, changed=0, unchanged=0, gone=0)
    assert index.keys() == ["a.md", "b.md", "c"] and len(index) == 3
    assert index.sync(DOCUMENTS) == Changes(new=0, changed=0, unchanged=3, gone=0)
    assert index.sync({**DOCUMENTS, "c": "Other words.", "d": "New."}) == Changes(new=1, changed=1, unchanged=2, gone=0)
    assert index.add({"e": "More."}) == Changes(new=1, changed=0, unchanged=0, gone=0)
    assert index.sync({"c": "Other words."}) == Changes(new=0, changed=0, unchanged=1, gone=4)
    assert index.keys() == ["c"] and DocumentIndex(tmp_path / "i", encoder).keys() == ["c"]


def test_a_document_without_a_text_is_never_new(encoder: Encoder, tmp_path: Path) -> None:
    index = DocumentIndex(tmp_path / "i", encoder)
    documents = {"a": "One.", "blank": " \n", "empty": ""}
    assert index.sync(documents) == Changes(new=1, changed=0, unchanged=0, gone=0)
    assert index.sync(documents) == Changes(new=0, changed=0, unchanged=1, gone=0)
    assert index.sync({"a": "", "blank": "Two."}) == Changes(new=1, changed=1, unchanged=0, gone=0)
    assert index.sync({"a": "", "blank": "Two."}) == Changes(new=0, changed=0, unchanged=1, gone=0)
    assert index.keys() == ["blank"]


def test_found_again(encoder: Encoder, tmp_path: Path) -> None:
    index = DocumentIndex(tmp_path / "i", encoder)
    index.sync({**DOCUMENTS, "f": {"text": "with a field", "year": 1990}})
    for key, text in DOCUMENTS.items():
        best = index.search(text, 2)
        assert best[0].key == key and best[0].text == text and best[0].score > best[1].score and len(best) == 2
    with pytest.raises(ValueError, match="is an image, but this model reads text alone"):
        index.search({"image": "a.png"})
    with pytest.raises((TypeError, ValueError)):
        index.search(3)  # type: ignore[arg-type]
    [hit] = index.search("with a field", 1)
    assert hit.fields == {"year": 1990} and hit.source == "f" and (hit.start, hit.end) == (0, 12)
    with pytest.raises(ValueError, match="the question is empty"):
        index.search("  ")
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        index.search("a", 0)


def test_long_documents_are_cut_along_their_structure(encoder: Encoder, tmp_path: Path) -> None:
    text = "".join(f"# Part {part}\n\n{'word ' * 30}\n\n" for part in range(6))
    index = DocumentIndex(tmp_path / "i", encoder, chunk_tokens=90)
    index.sync({"long.md": text})
    assert len(index) == 6
    hits = index.search("part 3", 6)
    assert sorted(text[hit.start : hit.end] for hit in hits) == sorted(hit.text for hit in hits)  # type: ignore[misc, type-var]
    assert all(hit.text is not None and hit.text.startswith("# Part") for hit in hits)
    whole = DocumentIndex(tmp_path / "w", encoder, chunk_tokens=None)
    whole.sync({"long.md": text[:200]})
    assert len(whole) == 1


def test_delete(encoder: Encoder, tmp_path: Path) -> None:
    index = DocumentIndex(tmp_path / "i", encoder)
    index.sync({"x/a.md": "one", "x/b.txt": "two", "y/c.md": "three", "odd*name": "four"})
    with pytest.raises(KeyError, match="no document is meant by 'z'"):
        index.delete("x", "z")
    assert len(index) == 4
    assert index.delete("odd*name") == ["odd*name"]
    assert index.delete("*.md") == ["x/a.md", "y/c.md"]
    assert index.delete("x") == ["x/b.txt"] and len(index) == 0 and index.search("one") == []
    assert index.sync({"a": "again"}).new == 1


def test_the_command_line_shares_the_folder(
    encoder: Encoder, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    index = DocumentIndex("i", encoder)
    index.sync(DOCUMENTS)
    assert main(["search", "query", "i", "--json", "A", "generator", "resumes", "where", "it", "left", "off."]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["key"] == "c"
    assert main(["search", "delete", "i", "c"]) == 0
    assert index.sync(DOCUMENTS) == Changes(new=1, changed=0, unchanged=2, gone=0)
    for key, text in DOCUMENTS.items():
        Path(key).write_text(text)
    assert (
        main(
            [
                "search",
                "build",
                "f",
                *(name for name in DOCUMENTS if "." in name),
                "--model",
                str(golden / "bert-minilm"),
            ]
        )
        == 0
    )
    made = DocumentIndex("f", encoder)
    assert made.sync(DOCUMENTS) == Changes(new=1, changed=0, unchanged=2, gone=0)  # what the command embedded stays


def test_late_interaction_and_sparse(encoder: Encoder, golden: Path, tmp_path: Path) -> None:
    tokens = DocumentIndex(tmp_path / "t", MultiVectorEncoder(golden / "jina-colbert-v2"))
    tokens.sync(DOCUMENTS)
    assert tokens.sync({"c": DOCUMENTS["c"], "z": "new"}) == Changes(new=1, changed=0, unchanged=1, gone=2)
    assert {hit.key for hit in tokens.search("resumes", 5)} == {"c", "z"}
    both = DocumentIndex(tmp_path / "b", encoder, sparse_encoder=SparseEncoder(golden / "splade-bert" / "model"))
    both.sync(DOCUMENTS)
    both.delete("a.md")
    assert {hit.key for hit in both.search("an iterator", 5)} == {"b.md", "c"}


def test_another_model_is_refused(encoder: Encoder, golden: Path, tmp_path: Path) -> None:
    DocumentIndex(tmp_path / "i", encoder).sync(DOCUMENTS)
    with pytest.raises(ValueError, match="DocumentIndex"):
        DocumentIndex(tmp_path / "i", Encoder(golden / "mpnet"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(FileNotFoundError, match=r"is no index of `longspan search`"):
        DocumentIndex(tmp_path / "other", encoder)


def test_bad_documents(encoder: Encoder, tmp_path: Path) -> None:
    index = DocumentIndex(tmp_path / "i", encoder)
    index.sync(DOCUMENTS)
    for bad, kind, message in (
        ([("a.md", "x"), ("a.md", "y")], ValueError, "the key 'a.md' comes twice"),
        ({"k": 3}, TypeError, "the document 'k' must be a str, or .* got int"),
        ({"k": {"body": "x"}}, TypeError, "the document 'k' must be a str, or .* got NoneType"),
        (
            {"k": Path("a.png")},
            TypeError,
            "the document 'k' must be a str, .* got PosixPath; images, .* `longspan search",
        ),
        (
            {"k": {"image": "a.png", "year": 3}},
            TypeError,
            "the document 'k' must be a str, .* got NoneType; images, soun",
        ),
        (
            {"k": np.zeros((2, 2, 3), np.uint8)},
            TypeError,
            "the document 'k' must be a str, .* got ndarray; images, soun",
        ),
        ([(3, "x")], TypeError, "a key must be a str, got int"),
        ({"k": {"text": "x", "year": float("nan")}}, ValueError, "the document 'k' cannot be written as JSON"),
        ({"k": "half \ud800"}, ValueError, "the document 'k' cannot be written as JSON"),
    ):
        with pytest.raises(kind, match=message):
            index.sync(bad)  # type: ignore[arg-type]
        assert set(DocumentIndex(tmp_path / "i", encoder).keys()) == set(DOCUMENTS)  # nothing is lost

    def stops() -> Iterator[tuple[str, str]]:
        yield "new", "words"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        index.sync(stops())
    assert set(DOCUMENTS) <= set(DocumentIndex(tmp_path / "i", encoder).keys())
    with pytest.raises(ValueError, match="chunk_tokens must be at least 1"):
        DocumentIndex(tmp_path / "i", encoder, chunk_tokens=0)


def test_wrong_arguments(encoder: Encoder, tmp_path: Path) -> None:
    for folder in ("", None, 3):
        with pytest.raises(TypeError, match="^DocumentIndex: folder must be a path, got "):
            DocumentIndex(folder, encoder)  # type: ignore[arg-type]
    for model in (None, "a model", SparseEncoder):
        with pytest.raises(TypeError, match="^DocumentIndex: encoder must be an Encoder or a MultiVectorEncoder, got "):
            DocumentIndex(tmp_path / "i", model)  # type: ignore[arg-type]
    index = DocumentIndex(tmp_path / "i", encoder)
    for documents in (None, 3, "ab", b"ab"):
        with pytest.raises(TypeError, match="^DocumentIndex: documents must be texts by key, or pairs of both, got "):
            index.sync(documents)  # type: ignore[arg-type]
    for pairs in ([("a",)], ["ab"], [3]):
        with pytest.raises(TypeError, match="^DocumentIndex: documents must be pairs of a key and a text, got "):
            index.add(pairs)  # type: ignore[arg-type]
    for pattern in (None, 3, b"a", []):
        with pytest.raises(TypeError, match="^DocumentIndex.delete: a pattern must be a str, got "):
            index.delete(pattern)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^DocumentIndex.search: k must be an integer of at least 1, got 0$"):
        index.search("words", 0)
    assert len(index) == 0 and index.search("words") == []
