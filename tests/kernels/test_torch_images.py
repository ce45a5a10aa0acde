"""Images on torch tensors: the goldens of both towers, 2-d RoPE and windows, on a CUDA device or in the interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernel_cases import DEVICE, ON_GPU
from longspan import Encoder, MultiVectorEncoder
from longspan.models.engines.torch_engine import TorchEngine
from torch_models import assert_agree, open_with
from vision_models import MODELS, read_golden

DTYPES = ["float32", "float16", *(["bfloat16"] if ON_GPU else [])]  # the interpreter multiplies bfloat16 wrongly


def opened(model: Path, dtype: str, monkeypatch: pytest.MonkeyPatch, kind: type = Encoder) -> Encoder:
    return open_with(TorchEngine(DEVICE, dtype), model, monkeypatch, kind)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_goldens(name: str, dtype: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read_golden(golden / name)
    cases = images.cases if ON_GPU or dtype == "float32" else images.cases[:2]
    encoder = opened(images.model, dtype, monkeypatch)
    found = encoder.encode([images.image(case["image"]) for case in cases], task=[case["task"] for case in cases])
    truth = np.stack([images.expected[f"emb/{case['id']}"] for case in cases])
    assert_agree(np.asarray(found), truth, dtype, name)


@pytest.mark.parametrize("dtype", DTYPES if ON_GPU else ["float32"])
def test_token_vectors_beside_texts(dtype: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read_golden(golden / "jina-v4")
    multi = opened(images.model, dtype, monkeypatch, MultiVectorEncoder)
    given = [images.images[0], "a text between", images.images[1]]
    found = multi.encode_documents(given, task="retrieval")
    for place, case in ((0, "image0-retrieval"), (2, "image1-retrieval")):
        truth = images.expected[f"multivector/{case}"]
        if dtype == "float32":
            np.testing.assert_allclose(found[place], truth, rtol=0, atol=1e-5)
        else:
            assert_agree(found[place], truth, dtype, case)
    again = multi.encode_documents(given[1], task="retrieval")
    np.testing.assert_allclose(found[1], again, rtol=0, atol=1e-6 if dtype == "float32" else 2e-2)
