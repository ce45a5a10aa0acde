"""Whole models on torch tensors: every family's goldens, on a CUDA device or in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kernel_cases import DEVICE, ON_GPU, torch
from longspan import Encoder, MultiVectorEncoder, Reranker
from longspan.models.engines.torch_engine import TorchEngine
from torch_models import assert_agree, on_cpu, open_with, short_cases

DTYPES = ["float32", "float16", *(["bfloat16"] if ON_GPU else [])]  # the interpreter multiplies bfloat16 wrongly
ENCODERS = [
    "bert-minilm",
    "xlmr-absolute",
    "jina-v1-t5",
    "jina-v2-en",
    "jina-v2-code",
    "jina-v3",
    "modernbert",
    "nomic-bert",
    "mpnet",
    "distilbert",
    "gte-new/model",
    "embeddinggemma/model",
    "nomic-moe/model",
]
DECODERS = ["jina-v5-text-small/model", "jina-v5-text-nano/model", "jina-code/model", "jina-v4/model"]

Load = Callable[..., Encoder]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Opens a model on the device of these tests."""

    def opened(folder: Path, dtype: str, kind: type = Encoder) -> Encoder:
        return open_with(TorchEngine(DEVICE, dtype), folder, monkeypatch, kind)

    return opened


@pytest.mark.parametrize("dtype", DTYPES if ON_GPU else ["float32"])
@pytest.mark.parametrize("family", [*ENCODERS, *DECODERS, "jina-clip-v2/model"])
def test_every_family(family: str, dtype: str, golden: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = short_cases(golden / family.split("/", maxsplit=1)[0])
    encoder = load(golden / family, dtype)
    tasks = encoder.tasks[:3]
    found = {}
    for name, ids in cases.items():
        task = [tasks[place % len(tasks)] if tasks else None for place in range(len(ids))]
        found[name] = np.asarray(encoder.encode_ids(ids, task=task, normalize_embeddings=True))
    plain = on_cpu(golden / family, monkeypatch)
    for name, ids in cases.items():
        task = [tasks[place % len(tasks)] if tasks else None for place in range(len(ids))]
        truth = np.asarray(plain.encode_ids(ids, task=task, normalize_embeddings=True))
        assert_agree(found[name], truth, dtype, name)


@pytest.mark.parametrize("dtype", DTYPES if ON_GPU else ["float32"])
@pytest.mark.parametrize("name", ["rerank-bert", "rerank-modernbert", "rerank-qwen3", "rerank-jina-v3"])
def test_rerankers(name: str, dtype: str, golden: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = golden / name / "model"
    options = {"activation_fn": "identity", "max_length": 24 if name == "rerank-bert" else None}
    pairs = [("a lock", "it takes the lock"), ("a lock", "")][: None if ON_GPU or name == "rerank-bert" else 1]
    found = load(folder, dtype, Reranker).predict(pairs, **options)
    truth = on_cpu(folder, monkeypatch, Reranker).predict(pairs, **options)
    scale = max(1.0, float(np.abs(truth).max()))
    np.testing.assert_allclose(found, truth, rtol=0, atol={"float32": 2e-5}.get(dtype, 0.1) * scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_token_vectors_and_chunks(dtype: str, golden: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Late chunking reads all of it first. Then each sentence gets a vector. So it knows its neighbours."
    found, encoder = [], load(golden / "jina-v2-en", dtype)
    found = [encoder.encode(text, output_value="token_embeddings"), encoder.encode_chunks(text).embeddings]
    plain = on_cpu(golden / "jina-v2-en", monkeypatch)
    truth = [plain.encode(text, output_value="token_embeddings"), plain.encode_chunks(text).embeddings]
    for one, true, name in zip(found, truth, ("tokens", "chunks"), strict=True):
        assert_agree(one, np.asarray(true), dtype, name)


@pytest.mark.parametrize("dtype", DTYPES if ON_GPU else ["float32"])
@pytest.mark.parametrize("family", ["jina-colbert-v2", "jina-v4/model"])
def test_multi_vectors(family: str, dtype: str, golden: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["what is late interaction?", "a vector for each token"]
    task = "retrieval" if family.startswith("jina-v4") else None
    encoder = load(golden / family, dtype, MultiVectorEncoder)
    found = [*encoder.encode_queries(texts, task=task), *encoder.encode_documents(texts, task=task)]
    plain = on_cpu(golden / family, monkeypatch, MultiVectorEncoder)
    truth = [*plain.encode_queries(texts, task=task), *plain.encode_documents(texts, task=task)]
    for place, (one, true) in enumerate(zip(found, truth, strict=True)):
        assert_agree(one, true, dtype, f"text {place}")


def test_more_batches_than_run_ahead(golden: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text number {number} " + "word " * (number % 7) for number in range(8)]
    found = np.asarray(load(golden / "bert-minilm", "float32").encode(texts, batch_size=2))
    assert_agree(found, np.asarray(on_cpu(golden / "bert-minilm", monkeypatch).encode(texts)), "float32", "texts")


@pytest.mark.skipif(ON_GPU, reason="there is a CUDA device")
def test_a_device_that_is_not_there(golden: Path) -> None:
    with pytest.raises(ValueError, match="Encoder: device 'cuda' is not there: torch finds 0 CUDA devices"):
        Encoder(golden / "bert-minilm", device="cuda")
    with pytest.raises(ValueError, match="dtype must be one of 'auto', 'bfloat16', 'float16', 'float32' on a GPU"):
        Encoder(golden / "bert-minilm", device="cuda", dtype="int8")


def test_dtype_of_weights(golden: Path, load: Load) -> None:
    encoder = load(golden / "bert-minilm", "float16")
    assert encoder._encoder.weights.layers[0].qkv.weight.weight.dtype == torch.float16
    assert "float16" in encoder.explain()


def test_what_the_caller_told_torch_changes_nothing() -> None:
    """Under autocast torch would round a product's rows, and hand back another type."""
    engine, kind = TorchEngine(DEVICE, "float32"), torch.device(DEVICE).type
    a = torch.randn(3, 4, device=DEVICE)
    with torch.autocast(kind, torch.bfloat16):
        with engine.computing():
            assert (a @ a.T).dtype == torch.float32 and not torch.is_grad_enabled()
        assert (a @ a.T).dtype == torch.bfloat16


def test_a_batch_and_chunks_under_autocast(golden: Path, load: Load) -> None:
    encoder = load(golden / "bert-minilm", "float32")
    calls = [lambda: np.asarray(encoder.encode("a lock")), lambda: encoder.encode_chunks("a lock").embeddings]
    before = [call() for call in calls]
    with torch.autocast(torch.device(DEVICE).type, torch.bfloat16):
        for call, truth in zip(calls, before, strict=True):
            np.testing.assert_array_equal(call(), truth)
