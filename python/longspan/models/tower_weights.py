"""Towers' weights: an encoder's, with what makes rows of pixels or of sound before it, and tokens of rows behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights, Merger, Pooled, Product
from longspan.models.spec import LinearMap, MergerMap, ModelSpec, PooledMap, WeightMap
from longspan.models.weight_reader import WeightReader


def load_tower(checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap, engine: OpsEngine) -> EncoderWeights:
    """The weights of `names.tower`, all of which `load_weights` of `names` has found to be there.

    Raises: CheckpointError, as `load_weights`.
    """
    assert spec.vision is not None and names.tower is not None
    return _TowerReader(checkpoint, spec.vision.tower, engine, spec.hidden_size).tower(names.tower)


def load_audio(checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap, engine: OpsEngine) -> EncoderWeights:
    """The same of `names.audio`."""
    assert spec.audio is not None and names.audio is not None
    return _TowerReader(checkpoint, spec.audio.tower, engine, spec.hidden_size).tower(names.audio)


class _TowerReader(WeightReader):
    """Reads a tower whose tokens have `width` values."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec, engine: OpsEngine, width: int) -> None:
        super().__init__(checkpoint, spec, engine)
        self._width = width

    def tower(self, names: WeightMap) -> EncoderWeights:
        """All that `names` lists."""
        return replace(
            self.encoder(names),
            patches=None if names.patches is None else self._patches(names.patches),
            class_token=None if names.class_token is None else self._class_token(names.class_token),
            mergers=tuple(self._merger(merger) for merger in names.mergers),
            stem=self._stem(names.stem),
            pooled=None if names.pooled is None else self._pooled(names.pooled),
        )

    def _places(self, name: str, shape: tuple[int, int]) -> np.ndarray:
        """A table with one row a place of an image is stored with an axis of one batch before its own."""
        spec = self._spec
        if spec.patches is None or spec.patches.places is not None:
            return self._engine.table(self._tensor(name, shape))
        return self._engine.table(self._tensor(name, (1, *shape))[0])

    def _patches(self, names: LinearMap) -> Product:
        """The convolution whose step is its width, as a product: one row of weights for all axes of a patch."""
        spec = self._spec
        assert spec.patches is not None
        size, frames = spec.patches.size, spec.patches.frames
        shape = (spec.hidden_size, 3, *((frames,) if frames > 1 else ()), size, size)
        weight = self._tensor(names.weights[0], shape).reshape(spec.hidden_size, -1)
        return self._packed(weight, self._bias(names, spec.hidden_size))

    def _class_token(self, name: str) -> np.ndarray:
        return self._engine.vector(self._tensor(name, (1, 1, self._spec.hidden_size))[0, 0])

    def _merger(self, names: MergerMap) -> Merger:
        spec = self._spec
        assert spec.patches is not None
        joined = spec.hidden_size * spec.patches.cell
        return Merger(
            self._required_norm(names.norm, spec.hidden_size),
            self._own_product(names.up, (joined, joined)),
            self._own_product(names.down, (self._width, joined)),
        )

    def _stem(self, names: tuple[LinearMap, ...]) -> tuple[Product, ...]:
        """Convolutions over three neighbours as products of the three side by side."""
        spec, products = self._spec, []
        for place, conv in enumerate(names):
            assert spec.stem is not None
            inputs = spec.hidden_size if place else spec.stem.num_mels
            weight = self._tensor(conv.weights[0], (spec.hidden_size, inputs, 3)).transpose(0, 2, 1)
            weight = np.ascontiguousarray(weight).reshape(spec.hidden_size, 3 * inputs)
            products.append(self._packed(weight, self._bias(conv, spec.hidden_size)))
        return tuple(products)

    def _pooled(self, names: PooledMap) -> Pooled:
        """C (P x + p) + c is one product, C P, with the bias C p + c."""
        hidden, shared = self._spec.hidden_size, names.shared
        norm = self._required_norm(names.norm, hidden)
        if shared is None:
            shape = (self._width, hidden)
            return Pooled(norm, tuple(self._own_product(connector, shape) for connector in names.connectors))
        [inner] = self._checkpoint.shape(shared.weights[0])[:1]
        before = self._tensor(shared.weights[0], (inner, hidden))
        offset = self._bias(shared, inner)
        connectors = []
        for connector in names.connectors:
            weight = self._tensor(connector.weights[0], (self._width, inner)).astype(np.float64)
            bias = np.zeros(self._width) if (own := self._bias(connector, self._width)) is None else own
            bias = bias if offset is None else weight @ offset + bias
            connectors.append(self._packed((weight @ before).astype(np.float32), bias.astype(np.float32)))
        return Pooled(norm, tuple(connectors))

    def _own_product(self, names: LinearMap, shape: tuple[int, int]) -> Product:
        """One matrix of (out, in) values, with a bias or without."""
        return self._packed(self._tensor(names.weights[0], shape), self._bias(names, shape[0]))

    def _bias(self, names: LinearMap, size: int) -> np.ndarray | None:
        name = names.biases[0] if names.biases else None
        return None if name is None else self._tensor(name, (size,))

    def _packed(self, weight: np.ndarray, bias: np.ndarray | None) -> Product:
        return Product(self._engine.pack([weight], None if bias is None else [bias]))
