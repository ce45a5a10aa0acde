"""Tokenizer files that would take memory or time without bound are refused before they do."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from longspan import CheckpointError
from longspan.text import tokenizer_file
from longspan.text.tokenizer_file import blaming, read_tokenizer


def changed(golden: Path, tmp_path: Path, **parts: object) -> Path:
    described = json.loads((golden / "bert-minilm" / "tokenizer.json").read_text("utf-8"))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(described | parts), "utf-8")
    return path


def test_a_sparse_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with open(path, "wb") as file:
        file.truncate(3_000_000_000)
    start = time.perf_counter()
    with pytest.raises(CheckpointError, match="has 3,000,000,000 bytes; a tokenizer may have 256,000,000"):
        read_tokenizer(path)
    assert time.perf_counter() - start < 5  # 3 GB take longer to read


def test_replacements_that_grow(golden: Path, tmp_path: Path) -> None:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    path = changed(golden, tmp_path, normalizer={"type": "Sequence", "normalizers": [step] * 3})
    with pytest.raises(CheckpointError, match="its normalizer makes up to 1,000,000,000 characters of one; 64 are"):
        read_tokenizer(path)


@pytest.mark.parametrize("blob", [(8 << 30).to_bytes(8, "little")[:4] + b"\xff" * 8, b"\xff\xff\xff\x7f", b"ab", b""])
def test_a_map_that_claims_more_than_it_has(blob: bytes, golden: Path, tmp_path: Path) -> None:
    normalizer = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}
    with pytest.raises(CheckpointError, match=r"precompiled map of characters claims|is damaged"):
        read_tokenizer(changed(golden, tmp_path, normalizer=normalizer))


def test_a_template_of_many_tokens(golden: Path, tmp_path: Path) -> None:
    described = json.loads((golden / "bert-minilm" / "tokenizer.json").read_text("utf-8"))["post_processor"]
    described["single"] = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 1000 + described["single"]
    with pytest.raises(CheckpointError, match="its template adds 1,002 tokens to a text; 64 are the most"):
        read_tokenizer(changed(golden, tmp_path, post_processor=described))


@pytest.mark.parametrize("name", ["bert-minilm", "xlmr-absolute", "jina-v1-t5", "modernbert", "jina-code/model"])
def test_published_ones_are_taken(name: str, golden: Path) -> None:
    assert read_tokenizer(golden / name / "tokenizer.json").get_vocab_size() > 0


@pytest.mark.parametrize(
    "said, kind",
    [
        ("The global thread pool has not been initialized: ThreadPoolBuildError", OSError),
        ("failed to spawn thread: Resource temporarily unavailable", OSError),
        ("memory allocation of 8589934592 bytes failed", MemoryError),
        ("data did not match any variant", CheckpointError),
    ],
)
def test_a_want_of_threads_is_no_damage(said: str, kind: type[Exception]) -> None:
    with pytest.raises(kind), blaming(Path("tokenizer.json")):
        raise BaseException(said)
    assert tokenizer_file.MAX_GROWTH == 64
