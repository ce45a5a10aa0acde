"""Images a second of vision towers in published shapes, random weights, and of the language side of one.

    python -m bench.models.bench_images [--dtype D] [--full] [--json FILE]

The towers of jina-clip-v2, jina-embeddings-v4 and -v5-omni, and v4's language side, which reads what its tower makes of
an image. clip: 512 x 512 pixels, 1297 tokens. v4: 448 x 560 pixels, 1280 patches in whole windows, as peers like them
best; ours takes any size as it is. v5-omni: 512 x 640 pixels, 1280 patches. The language side reads v4's 320 tokens
with the text around them, by row and column (M-RoPE), with one task's adapter on every product. The short form has two
layers of each (of v4's tower one with windows); --full all layers of the towers, and four of the language side's 36,
whose weights alone would take 11 GB in float32.

Peers run the same sums with the same weights (`peers/towers.py`, `peers/language.py`); those whose copies of them do
not fit the free memory are left out, and told. int8: ONNX Runtime and torch quantise what goes into a product as it
comes, OpenVINO by what NNCF saw of eight other images. Vectors are held against float64, which is kept for the next
run, before anything is timed.

Last comes memory: what a process takes beside the weights and 32 images of 1000 x 1000 pixels while the tower embeds
them, two layers each; at most what `MOST_EXTRA` says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final

import numpy as np

from longspan.models.engines.choice import engine_for
from longspan.models.engines.engine import OpsEngine
from longspan.packing.media import Patches
from longspan.pipeline.vision import Vision

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work
from ..command import run_cases, run_command
from ..contest import our_name
from ..peers import PEERS, enter
from ..peers.subject import first
from ..results import Report
from ..truth import ReferenceEngine, Truth, kept_truth
from . import image_memory
from .bench_memory import free_memory
from .random_language import LANGUAGE, LANGUAGE_NAME, Language, LanguageShape, PlainLanguage, embedded, random_row
from .random_towers import SHAPES, Plain, TowerShape, random_patches, vision_spec

BUDGET: Final = 160  # seconds of the short form, about
SHORT_LAYERS: Final = 2
LANGUAGE_LAYERS: Final = 4  # of the full form
COUNTS: Final = (1, 4)  # images of a call; the short form has the first
Look = Callable[[int], np.ndarray]
PEER_COPIES: Final = 3  # of a model's weights that peers hold in float32 at the least, each numerics counted


def cases(setting: Setting) -> Iterator[Case]:
    """A tower, or the language side, and a number of images each."""
    for name in (*SHAPES, LANGUAGE_NAME):
        shape = _shape(name, _layers(name, setting))
        for count in COUNTS[:1] if setting.is_short else COUNTS:
            work = Work(shape.flops * count, items=float(count), item="images")
            labels: dict[str, str | int] = {
                "model": name, "layers": shape.spec.num_layers, "tokens": shape.tokens, "images": count
            }  # fmt: skip
            yield Case("images", labels, work, partial(_contest, name, shape.spec.num_layers, count), "look")


def _layers(name: str, setting: Setting) -> int:
    if setting.is_short:
        return SHORT_LAYERS
    return LANGUAGE_LAYERS if name == LANGUAGE_NAME else SHAPES[name].spec.num_layers


def _shape(name: str, layers: int) -> TowerShape | LanguageShape:
    return LANGUAGE.with_layers(layers) if name == LANGUAGE_NAME else SHAPES[name].with_layers(layers)


def _contest(name: str, layers: int, count: int, setting: Setting) -> Contest:
    truth, limits = _truth(name, layers)

    def ours(dtype: ComputeType) -> Contestant:
        return Contestant(our_name(dtype), partial(_ours(name, layers, dtype, setting.threads), count), dtype, first)

    mine = [ours(dtype) for dtype in setting.dtypes]
    able, absent = _that_fit(name, layers, setting)
    entered, missing = enter("look", replace(setting, peers=able), name, layers, _for_peers(name, layers, count))
    return Contest((*mine, *entered), truth, limits, {**absent, **missing})


def _that_fit(name: str, layers: int, setting: Setting) -> tuple[tuple[str, ...], dict[str, str]]:
    """The peers whose copies of the weights fit the memory that is free, and why others are left out."""
    shape = _shape(name, layers)
    need = PEER_COPIES * 4.0 * shape.flops / (2 * shape.tokens)  # bytes: a weight meets each token once
    fit: list[str] = []
    free, absent = free_memory(), {}
    for peer in PEERS:
        if "look" not in peer.does or (setting.peers is not None and peer.name not in setting.peers):
            continue
        if (len(fit) + 1) * need > free:
            absent[peer.name] = f"{name} in {layers} layers: it takes {need * 1e-9:.0f} GB, and too little is free"
        else:
            fit.append(peer.name)
    return tuple(fit), absent


def _for_peers(name: str, layers: int, count: int) -> np.ndarray:
    """Images as a batch."""
    if name == LANGUAGE_NAME:
        plain = _plain_language(layers)
        return np.stack([embedded(plain, random_row(LANGUAGE, number)) for number in range(count)])
    return np.stack([random_patches(SHAPES[name], number).values for number in range(count)])


@lru_cache(1)  # whole towers of several models would not fit beside each other
def _plain(name: str, layers: int) -> Plain:
    return Plain(SHAPES[name].with_layers(layers))


@lru_cache(1)
def _plain_language(layers: int) -> PlainLanguage:
    return PlainLanguage(LANGUAGE.with_layers(layers))


def _runner(name: str, layers: int, engine: OpsEngine, threads: int | None, *, merged: bool = False) -> Look:
    """A function of a number of images, to their vectors."""
    if name == LANGUAGE_NAME:
        plain = _plain_language(layers)
        language = Language(plain.shape.spec, plain.packed(engine, merged=merged), engine)
        return lambda count: language([random_row(LANGUAGE, number) for number in range(count)])
    shape = SHAPES[name].with_layers(layers)
    vision = Vision(vision_spec(shape), _plain(name, layers).packed(engine), engine, threads)
    images: list[Patches] = [random_patches(shape, number) for number in range(max(COUNTS))]
    return lambda count: np.stack(vision.encode(images[:count]))


@lru_cache(3)
def _ours(name: str, layers: int, dtype: ComputeType, threads: int) -> Look:
    return _runner(name, layers, engine_for("bench", "cpu", dtype, None), threads)


def _truth(name: str, layers: int) -> Truth:
    def compute(numerics: Numerics) -> np.ndarray:
        return first(_runner(name, layers, ReferenceEngine(numerics), None, merged=True)(1))

    return kept_truth("images", (name, str(layers)), compute)


def run(setting: Setting) -> Report:
    """The cases, then memory. Raises: OSError, a process failed."""
    report = run_cases(cases, setting, lambda text: print(text, flush=True))
    return replace(report, results=(*report.results, *image_memory.results(setting)))


if __name__ == "__main__":
    sys.exit(run_command("bench.models.bench_images", __doc__, run))
