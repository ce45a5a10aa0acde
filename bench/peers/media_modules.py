"""Towers and the language side behind them by name: as torch modules, and as ONNX graphs of these."""

from __future__ import annotations

import hashlib
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from ..cache import kept
from ..models.random_language import LANGUAGE, LANGUAGE_NAME, PlainLanguage, embedded, random_row
from ..models.random_sound_tower import SOUND, SOUND_NAME, PlainSound, chunks_of, random_sound
from ..models.random_towers import SHAPES, Plain, random_patches
from . import language, towers

OPSET: Final = 17
INPUT: Final = "pixels"
LARGEST_PROTOBUF: Final = 1_900_000_000  # bytes; tensors of larger graphs lie in files beside them


def module_of(name: str, layers: int) -> nn.Module:
    """The module in float32, for inference."""
    if name == SOUND_NAME:
        return towers.SoundTower(PlainSound(SOUND.with_layers(layers))).eval()
    if name == LANGUAGE_NAME:
        return language.LanguageSide(PlainLanguage(LANGUAGE.with_layers(layers))).eval()
    return towers.Tower(Plain(SHAPES[name].with_layers(layers))).eval()


@lru_cache(3)  # a case's: whole towers of several models would not fit beside each other
def module_in(name: str, layers: int, dtype: str) -> nn.Module:
    """The module in that dtype; "int8": torch's dynamic quantisation of its linear layers."""
    module = module_of(name, layers)
    if dtype != "int8":
        return module.to(getattr(torch, dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it moves to a package of its own
        return torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8, inplace=True)


def example_of(name: str, seed: int = 0) -> np.ndarray:
    """One input, as a batch."""
    if name == SOUND_NAME:
        return chunks_of(random_sound(SOUND.spec, 400, seed), SOUND.spec)
    if name == LANGUAGE_NAME:
        shape = LANGUAGE.with_layers(0)
        return embedded(PlainLanguage(shape), random_row(shape, seed))[None]
    return random_patches(SHAPES[name], seed).values[None]


def onnx_of(name: str, layers: int) -> Path:
    """The graph in float32, traced once and kept."""

    def make(folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's remarks on shapes
            torch.onnx.export(
                module_of(name, layers),
                (torch.from_numpy(example_of(name)),),
                str(folder / "model.onnx"),
                input_names=[INPUT],
                output_names=["found"],
                dynamic_axes={INPUT: {0: "images"}, "found": {0: "images"}},
                opset_version=OPSET,
                dynamo=False,
            )

    sources = (Path(module.__file__ or "").read_bytes() for module in (towers, language))
    own = hashlib.sha256(b"".join([*sources, Path(__file__).read_bytes()])).hexdigest()
    return kept("onnx-towers", (name, str(layers), torch.__version__, str(OPSET), own), make) / "model.onnx"


def is_large(graph: Path) -> bool:
    """Whether its tensors are more than one file of ONNX holds."""
    return sum(file.stat().st_size for file in graph.parent.iterdir()) > LARGEST_PROTOBUF
