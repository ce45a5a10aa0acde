"""Encoders of published shapes with random weights: speed depends on sizes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan._core import PackedLinear
from longspan.models.encoder import TextEncoder
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights, LayerWeights, Norm, Product
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.ops.activations import Gate

from ..shapes import ModelShape

VOCABULARY: Final = 32_768  # cut: rows are looked up, not multiplied
ROTARY_BASE: Final = 20_000.0  # jina-embeddings-v3, config.json: rotary_emb_base
SEED: Final = 7
DELTA: Final = 0.3  # what adapters add to a product, beside the product's own size


@dataclass(frozen=True, slots=True)
class Adapters:
    """Adapters of so many tasks on every product; with `merged`, that task's alone, within the weights."""

    tasks: int
    rank: int
    merged: int | None = None


def spec_of(shape: ModelShape, layers: int | None = None) -> ModelSpec:
    """The shape as the encoder takes it; with fewer layers where so many are named."""
    rotary = Rotary(ROTARY_BASE, shape.head_dim) if shape.position == "rope" else None
    return ModelSpec(
        family=shape.name,
        hidden_size=shape.hidden,
        num_heads=shape.heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=VOCABULARY,
        max_tokens=8192,
        layers=(LayerSpec(rotary=rotary),) * (layers or shape.layers),
        norm="layer_norm",
        norm_eps=1e-5,
        activation="gelu",
        gate="first" if shape.is_gated else None,
        alibi=shape.position == "alibi",
    )


def random_encoder(spec: ModelSpec, engine: OpsEngine, adapters: Adapters | None = None) -> TextEncoder:
    """The same weights for every engine: normal, of the size that keeps a layer's output as large as its input."""
    make = _Parts(spec, engine, adapters)
    words = make.words()
    layers = tuple(make.layer() for _ in spec.layers)
    names = () if adapters is None or adapters.merged is not None else tuple(map(str, range(adapters.tasks)))
    weights = EncoderWeights(words, None, None, None, make.norm, layers, None, tasks=names)
    return TextEncoder(spec, weights, engine)


class _Parts:
    """Draws one part after the other; adapters from a stream of their own, so that the weights are the same without."""

    def __init__(self, spec: ModelSpec, engine: OpsEngine, adapters: Adapters | None) -> None:
        self._spec, self._engine, self._adapters = spec, engine, adapters
        self._rng, self._adapter_rng = (np.random.default_rng([SEED, stream]) for stream in (0, 1))
        self.norm = Norm(np.ones(spec.hidden_size, np.float32), np.zeros(spec.hidden_size, np.float32))

    def words(self) -> np.ndarray:
        """The table of embeddings."""
        return self._rng.standard_normal((self._spec.vocab_size, self._spec.hidden_size), np.float32)

    def layer(self) -> LayerWeights:
        """The next one."""
        spec = self._spec
        return LayerWeights(
            qkv=self._product(spec.q_width + 2 * spec.kv_width, spec.hidden_size, stacked=3),
            attention_out=self._product(spec.hidden_size, spec.q_width),
            attention_norm=self.norm,
            up=self._product(spec.intermediate_size, spec.hidden_size, is_gated=spec.gate is not None),
            down=self._product(spec.hidden_size, spec.intermediate_size),
            mlp_norm=self.norm,
            q_norm=None,
            k_norm=None,
            residual_norm=None,
        )

    def _product(self, outputs: int, inputs: int, *, is_gated: bool = False, stacked: int = 1) -> Product:
        weight = self._rng.standard_normal((outputs * (2 if is_gated else 1), inputs), np.float32)
        weight /= np.float32(np.sqrt(inputs))
        gate = self._spec.gate if is_gated else None
        if self._adapters is None:
            return Product(self._pack(weight, gate))
        lora_a, lora_b = self._factors(len(weight), inputs, stacked)
        if (task := self._adapters.merged) is not None:
            return Product(self._pack(weight + lora_b[task] @ lora_a[task], gate))
        packed = self._pack(weight, gate)
        return Product(packed, self._engine.pack_lora(lora_a, lora_b, 1.0, packed))

    def _pack(self, weight: np.ndarray, gate: Gate | None) -> PackedLinear:
        return self._engine.pack(np.split(weight, 2) if gate else [weight], None, gate)

    def _factors(self, outputs: int, inputs: int, stacked: int) -> tuple[np.ndarray, np.ndarray]:
        """lora_a (tasks, stacked * rank, in), lora_b (tasks, out, stacked * rank), each part's on the diagonal."""
        assert self._adapters is not None
        tasks, rank, size = self._adapters.tasks, self._adapters.rank, outputs // stacked
        lora_a = self._adapter_rng.standard_normal((tasks, stacked * rank, inputs), np.float32)
        lora_a /= np.float32(np.sqrt(inputs))
        lora_b = np.zeros((tasks, outputs, stacked * rank), np.float32)
        for part in range(stacked):
            block = self._adapter_rng.standard_normal((tasks, size, rank), np.float32)
            place = slice(part * size, (part + 1) * size), slice(part * rank, (part + 1) * rank)
            lora_b[:, place[0], place[1]] = block * np.float32(DELTA / np.sqrt(rank))
        return lora_a, lora_b
