"""The towers of jina-embeddings-v5-omni on torch tensors, on a CUDA device or in the interpreter: features of images,
videos and sounds against the goldens, and whole sequences of several tasks in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernel_cases import DEVICE, ON_GPU
from longspan.models.engines.torch_engine import TorchEngine
from omni_models import OMNI, TASKS, open_towers, read_omni
from torch_models import assert_agree, open_with
from vision_models import cosine

DTYPES = ["float32", "float16", *(["bfloat16"] if ON_GPU else [])]  # the interpreter multiplies bfloat16 wrongly
LIMITS = {"vision": 1e-4, "video": 1e-4, "audio": 2e-5}  # the NOTES', for a float32 runtime
LEAST = {"float16": 0.9999, "bfloat16": 0.998}


@pytest.mark.parametrize(
    "name, dtype", [*((name, "float32") for name in OMNI), *((OMNI[0], own) for own in DTYPES[1:])]
)
def test_goldens(name: str, dtype: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = read_omni(golden / name)
    if not ON_GPU:
        monkeypatch.setenv("LONGSPAN_BACKEND", "triton")
    vision, audio = open_towers(stored.model, TorchEngine(DEVICE, dtype))
    most = None if ON_GPU else 2 if dtype == "float32" else 1  # the interpreter takes its time
    for kind, media, tower in (
        ("vision", stored.images, vision),
        ("video", stored.videos, vision),
        ("audio", stored.sounds, audio),
    ):
        short = sorted(media, key=lambda key: len(media[key].values))
        keys = [key for key in short if f"{kind}_features/{key}/retrieval" in stored.expected][:most]
        # Two tasks in one call: their connectors are applied to the same states.
        found = tower.features([media[key] for key in keys] * 2, [0] * len(keys) + [2] * len(keys))
        for place, own in enumerate(found):
            key = f"{kind}_features/{keys[place % len(keys)]}/{TASKS[2 * (place >= len(keys))]}"
            if (truth := stored.expected.get(key)) is None:
                continue
            if dtype == "float32":
                np.testing.assert_allclose(own, truth, rtol=0, atol=LIMITS[kind], err_msg=key)
            else:
                assert cosine(own.reshape(1, -1), truth.reshape(1, -1)) >= LEAST[dtype], key


@pytest.mark.parametrize("dtype", DTYPES if ON_GPU else ["float32"])
@pytest.mark.parametrize("name", OMNI)
def test_sequences(name: str, dtype: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = read_omni(golden / name)
    encoder = open_with(TorchEngine(DEVICE, dtype), stored.model, monkeypatch)
    image, sound = stored.expected["image_u8/1"], stored.expected["wave/shortest"]
    cases = {
        "image1-retrieval": (image, "retrieval"),
        "audio-shortest-retrieval": (sound, "retrieval"),
        "media-batch3-text-matching": ({"text": "x", "image": image}, "text-matching"),
    }
    given, tasks = zip(*cases.values())
    found = encoder.encode(list(given), task=list(tasks), prompt="")
    truth = np.stack([stored.expected[f"emb/{case}"] for case in cases])
    assert_agree(np.asarray(found), truth, dtype, name)
