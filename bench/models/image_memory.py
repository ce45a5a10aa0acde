"""What a process takes beside the weights and 32 images while a tower embeds them; each tower in a fresh process.

    python -m bench.models.image_memory jina-clip-v2

Measured is the most that the process ever held (VmHWM), less what it held when weights and images were there (VmRSS):
images resized and cut a block ahead, activations, results. Two layers of the published widths in float32: layers take
turns in the same memory, so that all of them take as much. A language side is not there; what it reads is let go of
block by block, as it does. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from longspan.models.engines.choice import engine_for
from longspan.models.spec import VisionSpec
from longspan.models.vision_spec import PixelSpec
from longspan.pipeline.blocks import read_blocks
from longspan.pipeline.inputs import Part
from longspan.pipeline.vision import Vision

from ..case import OURS, Setting
from ..results import Entry, Result
from ..run import child_environment
from ..table import result_text
from ..timing import Spread
from .bench_memory import forget_peak, memory
from .random_towers import SHAPES, Plain, vision_spec

MODULE: Final = f"{__package__}.image_memory"
IMAGES: Final = 32
SIDE: Final = 1000  # pixels; v4 reads 4900 patches of such an image, nearly the most that it reads of any
LAYERS: Final = 2
SHORT: Final = "jina-clip-v2"  # of the short form; the other takes a minute
PIXELS: Final = {"jina-clip-v2": PixelSpec("shortest", 512), "jina-v4": PixelSpec("area")}
MOST_EXTRA: Final = {"jina-clip-v2": 250.0, "jina-v4": 700.0}  # MB of 1e6 bytes


def results(setting: Setting) -> list[Result]:
    """A result for each tower that the setting wants; told as they come. Raises: OSError, a process failed."""
    if not Path("/proc/self/clear_refs").exists():
        return []
    found = []
    for name in [SHORT] if setting.is_short else list(PIXELS):
        result = Result("images", {"model": name, "layers": LAYERS, "memory of images": IMAGES}, ())
        if not setting.names(result.labels):
            continue
        command = [sys.executable, "-m", MODULE, name, str(setting.threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=child_environment())
        megabytes = int(done.stdout) * 1e-6
        entry = Entry(OURS, "float32", "MB", Spread.of([megabytes]), (megabytes,), limit=MOST_EXTRA[name])
        found.append(Result("images", result.labels, (entry,)))
        print(result_text(found[-1]), flush=True)
    return found


def child(name: str, threads: int) -> int:
    """What the fresh process does: the bytes."""
    shape = SHAPES[name].with_layers(LAYERS)
    own = vision_spec(shape)
    spec = VisionSpec(own.tower, PIXELS[name], own.text)
    engine = engine_for("bench", "cpu", "float32", None)
    vision = Vision(spec, Plain(shape).packed(engine), engine, threads)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(IMAGES)]
    items = [(Part("image", image, f"inputs[{place}]"),) for place, image in enumerate(images)]
    vision.encode([vision.read("encode", items[0][0])])  # what a first call sets up
    forget_peak()
    before = memory("VmRSS")
    vectors = []
    for block in read_blocks("encode", items, [""] * IMAGES, lambda texts, prompts: texts, vision):
        for found in vision.encode(list(block.images.values())):
            vectors.append(found.reshape(-1, found.shape[-1]).mean(0))
    peak = memory("VmHWM")
    assert len(vectors) == IMAGES and np.isfinite(vectors).all()
    return peak - before


if __name__ == "__main__":
    print(child(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2))
