"""What tests of the command share: an encoder that counts its calls and raises where it is told to, and ways to run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from longspan.cli import main
from longspan.cli.embedding.options import ModelOptions
from longspan.errors import TruncationWarning
from longspan.models.spec import TaskSpec
from longspan.vectors.origin import Origin

MODEL = str(Path(__file__).parent / "golden" / "bert-minilm")  # a real checkpoint, for what looks at the folder
TEXTS = [f"text number {i} " + "and more words " * (i % 7) for i in range(150)]


class FakeEncoder:
    """Vectors of 16 dimensions from a text's hash; counts calls, and raises where it is told to."""

    similarity_fn_name = "cosine"
    fingerprint = "0" * 32
    origin = Origin(fingerprint, "float32")
    name, revision, dtype, normalizes = "fake", None, "float32", False
    prompts: ClassVar[dict[str, str]] = {"p": "prompt: "}
    tasks = ("t", "x")
    default_prompt_name = None
    spec = SimpleNamespace(tasks=TaskSpec())

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []
        self.texts: list[str] = []
        self.raises: dict[str, BaseException] = {}  # text -> what it raises

    @classmethod
    def stand_in(cls, monkeypatch: pytest.MonkeyPatch, *, has_roles: bool = True) -> FakeEncoder:
        """Let every command load this one instead of its model. Without roles queries are embedded as documents are."""
        encoder = cls()
        if not has_roles:
            monkeypatch.setattr(encoder, "encode_query", encoder.encode)
            monkeypatch.setattr(encoder, "encode_document", encoder.encode)
        monkeypatch.setattr(ModelOptions, "open", lambda self, model: encoder)
        return encoder

    def encode(self, texts: list[str], **options: object) -> np.ndarray:
        self.calls.append(options)
        for text in texts:
            if text in self.raises:
                raise self.raises[text]
        self.texts += texts
        prefix = str(options.get("prompt") or options.get("role") or "")
        digests = b"".join(hashlib.sha256((prefix + text).encode()).digest() for text in texts)
        vectors = np.frombuffer(digests, np.uint16).reshape(len(texts), 16).astype(np.float32) / 2**15 - 1
        cut = sum("long" in text for text in texts)
        if cut:
            warnings.warn(
                f"encode: {cut} of {len(texts)} texts had more than 8 tokens", TruncationWarning, stacklevel=2
            )
        return vectors[:, : options["truncate_dim"]]

    def encode_query(self, texts: list[str], **options: object) -> np.ndarray:
        return self.encode(texts, role="query", **options)

    def encode_document(self, texts: list[str], **options: object) -> np.ndarray:
        return self.encode(texts, role="document", **options)


def write_lines(path: Path) -> Path:
    """A file of TEXTS, one a line."""
    path.write_text("".join(f"{text}\n" for text in TEXTS))
    return path


def embed(*words: object) -> int:
    """The exit code of `longspan embed MODEL ...`, run in this process."""
    return main(["embed", MODEL, *map(str, words)])


def build(index: Path, *words: object) -> int:
    """The exit code of `longspan search build INDEX ...`."""
    return main(["search", "build", str(index), *map(str, words)])


def ask(capsys: pytest.CaptureFixture[str], index: Path, *words: object) -> list[dict]:
    """The answers of `longspan search query INDEX ... --json`."""
    capsys.readouterr()
    assert main(["search", "query", str(index), "--json", *map(str, words)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def found(answers: list[dict]) -> list[list[str]]:
    """The texts of their hits."""
    return [[hit["text"] for hit in answer["hits"]] for answer in answers]


def vectors_of(texts: list[str]) -> np.ndarray:
    """What a FakeEncoder makes of the texts."""
    return FakeEncoder().encode(texts, truncate_dim=None)


def names(folder: Path) -> list[str]:
    """What lies in the folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def longspan_process(
    *words: object, env: dict[str, str] | None = None, **options: object
) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    line = [sys.executable, "-m", "longspan", *map(str, words)]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(line, check=False, env=environment, capture_output=True, timeout=120, **options)
