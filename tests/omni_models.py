"""What the tests of jina-embeddings-v5-omni share: its towers, opened alone, and the media of its goldens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models import detect_family
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.engine import OpsEngine
from longspan.models.tower_weights import load_audio, load_tower
from longspan.packing.media import Mel, Patches
from longspan.pipeline.audio import Audio
from longspan.pipeline.vision import Vision

OMNI = ("jina-v5-omni-small", "jina-v5-omni-nano")
TASKS = ("retrieval", "text-matching", "clustering", "classification")


@dataclass(frozen=True)
class OmniGolden:
    """A golden's arrays, and the stored media by their keys."""

    folder: Path
    expected: dict[str, np.ndarray]

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def images(self) -> dict[str, Patches]:
        return self._patches("pixel_values/", "image_grid_thw/")

    @property
    def videos(self) -> dict[str, Patches]:
        return self._patches("pixel_values_videos/", "video_grid_thw/")

    @property
    def sounds(self) -> dict[str, Mel]:
        return {key: Mel(np.ascontiguousarray(values.T)) for key, values in self.part("mel/").items()}

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose names begin so, by what follows."""
        return {name.removeprefix(prefix): own for name, own in self.expected.items() if name.startswith(prefix)}

    def _patches(self, values: str, grids: str) -> dict[str, Patches]:
        return {
            key: Patches(own, tuple(self.expected[f"{grids}{key}"].ravel().tolist()))
            for key, own in self.part(values).items()
        }


@lru_cache(2)
def read_omni(folder: Path) -> OmniGolden:
    return OmniGolden(folder, dict(np.load(folder / "expected.npz")))


def open_towers(model: Path, engine: OpsEngine | None = None, num_threads: int | None = None) -> tuple[Vision, Audio]:
    """A checkpoint's towers without its text side."""
    engine = engine or CpuEngine()
    checkpoint = Checkpoint.open(model)
    spec, names = detect_family(checkpoint).describe(checkpoint)
    vision = Vision(spec.vision, load_tower(checkpoint, spec, names, engine), engine, num_threads)
    return vision, Audio(spec.audio, load_audio(checkpoint, spec, names, engine), engine, num_threads)
