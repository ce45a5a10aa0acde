"""Figures that are known for given weights: what a run is compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("baselines.json")
STS_PREFIX: Final = "stsb."  # before the language, in the names of sets
ROUNDING: Final = 0.00005  # the figures are kept to four digits


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a model: figures by set, ranking and measure, and how far a right run may be off."""

    model: str
    weights_sha256: str | None  # of model.safetensors; None where there is no published file
    limits: Mapping[str, float]  # by ranking
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]

    def known(self, name: str, ranking: str) -> Mapping[str, float]:
        """By measure; empty if this set or ranking was never measured."""
        return self.figures.get(name, {}).get(ranking, {})


@cache
def all_baselines() -> tuple[Baseline, ...]:
    """Those of the file beside this module. Raises: ValueError, the file does not look as it should."""
    content: object = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(_baseline(model, _mapping(entry, model)) for model, entry in _mapping(content, FILE.name).items())


def find_baseline(folder: Path, model: str | None) -> Baseline | None:
    """The baseline named `model`; where that is None, the one whose weights are those in `folder`, if there is one.

    Raises: ValueError, no baseline has that name.
    """
    if model is None:
        weights = folder / "model.safetensors"
        digest = _sha256(weights) if weights.is_file() else None
        return next((known for known in all_baselines() if digest and known.weights_sha256 == digest), None)
    for known in all_baselines():
        if known.model == model:
            return known
    names = ", ".join(known.model for known in all_baselines())
    raise ValueError(f"baseline must be one of {names}, got {model!r}")


def _baseline(model: str, entry: Mapping[str, object]) -> Baseline:
    digest = entry["weights_sha256"]
    if not (digest is None or isinstance(digest, str)):
        raise ValueError(f"{FILE.name}: {model}: weights_sha256 must be a string or null")
    sets = _mapping(entry["figures"], model)
    figures = {
        name: {ranking: _numbers(figures, name) for ranking, figures in _mapping(rankings, name).items()}
        for name, rankings in sets.items()
    }
    return Baseline(model, digest, _numbers(entry["limits"], model), figures)


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{FILE.name}: {where} must be an object")
    return value


def _numbers(value: object, where: str) -> dict[str, float]:
    numbers = {name: number for name, number in _mapping(value, where).items() if isinstance(number, float)}
    if numbers != value:
        raise ValueError(f"{FILE.name}: {where} must hold numbers only")
    return numbers


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
