"""Images a second of vision towers in the shapes of jina-clip-v2, jina-embeddings-v4 and -v5-omni, random weights.

    python -m bench.models.bench_images [--dtype D] [--full] [--json FILE]

clip: 512 x 512 pixels, 1297 tokens. v4: 448 x 560 pixels, 1280 patches in whole windows, as peers like them best; ours
takes any size as it is. v5-omni: 512 x 640 pixels, 1280 patches. The short form has two layers of each (of v4's one
with windows), --full all of them. Peers run the same sums with the same weights (`peers/towers.py`). Vectors are held
against float64 before anything is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

import numpy as np

from longspan.models.engines.choice import engine_for
from longspan.models.engines.engine import OpsEngine
from longspan.packing.media import Patches
from longspan.pipeline.vision import Vision

from ..case import Case, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..peers.subject import first
from ..truth import ReferenceEngine, limits_of
from .random_towers import SHAPES, Plain, TowerShape, random_patches, vision_spec

BUDGET: Final = 125  # seconds of the short form, about
SHORT_LAYERS: Final = 2
COUNTS: Final = (1, 4)  # images of a call; the short form has the first
COARSER: Final[tuple[Numerics, ...]] = ("bfloat16", "int8")


def cases(setting: Setting) -> Iterator[Case]:
    """A tower and a number of images each."""
    for name, whole in SHAPES.items():
        layers = SHORT_LAYERS if setting.is_short else whole.spec.num_layers
        shape = whole.with_layers(layers)
        for count in COUNTS[:1] if setting.is_short else COUNTS:
            work = Work(shape.flops * count, items=float(count), item="images")
            labels: dict[str, str | int] = {"model": name, "layers": layers, "tokens": shape.tokens, "images": count}
            yield Case("images", labels, work, partial(_contest, name, layers, count), "look")


def _contest(name: str, layers: int, count: int, setting: Setting) -> Contest:
    shape = SHAPES[name].with_layers(layers)
    images = [random_patches(shape, number) for number in range(count)]
    truth, limits = _truth(name, layers)

    def ours(dtype: str) -> Contestant:
        vision = _ours(name, layers, dtype, setting.threads)
        return Contestant(our_name(dtype), lambda: _unit(vision.encode(images)), dtype, first)  # type: ignore[arg-type]

    entered, absent = enter("look", setting, name, layers, np.stack([image.values for image in images]))
    everyone = [*map(ours, setting.dtypes), *entered]
    return Contest(tuple(everyone), truth, limits, absent)


def _unit(found: list[np.ndarray]) -> np.ndarray:
    return np.stack(found)


@cache
def _plain(name: str, layers: int) -> Plain:
    return Plain(SHAPES[name].with_layers(layers))


def _vision(shape: TowerShape, plain: Plain, engine: OpsEngine, threads: int | None) -> Vision:
    return Vision(vision_spec(shape), plain.packed(engine), engine, threads)


@cache
def _ours(name: str, layers: int, dtype: str, threads: int) -> Vision:
    return _vision(
        SHAPES[name].with_layers(layers), _plain(name, layers), engine_for("bench", "cpu", dtype, None), threads
    )


@cache
def _truth(name: str, layers: int) -> tuple[np.ndarray, dict[Numerics, float]]:
    shape = SHAPES[name].with_layers(layers)
    image: Patches = random_patches(shape, 0)
    found = {}
    for numerics in ("float32", *COARSER):
        vision = _vision(shape, _plain(name, layers), ReferenceEngine(numerics), None)
        found[numerics] = first(_unit(vision.encode([image])))
    truth = found.pop("float32")
    return truth, limits_of(truth, found)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_images", __doc__, cases))
