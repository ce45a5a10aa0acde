"""Checkpoints made from other checkpoints: damaged ones, and ones whose adapters are merged into the weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from longspan import CheckpointError, Encoder
from longspan.checkpoint.safetensors_folder import SafetensorsFolder

Tensors = dict[str, np.ndarray]
Change = Callable[[Tensors], object]  # what is done to them, in place
PARAMETRIZED = ".parametrizations.weight.original"


def read_tensors(folder: Path, stem: str = "model") -> Tensors:
    """Every tensor of a folder, shards included, as float32; tables of integers, which no model reads, left out."""
    files = SafetensorsFolder.open(folder, stem)
    tensors = {name: files.read(name).copy() for name in files.names if not files.dtype(name).startswith("I")}
    files.close()
    return tensors


def write_checkpoint(source: Path, target: Path, tensors: Tensors, config: dict[str, object]) -> Path:
    """A copy of `source` with other tensors, in one file, and another config.json."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("model*.safetensors*", "expected.npz"))
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, target / "model.safetensors")
    (target / "config.json").write_text(json.dumps(config))
    return target


def read_config(folder: Path) -> dict[str, object]:
    """config.json."""
    return json.loads((folder / "config.json").read_text())


def spoilt(source: Path, target: Path, change: Change = lambda _: None, **config: object) -> Path:
    """A copy of `source` in `target`, its tensors changed in place by `change` and keys of config.json replaced."""
    tensors = read_tensors(source)
    change(tensors)
    return write_checkpoint(source, target, tensors, {**read_config(source), **config})


def assert_refused(
    source: Path, tmp_path: Path, change: Change | None, config: dict[str, object], message: str
) -> None:
    """An Encoder says so of a copy of `source` that is spoilt in this way."""
    folder = spoilt(source, tmp_path / "model", change or (lambda _: None), **config)
    with pytest.raises(CheckpointError, match=message):
        Encoder(folder)


def merge_peft(tensors: Tensors, adapter: Path, task: str | None = None) -> Tensors:
    """W + alpha / r B A for every product that the PEFT folder adapts; `task` where the names of several hold one."""
    settings = json.loads((adapter / "adapter_config.json").read_text())
    scaling = settings["lora_alpha"] / settings["r"]
    factors = read_tensors(adapter, "adapter_model")
    middle = "" if task is None else f".{task}"
    merged = dict(tensors)
    for name, lora_a in factors.items():
        module, found, _ = name.partition(f".lora_A{middle}.weight")
        if not found:
            continue
        lora_b = factors[f"{module}.lora_B{middle}.weight"].astype(np.float64)
        own = module.removeprefix("base_model.model.").replace("model.language_model.", "model.") + ".weight"
        merged[own] = (tensors[own] + scaling * lora_b @ lora_a).astype(np.float32)
    return merged


def merge_stacked(tensors: Tensors, index: int, scaling: float) -> Tensors:
    """W + scaling B A (a table: A B) by adapter `index` of torch's parametrisation, under the plain names."""
    merged: Tensors = {}
    for name, values in tensors.items():
        if name.endswith(PARAMETRIZED):
            module = name.removesuffix(PARAMETRIZED)
            a, b = (tensors[f"{module}.parametrizations.weight.0.lora_{part}"][index] for part in "AB")
            delta = a.astype(np.float64) @ b if "embeddings" in module else b.astype(np.float64) @ a
            merged[f"{module}.weight"] = (values + scaling * delta).astype(np.float32)
        elif ".lora_" not in name:
            merged[name] = values
    return merged
