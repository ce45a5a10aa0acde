"""What the tests of models that read media in one sequence with texts share: the goldens' inputs and options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from longspan import Encoder, MediaOptions

SIZES = ("small", "nano")
LIMIT, HIDDEN_LIMIT, EMBEDS_LIMIT = 5e-6, 1e-4, 1e-4  # the goldens' NOTES, for a float32 runtime
TASKS = ("retrieval", "text-matching", "clustering", "classification")


@dataclass(frozen=True)
class MediaGolden:
    """One size's golden."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def merged(self) -> Path:
        """The repository of one task."""
        return self.folder / "model-merged-retrieval"

    @cached_property
    def expected(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "expected.npz"))

    @cached_property
    def cases(self) -> list[dict]:
        """Those of given parts; `test_jina_omni.py` has the texts."""
        cases = json.loads((self.folder / "cases.json").read_text())["cases"]
        return [case for case in cases if case["parts"] and case["kind"] != "text"]

    @cached_property
    def _videos(self) -> list[np.ndarray]:
        frames = (name for name in self.expected if name.startswith("video_u8/"))
        return [
            self.expected[name][self.expected[f"frame_indices/{place}"]] for place, name in enumerate(sorted(frames))
        ]

    def image(self, number: int) -> np.ndarray:
        return self.expected[f"image_u8/{number}"]

    def video(self, number: int) -> np.ndarray:
        """The frames that the published wrapper chooses."""
        return self._videos[number]

    def sound(self, name: str) -> np.ndarray:
        return self.expected[f"wave/{name.removesuffix('+30s')}"]

    def parts(self, case: dict) -> tuple[object, ...]:
        """The input of a case as a caller gives it."""
        make = {"text": str, "image": self.image, "video": self.video, "audio": self.sound}
        return tuple(make[kind](key) for kind, key in case["parts"])

    def has_resized_frames(self, case: dict) -> bool:
        """Whether ours are a byte off those that torchvision resizes."""
        return f"emb_pil_frames/{case['id']}" in self.expected

    def truth(self, case: dict) -> np.ndarray:
        """The vector from raw inputs: our frames are resized as Pillow does."""
        name = case["id"]
        return self.expected.get(f"emb_pil_frames/{name}", self.expected[f"emb/{name}"])


def options_of(case: dict) -> MediaOptions:
    """Every prompt of a case goes before all of its parts."""
    return MediaOptions(
        prompts="all",
        wrapper=case["wrapper"],
        outer_video_markers=case.get("video_markers") == "outer",
        audio_padding=case.get("audio_padding", "none"),
    )


def prompt_of(encoder: Encoder, case: dict) -> str:
    return "" if case["prompt_name"] is None else encoder.prompts[case["prompt_name"]]


Goldens = dict[str, MediaGolden]
Opened = dict[str, Encoder]
