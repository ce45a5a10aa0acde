"""What the tests of models that look at images share: their towers, opened alone, and the goldens' images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models import detect_family
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.engine import OpsEngine
from longspan.models.spec import VisionSpec
from longspan.models.tower_weights import load_tower
from longspan.packing.media import Patches
from longspan.pipeline.vision import Vision

MODELS = ("jina-clip-v2", "jina-v4")


@dataclass(frozen=True)
class Golden:
    """A golden's image cases and its arrays."""

    folder: Path
    cases: list[dict]
    expected: dict[str, np.ndarray]

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def image(self, number: int) -> np.ndarray:
        return self.expected[f"image_u8/{number}"]

    @property
    def images(self) -> list[np.ndarray]:
        count = sum(name.startswith("image_u8/") for name in self.expected)
        return [self.image(number) for number in range(count)]

    def patches(self, number: int, spec: VisionSpec) -> Patches:
        """Cut from the stored `pixel_values`."""
        values = self.expected[f"pixel_values/{number}"]
        if f"image_grid_thw/{number}" in self.expected:
            frames, rows, columns = self.expected[f"image_grid_thw/{number}"][0].tolist()
            return Patches(values, (frames, rows, columns))
        return whole_patches(values[0], spec.tower.patches.size)


def whole_patches(pixels: np.ndarray, size: int) -> Patches:
    """Of (3, height, width) floats, row by row."""
    rows, columns = pixels.shape[1] // size, pixels.shape[2] // size
    cut = pixels[:, : rows * size, : columns * size].reshape(3, rows, size, columns, size)
    return Patches(np.ascontiguousarray(cut.transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1)), (1, rows, columns))


def read_golden(folder: Path) -> Golden:
    cases = [case for case in json.loads((folder / "cases.json").read_text())["cases"] if case["kind"] == "image"]
    return Golden(folder, cases, dict(np.load(folder / "expected.npz")))


def open_tower(model: Path, engine: OpsEngine | None = None, num_threads: int | None = None) -> Vision:
    """A checkpoint's tower without its text side."""
    engine = engine or CpuEngine()
    checkpoint = Checkpoint.open(model)
    spec, names = detect_family(checkpoint).describe(checkpoint)
    return Vision(spec.vision, load_tower(checkpoint, spec, names, engine), engine, num_threads)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The least of the rows'."""
    return float((unit(a.astype(np.float64)) * unit(b.astype(np.float64))).sum(-1).min())
