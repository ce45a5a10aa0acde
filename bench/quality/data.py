"""Reads the judged data sets from a folder that the caller names: scifact, cosqa, covidqa, xquad and stsb."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

SCIFACT_OTHERS: Final = 1000  # documents without a judgement in the smaller scifact


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """A corpus, queries, and which documents answer them."""

    name: str
    documents: tuple[str, ...]
    queries: tuple[str, ...]
    gains: tuple[dict[int, float], ...]  # of each query: place of a judged document in `documents` -> judgement


@dataclass(frozen=True, slots=True)
class ArticleSet:
    """Long documents, the passages in them, and the questions about these."""

    documents: tuple[str, ...]
    spans: tuple[tuple[tuple[int, int], ...], ...]  # of each document its passages, half-open code points
    passages: RetrievalSet  # the same passages, document by document, each by itself


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """Pairs of sentences and how alike people found them, 0 to 5."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: np.ndarray  # (n,) f64


def load_retrieval(folder: Path, name: str) -> RetrievalSet:
    """A retrieval set.

    Args:
        folder: the data folder.
        name: "scifact", "cosqa": whole texts. "scifact-1283": scifact's judged documents and the first 1,000 others.
            "covidqa", "xquad.LANGUAGE" or "xquad.LANGUAGE-LANGUAGE" (questions-passages): passages, each by itself.
    Raises: ValueError, there is no set of that name, or its files contradict each other; FileNotFoundError, a file is
        not there.
    """
    base, _, languages = name.partition(".")
    if name in ("scifact", "cosqa"):
        return _judged(name, folder / name, _whole_texts(folder / name / "corpus.jsonl.gz"), "queries.jsonl")
    if name == "scifact-1283":
        return _fewer_documents(load_retrieval(folder, "scifact"), name)
    if name == "covidqa":
        return _judged(name, folder / name, _passages(folder / name / "documents.jsonl.gz"), "queries.jsonl")
    if base == "xquad" and languages:
        asked, _, answered = languages.partition("-")
        passages = _passages(folder / base / f"documents.{answered or asked}.jsonl.gz")
        return _judged(name, folder / base, passages, f"queries.{asked}.jsonl.gz")
    known = "scifact, scifact-1283, cosqa, covidqa, xquad.LANGUAGE or xquad.LANGUAGE-LANGUAGE"
    raise ValueError(f"set must be one of {known}, got {name!r}")


def load_articles(folder: Path, name: str) -> ArticleSet:
    """The long documents of "covidqa", "xquad.LANGUAGE" or "xquad.LANGUAGE-LANGUAGE".

    Raises: as `load_retrieval`.
    """
    base, _, languages = name.partition(".")
    if name != "covidqa" and not (base == "xquad" and languages):
        raise ValueError(f"set must be covidqa, xquad.LANGUAGE or xquad.LANGUAGE-LANGUAGE, got {name!r}")
    passages = load_retrieval(folder, name)  # which checks every record
    suffix = f".{languages.rpartition('-')[2]}" if languages else ""
    path = folder / base / f"documents{suffix}.jsonl.gz"
    documents: list[str] = []
    spans: list[tuple[tuple[int, int], ...]] = []
    for line, record in _records(path):
        documents.append(_text(record, "text", path, line))
        listed = record["passages"]
        spans.append(tuple((one["start"], one["end"]) for one in listed) if isinstance(listed, list) else ())
    return ArticleSet(tuple(documents), tuple(spans), passages)


def load_sts(folder: Path, language: str, split: str = "test") -> SentencePairs:
    """Sentence pairs of the STS benchmark, "test" or "dev".

    Raises: FileNotFoundError, the file is not there; ValueError, a line of it is no pair with a score.
    """
    path = folder / "stsb" / f"{language}.{split}.tsv"
    rows = list(_tab_separated(path))
    try:
        scores = np.array([float(score) for _, _, score in rows])
    except ValueError as error:
        raise ValueError(f"{path}: the third column must be numbers: {error}") from None
    return SentencePairs(tuple(first for first, _, _ in rows), tuple(second for _, second, _ in rows), scores)


def _whole_texts(path: Path) -> Iterator[tuple[str, str]]:
    """Identifier and text of each document."""
    for line, record in _records(path):
        title = _text(record, "title", path, line)
        yield _text(record, "_id", path, line), f"{title} {_text(record, 'text', path, line)}".strip()


def _passages(path: Path) -> Iterator[tuple[str, str]]:
    """Identifier and text of each passage of each document."""
    for line, record in _records(path):
        text, passages = _text(record, "text", path, line), record.get("passages")
        for passage in passages if isinstance(passages, list) else [None]:
            match passage:
                case {"id": str(name), "start": int(start), "end": int(end)} if 0 <= start < end <= len(text):
                    yield name, text[start:end]
                case _:
                    raise ValueError(f"{path}, line {line}: passages must be id, start and end in the text: {passage}")


def _judged(name: str, folder: Path, documents: Iterator[tuple[str, str]], queries: str) -> RetrievalSet:
    """Joins texts and judgements; every judgement must name a query and a document that are there."""
    texts = _unique(folder, documents)
    asked = {
        _text(record, "_id", folder / queries, line): _text(record, "text", folder / queries, line)
        for line, record in _records(folder / queries)
    }
    places = {identifier: place for place, identifier in enumerate(texts)}
    gains: dict[str, dict[int, float]] = {identifier: {} for identifier in asked}
    path = folder / "qrels.tsv"
    for query, document, score in _tab_separated(path):
        if query not in gains or document not in places:
            raise ValueError(f"{path}: judges {query!r} and {document!r}, but one of them is not in the data")
        if float(score) > 0:
            gains[query][places[document]] = float(score)
    return RetrievalSet(name, tuple(texts.values()), tuple(asked.values()), tuple(gains.values()))


def _unique(folder: Path, documents: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Texts by identifier, in order."""
    texts: dict[str, str] = {}
    for identifier, text in documents:
        if identifier in texts:
            raise ValueError(f"{folder}: two documents have the identifier {identifier!r}")
        texts[identifier] = text
    return texts


def _fewer_documents(data: RetrievalSet, name: str) -> RetrievalSet:
    """The judged documents and the first others, in the corpus' order."""
    judged = {place for known in data.gains for place in known}
    others = [place for place in range(len(data.documents)) if place not in judged][:SCIFACT_OTHERS]
    kept = sorted([*judged, *others])
    places = {old: new for new, old in enumerate(kept)}
    gains = tuple({places[place]: gain for place, gain in known.items()} for known in data.gains)
    return RetrievalSet(name, tuple(data.documents[place] for place in kept), data.queries, gains)


def _records(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Number and object of each line of a JSONL file, gzipped or not."""
    for number, line in enumerate(_lines(path), 1):
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: must be a JSON object")
        yield number, record


def _text(record: dict[str, object], key: str, path: Path, line: int) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{path}, line {line}: {key} must be a string, got {value!r}")
    return value


def _tab_separated(path: Path) -> Iterator[tuple[str, str, str]]:
    """The lines below the header; quotes mean nothing."""
    for number, line in enumerate(_lines(path), 1):
        columns = line.split("\t")
        if len(columns) != 3:
            raise ValueError(f"{path}, line {number}: must have 3 columns, got {len(columns)}")
        if number > 1:
            yield columns[0], columns[1], columns[2]


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends; only \\n ends one, as texts may hold the other line separators of Unicode."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; the data folder and the set's name together must lead to it")
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for line in data.decode("utf-8").split("\n"):
        if line:
            yield line
