"""Adapters beside an encoder's weights: stacked in the checkpoint itself, or added from PEFT folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import Product
from longspan.models.peft import Adapter, Factors, bare
from longspan.models.spec import LinearMap, ModelSpec, WeightMap


def module_of(weight: str) -> str:
    """The `bare` name of the module whose weights are the tensor `weight`."""
    return bare(weight.removesuffix(".parametrizations.weight.original").removesuffix(".weight"))


def part_shapes(spec: ModelSpec, product: str, num_parts: int) -> tuple[tuple[int, ...], int]:
    """Of a field of `LayerMap`: the rows of each part of its stacked weights (all of them, if they are one), inputs."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    rows, in_features = {
        "qkv": ((spec.q_width, spec.kv_width, spec.kv_width), hidden),
        "attention_out": ((hidden,), spec.q_width),
        "up": ((inner,) if spec.gate is None else (inner, inner), hidden),
        "down": ((hidden,), inner),
    }[product]
    return (rows if num_parts > 1 else (sum(rows),)), in_features


def check_adapter(adapter: Adapter, spec: ModelSpec, names: WeightMap) -> None:
    """CheckpointError, naming the module, if the adapter has one that this model lacks, lacks one that it says it
    adapts, or has other sizes."""
    known: dict[str, tuple[int, int]] = {}
    for layer in names.layers:
        for field in ("qkv", "attention_out", "up", "down"):
            parts: LinearMap | None = getattr(layer, field)
            if parts is None:  # a layer of experts, which take no adapters
                continue
            rows, in_features = part_shapes(spec, field, len(parts.weights))
            known |= {module_of(weight): (size, in_features) for weight, size in zip(parts.weights, rows, strict=True)}
    for module, factors in adapter.factors.items():
        if module not in known:
            if not any(fnmatchcase(f"{module}.weight", bare(pattern)) for pattern in names.unused):
                raise CheckpointError(
                    f"{adapter.folder}: {module} has an adapter, but is no linear layer of this model"
                )
            continue
        if factors.shape != known[module]:
            raise CheckpointError(
                f"{adapter.folder}: the adapter of {module} must be for {known[module]} (out, in) weights, got "
                f"{factors.shape}"
            )
    for module in known:
        if module not in adapter.factors and any(f".{module}".endswith(f".{end}") for end in adapter.targets):
            raise CheckpointError(
                f"{adapter.folder}: tensor {module}.lora_A.weight is missing, a target of the adapter"
            )
    if not adapter.factors.keys() & known.keys():
        raise CheckpointError(f"{adapter.folder}: no tensor adapts a linear layer of this model")


def add_to_product(
    product: Product,
    names: LinearMap,
    rows: tuple[int, ...],
    num_before: int,
    adapters: Sequence[Adapter],
    engine: OpsEngine,
) -> Product:
    """`product` with more adapters behind the `num_before` that are loaded, whether or not it had any of those."""
    modules = [module_of(weight) for weight in names.weights]
    stacked = [_stack([adapter.factors.get(module) for module in modules], rows) for adapter in adapters]
    in_features = product.weight.in_features
    if product.lora is None and all(factors is None for factors in stacked):
        return product
    before: list[Factors | None] = [None] * num_before
    if product.lora is not None:
        before = [Factors(a, b) for a, b in zip(*product.lora.unpack())]
    every = [*before, *stacked]
    rank = max(factors.rank for factors in every if factors is not None)
    lora_a = np.zeros((len(every), rank, in_features), np.float32)
    lora_b = np.zeros((len(every), sum(rows), rank), np.float32)
    for place, factors in enumerate(every):
        if factors is not None:
            lora_a[place, : factors.rank] = factors.a
            lora_b[place, :, : factors.rank] = factors.b
    return replace(product, lora=engine.pack_lora(lora_a, lora_b, 1.0, product.weight))


def _stack(parts: Sequence[Factors | None], rows: tuple[int, ...]) -> Factors | None:
    """One pair for weights that are stacked by rows: the A below each other, the B along the diagonal."""
    present = [factors for factors in parts if factors is not None]
    if not present:
        return None
    a = np.concatenate([factors.a for factors in present])
    b = np.zeros((sum(rows), len(a)), np.float32)
    column = row = 0
    for factors, size in zip(parts, rows, strict=True):
        if factors is not None:
            b[row : row + size, column : column + factors.rank] = factors.b
            column += factors.rank
        row += size
    return Factors(a, b)
