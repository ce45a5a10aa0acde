"""Vision towers of published shapes with random weights: for our engines, and what torch modules are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights, LayerWeights, Merger, Norm, Product
from longspan.models.spec import LayerSpec, ModelSpec, Rotary, VisionSpec
from longspan.models.vision_spec import ImageText, PatchSpec, PixelSpec
from longspan.packing.media import Patches

SEED: Final = 11

_CLIP_ROTARY: Final = Rotary(10000.0, 64, interleaved=True, sections=(16, 16), has_own_frequencies=True)
_QWEN_ROTARY: Final = Rotary(10000.0, 80, sections=(20, 20), has_own_frequencies=True)
# EVA02-L of jina-clip-v2: 36 x 36 patches of 14 x 14 pixels and a class token.
CLIP: Final = ModelSpec(
    family="jina-clip-v2 tower",
    hidden_size=1024,
    layers=(LayerSpec(_CLIP_ROTARY),) * 24,
    num_heads=16,
    head_dim=64,
    intermediate_size=2730,
    vocab_size=0,
    max_tokens=1297,
    position_offset=0,
    norm="layer_norm",
    norm_eps=1e-6,
    activation="silu",
    gate="first",
    is_prenorm=True,
    default_pooling="cls",
    patches=PatchSpec(14, has_class_token=True, grid=36, reach=16.0),
)
# Qwen2.5-VL's of jina-embeddings-v4: windows of 8 x 8 patches, but in every eighth layer; a token for 2 x 2 of them.
QWEN: Final = ModelSpec(
    family="jina-v4 tower",
    hidden_size=1280,
    layers=tuple(LayerSpec(_QWEN_ROTARY, is_windowed=index % 8 != 7) for index in range(32)),
    num_heads=16,
    head_dim=80,
    intermediate_size=3420,
    vocab_size=0,
    max_tokens=0,
    norm="rms_norm",
    norm_eps=1e-6,
    activation="silu",
    gate="first",
    is_prenorm=True,
    patches=PatchSpec(14, frames=2, merge=2, window=4),
)
_OMNI_ROTARY: Final = Rotary(10000.0, 64, sections=(16, 16), has_own_frequencies=True)
# Qwen3-VL's of jina-embeddings-v5-omni-small: places on a table of 48 x 48, a token for 2 x 2 patches.
OMNI: Final = ModelSpec(
    family="jina-v5-omni tower",
    hidden_size=1024,
    layers=(LayerSpec(_OMNI_ROTARY),) * 24,
    num_heads=16,
    head_dim=64,
    intermediate_size=4096,
    vocab_size=0,
    max_tokens=48 * 48,
    position_offset=0,
    norm="layer_norm",
    norm_eps=1e-6,
    activation="gelu_tanh",
    is_prenorm=True,
    patches=PatchSpec(16, frames=2, merge=2, places=48),
)


@dataclass(frozen=True, slots=True)
class TowerShape:
    """A tower and the image that it looks at."""

    spec: ModelSpec
    grid: tuple[int, int]  # rows and columns of patches
    out: int = 0  # values of a token behind a merger

    @property
    def tokens(self) -> int:
        """Rows of an image."""
        assert self.spec.patches is not None
        return self.grid[0] * self.grid[1] + self.spec.patches.has_class_token

    def with_layers(self, layers: int) -> TowerShape:
        """The same with so many layers; of windowed ones the last sees all, so that both kinds are there."""
        own = list(self.spec.layers[:layers])
        if any(layer.is_windowed for layer in own):
            own[-1] = replace(own[-1], is_windowed=False)
        return replace(self, spec=replace(self.spec, layers=tuple(own)))

    @property
    def pairs(self) -> float:
        """Rows that see each other, over all layers."""
        patches = self.grid[0] * self.grid[1]
        assert self.spec.patches is not None
        side = (self.spec.patches.window or 0) * self.spec.patches.merge
        return float(sum(patches * side**2 if layer.is_windowed else self.tokens**2 for layer in self.spec.layers))

    @property
    def flops(self) -> float:
        """Of products and attention, a multiply-add counts two; norms are left out."""
        spec, patches = self.spec, self.grid[0] * self.grid[1]
        assert spec.patches is not None
        weights = spec.hidden_size * (4 * spec.q_width + (2 + (spec.gate is not None)) * spec.intermediate_size)
        ends = float(spec.hidden_size * spec.patches.values * patches)
        if not spec.patches.has_class_token:
            joined = spec.hidden_size * spec.patches.cell
            ends += joined * (joined + self.out) * patches / spec.patches.cell
        return 2 * (spec.num_layers * weights * self.tokens + 2 * spec.q_width * self.pairs + ends)


SHAPES: Final[Mapping[str, TowerShape]] = {
    "jina-clip-v2": TowerShape(CLIP, (36, 36)),
    "jina-v4": TowerShape(QWEN, (32, 40), 2048),  # 448 x 560 pixels: whole windows, which is what suits the peers best
    "jina-v5-omni": TowerShape(OMNI, (32, 40), 1024),  # 512 x 640 pixels
}


def vision_spec(shape: TowerShape) -> VisionSpec:
    """What `Vision` takes; nothing is resized here."""
    text = None if shape.spec.patches is None or shape.spec.patches.has_class_token else ImageText("", 0, 0, 0)
    return VisionSpec(shape.spec, PixelSpec("area"), text)


def random_patches(shape: TowerShape, seed: int = 0) -> Patches:
    """An image's, with normal values."""
    assert shape.spec.patches is not None
    rng = np.random.default_rng([SEED, seed])
    values = rng.standard_normal((shape.grid[0] * shape.grid[1], shape.spec.patches.values), np.float32)
    return Patches(values, (1, *shape.grid))


class Plain:
    """A tower's weights as arrays, by name; the same for all."""

    def __init__(self, shape: TowerShape) -> None:
        spec, rng = shape.spec, np.random.default_rng([SEED, 1])
        assert spec.patches is not None
        hidden, inner, values = spec.hidden_size, spec.intermediate_size, spec.patches.values
        self.shape = shape

        def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
            return rng.standard_normal((rows, columns), np.float32) * np.float32(scale / np.sqrt(columns))

        self.patches = matrix(hidden, values)
        rows = shape.tokens if spec.patches.places is None else spec.max_tokens
        self.positions = matrix(rows, hidden) if spec.position_offset is not None else None
        self.class_token = matrix(1, hidden)[0] if spec.patches.has_class_token else None
        # What a layer adds is smaller than what is there, as in models that were trained.
        self.layers = [
            {
                "qkv": matrix(3 * hidden, hidden),
                "out": matrix(hidden, hidden, 0.3),
                "up": matrix(inner if spec.gate is None else 2 * inner, hidden),
                "down": matrix(hidden, inner, 0.3),
            }
            for _ in spec.layers
        ]
        joined = hidden * spec.patches.cell
        self.merger = None if self.class_token is not None else (matrix(joined, joined), matrix(shape.out, joined))

    def packed(self, engine: OpsEngine) -> EncoderWeights:
        """As an engine takes them."""
        spec = self.shape.spec
        hidden, inner = spec.hidden_size, spec.intermediate_size
        is_centred, is_eva = spec.norm == "layer_norm", self.class_token is not None
        halves = 1 if spec.gate is None else 2

        def norm(dim: int) -> Norm:
            return Norm(np.ones(dim, np.float32), np.zeros(dim, np.float32) if is_centred else None)

        def product(weight: np.ndarray) -> Product:
            return Product(engine.pack([weight], [np.zeros(len(weight), np.float32)]))

        layers = tuple(
            LayerWeights(
                qkv=product(own["qkv"]),
                attention_out=product(own["out"]),
                attention_norm=norm(hidden),
                up=Product(engine.pack(np.split(own["up"], halves), [np.zeros(inner, np.float32)] * halves, spec.gate)),
                down=product(own["down"]),
                mlp_norm=norm(hidden),
                q_norm=None,
                k_norm=None,
                residual_norm=None,
                context_norm=norm(hidden) if is_eva else None,
                inner_norm=norm(inner) if is_eva else None,
            )
            for own in self.layers
        )
        merger = None
        if self.merger is not None:
            merger = Merger(norm(hidden), product(self.merger[0]), product(self.merger[1]))
        return EncoderWeights(
            word_embeddings=np.empty((0, hidden), np.float32),
            position_embeddings=self.positions,
            token_type=None,
            relative_bias=None,
            embedding_norm=None,
            layers=layers,
            final_norm=norm(hidden) if is_eva else None,
            patches=product(self.patches),
            class_token=self.class_token,
            mergers=() if merger is None else (merger,),
        )
