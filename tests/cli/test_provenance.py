"""What made an output lies in its metadata, or beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longspan import Encoder, __version__
from longspan.cli import main
from longspan.pipeline.loaded_model import LoadedModel


def beside(path: Path) -> dict[str, object]:
    return json.loads(Path(f"{path}.json").read_text("utf-8"))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("one text\nanother\n")
    return path


def test_beside_npy(golden: Path, texts: Path, tmp_path: Path) -> None:
    model, out = golden / "bert-minilm", tmp_path / "out.npy"
    assert main(["embed", str(model), str(texts), "-o", str(out), "--prompt", "é: ", "--truncate-dim", "32"]) == 0
    assert beside(out) == {
        "longspan": __version__,
        "model": str(model),
        "revision": None,
        "fingerprint": Encoder(model).fingerprint,
        "dtype": "float32",
        "task": None,
        "prompt": "é: ",
        "truncate_dim": 32,
        "normalize": True,
        "precision": "float32",
    }


@pytest.mark.parametrize("command", ["embed", "chunk"])
def test_in_parquet(golden: Path, texts: Path, tmp_path: Path, command: str) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    model, out = golden / "jina-v3", tmp_path / "out.parquet"
    role = ["--document"] if command == "embed" else []
    words = [str(model), str(texts), "-o", str(out), "--dtype", "int8", *role, "--no-normalize"]
    assert main([command, *words]) == 0
    about = json.loads(pq.read_schema(out).metadata[b"longspan"])
    encoder = Encoder(model)
    assert about["fingerprint"] == encoder.fingerprint
    assert (about["dtype"], about["normalize"], about["precision"]) == ("int8", False, "float32")
    assert about["task"] == "retrieval.passage"
    assert about["prompt"] == encoder.prompts["retrieval.passage"] != ""


def test_a_query_s_prompt_is_the_one_that_was_used(golden: Path, texts: Path, tmp_path: Path) -> None:
    model, out = golden / "jina-v3", tmp_path / "out.npy"
    assert main(["embed", str(model), str(texts), "-o", str(out), "--query"]) == 0
    prompts = Encoder(model).prompts
    assert (beside(out)["task"], beside(out)["prompt"]) == ("retrieval.query", prompts["retrieval.query"])
    assert main(["embed", str(model), str(texts), "-o", str(out), "--force", "--task", "separation"]) == 0
    assert beside(out)["task"] == "separation"


def test_a_model_of_the_hub_has_its_commit(golden: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    for folder, revision in ((Path("models--a--b/snapshots") / commit, commit), (golden / "jina-v3", None)):
        model = object.__new__(LoadedModel)
        model.folder = folder  # type: ignore[misc]
        assert model.revision == revision


def test_what_lies_there_is_not_replaced(
    golden: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.npy.json").write_text("mine")
    assert main(["embed", str(golden / "bert-minilm"), str(texts), "-o", str(tmp_path / "out.npy")]) == 1
    assert "out.npy.json exists; give --force to replace it" in capsys.readouterr().err
    assert (tmp_path / "out.npy.json").read_text() == "mine"
