"""The audio tower of jina-embeddings-v5-omni in its published shape with random weights: for our engines, and what
torch modules are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from longspan.models.audio_spec import MelSpec, StemSpec
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights, LayerWeights, Norm, Pooled, Product
from longspan.models.spec import AudioSpec, LayerSpec, ModelSpec
from longspan.packing.media import Mel

SEED: Final = 13
SOUND_NAME: Final = "jina-v5-omni audio"
FRAMES_A_SECOND: Final = 100


@dataclass(frozen=True, slots=True)
class SoundShape:
    """The tower and the width of its tokens."""

    spec: ModelSpec
    out: int

    def with_layers(self, layers: int) -> SoundShape:
        """The same with so many layers."""
        return replace(self, spec=replace(self.spec, layers=self.spec.layers[:layers]))

    def flops(self, frames: int) -> float:
        """Of products and attention, a multiply-add counts two; norms are left out."""
        spec, stem = self.spec, self.spec.stem
        assert stem is not None
        hidden, rows = spec.hidden_size, stem.rows(frames)
        whole, rest = divmod(frames, stem.chunk)
        pairs = whole * stem.rows(stem.chunk) ** 2 + stem.rows(rest) ** 2
        layer = hidden * (4 * hidden + 2 * spec.intermediate_size) * rows + 2 * hidden * pairs
        convolutions = 3 * hidden * (stem.num_mels * frames + hidden * rows)
        return 2.0 * (spec.num_layers * layer + convolutions + hidden * self.out * stem.tokens(frames))


SOUND: Final = SoundShape(
    ModelSpec(
        family=SOUND_NAME,
        hidden_size=1280,
        layers=(LayerSpec(),) * 32,
        num_heads=20,
        head_dim=64,
        intermediate_size=5120,
        vocab_size=0,
        max_tokens=0,
        norm="layer_norm",
        norm_eps=1e-5,
        activation="gelu",
        is_prenorm=True,
        stem=StemSpec(128, 200),
    ),
    1024,
)


def audio_spec(shape: SoundShape) -> AudioSpec:
    """What `Audio` takes; no samples are read here."""
    return AudioSpec(shape.spec, MelSpec())


def random_sound(spec: ModelSpec, frames: int, seed: int = 0) -> Mel:
    """Frames with values as speech has them: from -1 to 1."""
    assert spec.stem is not None
    rng = np.random.default_rng([SEED, seed])
    return Mel(rng.uniform(-1, 1, (frames, spec.stem.num_mels)).astype(np.float32))


def chunks_of(sound: Mel, spec: ModelSpec) -> np.ndarray:
    """(chunks, frames, mels) of a sound of whole chunks, for peers that take a batch."""
    assert spec.stem is not None
    return sound.values.reshape(-1, spec.stem.chunk, spec.stem.num_mels)


class PlainSound:
    """The tower's weights as arrays; the same for all."""

    def __init__(self, shape: SoundShape) -> None:
        spec, rng = shape.spec, np.random.default_rng([SEED, 1])
        assert spec.stem is not None
        hidden, inner = spec.hidden_size, spec.intermediate_size
        self.shape = shape

        def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
            return rng.standard_normal((rows, columns), np.float32) * np.float32(scale / np.sqrt(columns))

        self.stem = (matrix(hidden, 3 * spec.stem.num_mels), matrix(hidden, 3 * hidden))  # the three neighbours in turn
        # What a layer adds is smaller than what is there, as in models that were trained.
        self.layers = [
            {
                "qkv": matrix(3 * hidden, hidden),
                "out": matrix(hidden, hidden, 0.3),
                "up": matrix(inner, hidden),
                "down": matrix(hidden, inner, 0.3),
            }
            for _ in spec.layers
        ]
        self.connector = matrix(shape.out, hidden)

    def packed(self, engine: OpsEngine) -> EncoderWeights:
        """As an engine takes them."""
        hidden = self.shape.spec.hidden_size
        norm = Norm(np.ones(hidden, np.float32), np.zeros(hidden, np.float32))

        def product(weight: np.ndarray) -> Product:
            return Product(engine.pack([weight], [np.zeros(len(weight), np.float32)]))

        layers = tuple(
            LayerWeights(
                qkv=product(own["qkv"]),
                attention_out=product(own["out"]),
                attention_norm=norm,
                up=product(own["up"]),
                down=product(own["down"]),
                mlp_norm=norm,
                q_norm=None,
                k_norm=None,
                residual_norm=None,
            )
            for own in self.layers
        )
        return EncoderWeights(
            word_embeddings=np.empty((0, hidden), np.float32),
            position_embeddings=None,
            token_type=None,
            relative_bias=None,
            embedding_norm=None,
            layers=layers,
            final_norm=None,
            stem=tuple(product(weight) for weight in self.stem),
            pooled=Pooled(norm, (product(self.connector),)),
        )
