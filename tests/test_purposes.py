"""Each public class knows what a checkpoint is for, refuses the other kinds, and names the class that is right."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import longspan
from longspan import CheckpointError, Encoder, MultiVectorEncoder, Reranker
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.cli import main
from longspan.pipeline.purpose import PURPOSES, purpose_of

FOLDERS = {
    "embedding": ("bert-minilm", "jina-v4/model", "jina-v3", "qwen3-embedding/model"),
    "late interaction": ("jina-colbert-v2", "colbert-pylate/model"),
    "reranking": ("rerank-bert/model", "rerank-xlmr/model", "rerank-jina-v3/model"),
    "sparse": ("splade-bert/model", "splade-doc/model"),
}
CASES = [(purpose, name) for purpose, names in FOLDERS.items() for name in names]


@pytest.mark.parametrize("purpose, name", CASES)
def test_purposes(purpose: str, name: str, golden: Path) -> None:
    if not (golden / name).is_dir():
        pytest.skip(f"there is no golden {name}")
    assert purpose_of(Checkpoint.open(golden / name)) == purpose
    assert getattr(longspan, PURPOSES[purpose][1].removeprefix("longspan."))(golden / name).folder == golden / name  # type: ignore[index]


@pytest.mark.parametrize(
    "kind, name, right",
    [
        (Encoder, "jina-colbert-v2", "MultiVectorEncoder"),
        (Encoder, "rerank-bert/model", "Reranker"),
        (Encoder, "splade-bert/model", "SparseEncoder"),
        (MultiVectorEncoder, "rerank-xlmr/model", "Reranker"),
        (MultiVectorEncoder, "splade-bert/model", "SparseEncoder"),
        (MultiVectorEncoder, "bert-minilm", "Encoder"),
    ],
)
def test_the_other_kinds_are_refused(kind: type, name: str, right: str, golden: Path) -> None:
    with pytest.raises(CheckpointError, match=f"longspan.{right}"):
        kind(golden / name)


@pytest.mark.parametrize("name", ["jina-colbert-v2", "rerank-bert/model", "splade-bert/model", "bert-minilm"])
def test_info_says_which(name: str, golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(golden / name), "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    purpose = next(purpose for purpose, names in FOLDERS.items() if name in names)
    assert info["purpose"] == f"{purpose}: {PURPOSES[purpose][0]}"  # type: ignore[index]
    assert info["opens_with"] == PURPOSES[purpose][1]  # type: ignore[index]
    assert main(["info", str(golden / name)]) == 0
    assert f"{purpose}: " in capsys.readouterr().out


def test_embed_refuses_token_vectors(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    model = str(golden / "jina-colbert-v2")
    assert main(["embed", model, str(tmp_path / "a.txt"), "-o", str(tmp_path / "a.npy")]) == 1
    assert "open it with longspan.MultiVectorEncoder" in capsys.readouterr().err
    assert not (tmp_path / "a.npy").exists()


@pytest.mark.parametrize("kind, name", [(Encoder, "bert-minilm"), (Reranker, "rerank-bert/model")])
def test_code_that_is_written_for_other_libraries(golden: Path, kind: type[Encoder], name: str) -> None:
    """`trust_remote_code=True` is taken; a note, at the caller's line, says that nothing is run."""
    with pytest.warns(UserWarning, match="trust_remote_code=True is not needed: longspan runs no code") as told:
        kind(golden / name, trust_remote_code=True)
    assert [warning.filename for warning in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind(golden / name, trust_remote_code=False)
