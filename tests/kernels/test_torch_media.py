"""Images, sounds and videos in one sequence with texts on torch tensors: the goldens, on a CUDA device or in the
interpreter; each row with the embeddings, the connectors and the adapter of its own task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernel_cases import DEVICE, ON_GPU
from longspan import MediaOptions
from longspan.models.engines.torch_engine import TorchEngine
from media_models import SIZES, MediaGolden, prompt_of
from torch_models import assert_agree, open_with

pytest.importorskip("PIL.Image", reason="Pillow is not installed")

DTYPES = ["float32", *(["float16", "bfloat16"] if ON_GPU else [])]  # the interpreter takes its time
FEW = {
    "small": ("image1-retrieval", "audio-shortest-retrieval", "image-and-film-classification"),
    "nano": ("audio-shortest-retrieval", "image0-clustering"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_goldens(size: str, dtype: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks and kinds in one call, and a text with a token of its task among them."""
    omni = MediaGolden(golden / f"jina-v5-omni-{size}")
    cases = [case for case in omni.cases if (is_plain(case) if ON_GPU else case["id"] in FEW[size])]
    encoder = open_with(TorchEngine(DEVICE, dtype), omni.model, monkeypatch, media=MediaOptions(prompts="all"))
    text, task = "a literal <|audio_start|> in words", "text-matching"
    found = encoder.encode(
        [text, *(omni.parts(case) for case in cases)],
        task=[task, *(case["task"] for case in cases)],
        prompt=["", *(prompt_of(encoder, case) for case in cases)],
    )
    assert_agree(np.asarray(found[1:]), np.stack([omni.truth(case) for case in cases]), dtype, size)
    alone = encoder.encode(text, task=task, prompt="")
    np.testing.assert_allclose(found[0], alone, rtol=0, atol=1e-6 if dtype == "float32" else 2e-2)


def is_plain(case: dict) -> bool:
    """Whether it needs no other option than its prompt."""
    return case["wrapper"] == "bare" and not {"video_markers", "audio_padding"} & case.keys()
