"""MultiVectorEncoder: the layouts of other tools, and damaged files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from checkpoints import Tensors, read_config, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError, MultiVectorEncoder
from longspan.checkpoint.safetensors_folder import SafetensorsFolder

TEXTS = ["Hi!", "late chunking, explained", "", "a longer text (of a kind), " * 9, "快速的棕色狐狸 и лиса 😀"]


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "jina-colbert-v2"


@pytest.fixture(scope="module")
def encoder(folder: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(folder)


@pytest.fixture
def pylate(golden: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes colbert-v2's model in PyLate's layout: keys of its config and of the projection's may be changed."""
    source = golden / "jina-colbert-v2"

    def make(config: dict[str, object] | None = None, dense: dict[str, object] | None = None) -> Path:
        tensors = read_tensors(source)
        projection = tensors.pop("linear.weight")
        folder = write_checkpoint(source, tmp_path / "pylate", tensors, read_config(source))
        (folder / "artifact.metadata").unlink()
        settings = {"query_prefix": "[QueryMarker]", "document_prefix": "[DocumentMarker]", "query_length": 32}
        settings |= {"document_length": 300, "attend_to_expansion_tokens": True, **(config or {})}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
        kinds = {"": "sentence_transformers.models.Transformer", "1_Dense": "pylate.models.Dense.Dense"}
        modules = [{"idx": i, "name": str(i), "path": p, "type": kinds[p]} for i, p in enumerate(kinds)]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Dense").mkdir()
        shape = {"in_features": projection.shape[1], "out_features": projection.shape[0], "bias": False}
        shape |= {"activation_function": "torch.nn.modules.linear.Identity", **(dense or {})}
        (folder / "1_Dense" / "config.json").write_text(json.dumps(shape))
        save_file({"linear.weight": projection}, folder / "1_Dense" / "model.safetensors")
        return folder

    return make


def test_pylate_layout(pylate: Callable[..., Path], encoder: MultiVectorEncoder) -> None:
    """The same model in PyLate's files gives the same vectors, by PyLate's own skip list."""
    other = MultiVectorEncoder(pylate())
    assert (other.query_maxlen, other.doc_maxlen) == (32, 300)
    for one, same in zip(
        other.encode_queries(TEXTS, on_truncate="ignore"),
        encoder.encode_queries(TEXTS, on_truncate="ignore"),
        strict=True,
    ):
        np.testing.assert_array_equal(one, same)
    for one, same in zip(
        other.encode_documents(TEXTS), encoder.encode_documents(TEXTS, skip_list="pylate"), strict=True
    ):
        np.testing.assert_array_equal(one, same)


def test_pylate_without_expansion(pylate: Callable[..., Path]) -> None:
    encoder = MultiVectorEncoder(pylate({"do_query_expansion": False, "skiplist_words": ["!"]}))
    assert encoder.encode_queries("late chunking").shape == (5, 48)  # <s>, marker, two tokens, </s>
    assert len(encoder.encode_documents("Hi!")) == len(encoder.encode_documents("Hi!", skip_list=None)) - 1


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t: t.pop("linear.weight"),
            r"is no multi-vector model: it needs linear.weight \(ColBERT\), multi_vector_pr",
        ),
        (
            lambda t: t.update({"linear.weight": t["linear.weight"][:, :63]}),
            r"tensor linear.weight must be \(dim, 64\), got \(48, 63\)",
        ),
        (
            lambda t: t.update({"linear.weight": t["linear.weight"][0]}),
            r"tensor linear.weight must be \(dim, 64\), got \(64,\)",
        ),
        (
            lambda t: t.update({"linear.weight": t["linear.weight"][:0]}),
            r"tensor linear.weight must be \(dim, 64\), got \(0, 64\)",
        ),
        (
            lambda t: t["linear.weight"].__setitem__((3, 4), np.nan),
            "tensor 'linear.weight' holds nan at flat position 196",
        ),
        (lambda t: t.update({"linear.bias": np.ones(48, np.float32)}), "tensor linear.bias is not part of a ColBERT's"),
        (lambda t: t.pop("roberta.emb_ln.weight"), "tensor roberta.emb_ln.weight is missing from the weights"),
    ],
)
def test_damaged_tensors(change: Callable[[Tensors], object], message: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        MultiVectorEncoder(spoilt(folder, tmp_path / "model", change))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("multi_vector_projector.weight"), "is no multi-vector model"),
        (lambda t: t.pop("multi_vector_projector.bias"), "no tensor 'multi_vector_projector.bias'"),
        (
            lambda t: t.update({"multi_vector_projector.bias": np.ones(5, np.float32)}),
            r"tensor multi_vector_projector.bias must be \(16,\), got \(5,\)",
        ),
    ],
)
def test_damaged_v4(change: Callable[[Tensors], object], message: str, golden: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        MultiVectorEncoder(spoilt(golden / "jina-v4" / "model", tmp_path / "model", change))


@pytest.mark.parametrize(
    "config, dense, message",
    [
        ({}, {"use_residual": True}, "must hold linear.weight, residual.weight, got linear.weight"),
        ({}, {"in_features": 32}, "'in_features' must be 64, the width of what comes in, got 32"),
        ({}, {"out_features": 47}, r"linear.weight must be \(47, 64\), got \(48, 64\)"),
        ({"query_length": 0}, {}, "'query_length' must be from 1 to 8194, got 0"),
        ({"document_length": "x"}, {}, "'document_length' must be an integer, got 'x'"),
        ({"query_prefix": "[Q] "}, {}, r"has no token '\[Q\] ', which is to be the query marker"),
        ({"skiplist_words": [1]}, {}, "'skiplist_words' must be a list of strings"),
    ],
)
def test_hostile_pylate(
    config: dict[str, object], dense: dict[str, object], message: str, pylate: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointError, match=message):
        MultiVectorEncoder(pylate(config, dense))


def test_a_model_of_one_vector_is_refused(golden: Path) -> None:
    with pytest.raises(
        CheckpointError, match="must list a Transformer, then Dense modules without a Pooling, got Trans"
    ):
        MultiVectorEncoder(golden / "bert-minilm")


def test_a_text_that_is_all_skipped_keeps_its_tokens(pylate: Callable[..., Path]) -> None:
    """Only where even the special tokens and the marker are on the list can nothing be left."""
    encoder = MultiVectorEncoder(pylate({"skiplist_words": ["<s>", "</s>", "[DocumentMarker]"]}))
    np.testing.assert_array_equal(encoder.encode_documents(""), encoder.encode_documents("", skip_list=None))
    assert len(encoder.encode_documents("Hi")) == len(encoder.encode_documents("Hi", skip_list=None)) - 3


def test_an_end_of_queries_that_is_also_their_filler_is_refused(pylate: Callable[..., Path]) -> None:
    """As decoders have it, which lack a mask token."""
    folder = pylate({"attend_to_expansion_tokens": False})
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({key: value for key, value in config.items() if key != "mask_token"}))
    with pytest.raises(CheckpointError, match="queries end with the token '</s>' that fills them up"):
        MultiVectorEncoder(folder)
    end, filler = MultiVectorEncoder(folder, attend_to_mask_tokens=True).encode_queries("Hi")[[3, 4]]
    assert np.abs(end - filler).max() > 1e-3  # one token, other places


@pytest.mark.parametrize("task", ["retrieval", "code"])
def test_damaged_projection_of_an_adapter(task: str, golden: Path, tmp_path: Path) -> None:
    source, target = golden / "jina-v4" / "model", tmp_path / "model"
    shutil.copytree(source, target)
    factors = read_tensors(source / "adapters", "adapter_model")
    name = f"base_model.model.multi_vector_projector.lora_A.{task}.weight"
    factors[name] = np.ascontiguousarray(factors[name][:, :-1])
    save_file(factors, target / "adapters" / "adapter_model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"adapter of multi_vector_projector must be for \(16, 64\) .* \(16, 63\)"
    ):
        MultiVectorEncoder(target)


def test_adapters_are_read_once(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoder and projection of v4 share a file of adapters; each of its tensors is read for both together."""
    read: list[str] = []
    for way in ("read", "bits"):
        own = getattr(SafetensorsFolder, way)
        noting = lambda self, *what, own=own: read.append(what[0]) or own(self, *what)  # noqa: E731
        monkeypatch.setattr(SafetensorsFolder, way, noting)
    encoder = MultiVectorEncoder(golden / "jina-v4" / "model")
    factors = [name for name in read if ".lora_" in name]
    assert len(factors) == len(set(factors)) and len(encoder.tasks) == 3
    assert sum(name.startswith("base_model.model.multi_vector_projector.") for name in factors) == 6
