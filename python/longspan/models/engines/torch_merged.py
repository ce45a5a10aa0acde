"""Weights with one adapter added to them, for batches whose rows all have it: no adapter costs anything there.

They are made when an adapter first has a batch to itself and kept, so they take as much memory again as the layers'
matrices for each adapter; beyond a share of the device's memory further adapters stay beside their weights.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Final

import torch

from longspan.models.engines.engine import Pass
from longspan.models.engines.torch_streams import settle
from longspan.models.parts import EncoderWeights, LayerWeights, Product

SHARE: Final = 8  # an eighth of the device's memory


class MergedWeights:
    """The merged weights of one model, and the passes that run on them. Threads may share it."""

    def __init__(self, most_bytes: int) -> None:
        self._room = self._most_bytes = most_bytes
        self._base: EncoderWeights | None = None
        self._weights: dict[int, EncoderWeights] = {}
        self._passes: dict[Hashable, Pass] = {}
        self._lock: Final = threading.Lock()

    def pass_for(self, work: Pass, adapter: int) -> Pass:
        """`work` on the weights with that adapter merged; `work` itself where there is no room for them."""
        key = work.key, adapter
        with self._lock:
            found = self._passes.get(key)
            if found is None:
                merged = self._merged(work.weights, adapter)
                if merged is None:
                    return work
                found = self._passes[key] = work.with_weights(merged)
            return found

    def _merged(self, weights: EncoderWeights, adapter: int) -> EncoderWeights | None:
        if weights is not self._base:  # an adapter was loaded: what was merged before is not asked for again
            self._base, self._room = weights, self._most_bytes
            self._weights.clear()
            self._passes.clear()
        if adapter not in self._weights:
            size = sum(_size(product) for layer in weights.layers for product in _products(layer).values())
            if size > self._room:
                return None
            self._room -= size
            self._weights[adapter] = merged = _with_products(weights, lambda product: _merge(product, adapter))
            settle(merged.layers[0].qkv.weight.weight.device)  # type: ignore[attr-defined]
        return self._weights[adapter]


def merged_weights(device: torch.device) -> MergedWeights:
    """For a model on that device."""
    if device.type != "cuda":
        return MergedWeights(1 << 40)
    return MergedWeights(torch.cuda.get_device_properties(device).total_memory // SHARE)


def _products(layer: LayerWeights) -> dict[str, Product]:
    """Those that may have adapters: experts have none."""
    named = {name: getattr(layer, name) for name in ("qkv", "attention_out", "up", "down")}
    return {name: product for name, product in named.items() if product is not None}


def _size(product: Product) -> int:
    """Bytes of a merged copy."""
    weight: torch.Tensor = product.weight.weight  # type: ignore[attr-defined]  # a DenseLinear here
    return 0 if product.lora is None else weight.numel() * weight.element_size()


def _merge(product: Product, adapter: int) -> Product:
    if product.lora is None:
        return product
    return Product(product.lora.merged(product.weight, adapter))  # type: ignore[attr-defined]  # a DenseLora here


def _with_products(weights: EncoderWeights, change: Callable[[Product], Product]) -> EncoderWeights:
    layers = []
    for layer in weights.layers:
        new = {name: change(product) for name, product in _products(layer).items()}
        layers.append(replace(layer, **new))  # type: ignore[arg-type]  # they are products
    return replace(weights, layers=tuple(layers))
