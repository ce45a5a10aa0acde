"""The language side of jina-embeddings-v4 in its published shape with random weights: for our engines, and what torch
modules are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from longspan.models.encoder import TextEncoder
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import EncoderWeights, LayerWeights, Norm, Product
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.packing.batch import pack
from longspan.packing.media import MediaRow

SEED: Final = 17
LANGUAGE_NAME: Final = "jina-v4 language"
BEFORE: Final = 4  # tokens before an image's: <|im_start|> user \n <|vision_start|>
AFTER: Final = 7  # and behind them: <|vision_end|> and the six of "Describe the image.<|im_end|>\n"
RANK: Final = 32
DELTA: Final = 0.3  # what the adapter adds to a product, beside the product's own size


@dataclass(frozen=True, slots=True)
class LanguageShape:
    """The decoder and the image that it reads."""

    spec: ModelSpec
    grid: tuple[int, int]  # rows and columns of the image's tokens

    @property
    def tokens(self) -> int:
        """Of an image with the text around it."""
        return BEFORE + self.grid[0] * self.grid[1] + AFTER

    def with_layers(self, layers: int) -> LanguageShape:
        """The same with so many layers."""
        return replace(self, spec=replace(self.spec, layers=self.spec.layers[:layers]))

    @property
    def flops(self) -> float:
        """Of products, adapters and attention (all pairs up to the diagonal); a multiply-add counts two."""
        spec, tokens = self.spec, self.tokens
        weights = sum(outputs * inputs for outputs, inputs in product_shapes(spec).values())
        adapters = sum(RANK * (outputs + inputs) for outputs, inputs in product_shapes(spec).values())
        pairs = tokens * (tokens + 1) / 2
        return 2.0 * spec.num_layers * ((weights + adapters) * tokens + 2 * spec.q_width * pairs)


LANGUAGE: Final = LanguageShape(
    ModelSpec(
        family=LANGUAGE_NAME,
        hidden_size=2048,
        layers=(LayerSpec(Rotary(1e6, 128, sections=(16, 24, 24))),) * 36,
        num_heads=16,
        num_kv_heads=2,
        head_dim=128,
        intermediate_size=11008,
        vocab_size=BEFORE + AFTER + 1,  # cut: rows are looked up, not multiplied
        max_tokens=32768,
        norm="rms_norm",
        norm_eps=1e-6,
        activation="silu",
        gate="first",
        causal=True,
        is_prenorm=True,
    ),
    (16, 20),  # what a tower makes of 448 x 560 pixels
)


def product_shapes(spec: ModelSpec) -> dict[str, tuple[int, int]]:
    """(out, in) of what has an adapter in each layer, in the order in which weights are drawn."""
    hidden, inner = spec.hidden_size, spec.intermediate_size
    return {
        "q": (spec.q_width, hidden),
        "k": (spec.kv_width, hidden),
        "v": (spec.kv_width, hidden),
        "out": (hidden, spec.q_width),
        "gate": (inner, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
    }


@dataclass(frozen=True, slots=True)
class Adapted:
    """A product's weights (out, in), its bias or None, and its adapter, the scaling within."""

    weight: np.ndarray
    bias: np.ndarray | None
    lora_a: np.ndarray  # (rank, in)
    lora_b: np.ndarray  # (out, rank)

    @property
    def merged(self) -> np.ndarray:
        """Weights that took the adapter in, f64."""
        return self.weight + self.lora_b.astype(np.float64) @ self.lora_a.astype(np.float64)


class PlainLanguage:
    """The weights as arrays, by name; the same for all."""

    def __init__(self, shape: LanguageShape) -> None:
        rng, spec = np.random.default_rng([SEED, 1]), shape.spec
        self.shape = shape

        def matrix(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
            return rng.standard_normal((rows, columns), np.float32) * np.float32(scale / np.sqrt(columns))

        def adapted(name: str, outputs: int, inputs: int) -> Adapted:
            bias = rng.standard_normal(outputs, np.float32) if name in ("q", "k", "v") else None
            weight = matrix(outputs, inputs, 0.3 if name in ("out", "down") else 1.0)
            return Adapted(weight, bias, matrix(RANK, inputs), matrix(outputs, RANK, DELTA))

        self.words = rng.standard_normal((spec.vocab_size, spec.hidden_size), np.float32)
        self.layers = [
            {name: adapted(name, *sizes) for name, sizes in product_shapes(spec).items()} for _ in spec.layers
        ]

    def packed(self, engine: OpsEngine, *, merged: bool = False) -> EncoderWeights:
        """As an engine takes them; `merged`, the adapters within the weights."""
        spec = self.shape.spec

        def product(layer: dict[str, Adapted], *names: str, is_gated: bool = False) -> Product:
            parts = [layer[name] for name in names]
            weights = [part.merged if merged else part.weight for part in parts]
            packed = engine.pack(weights, [part.bias for part in parts], spec.gate if is_gated else None)
            if merged:
                return Product(packed)
            lora_b = np.zeros((1, sum(len(part.weight) for part in parts), RANK * len(parts)), np.float32)
            row = 0
            for number, part in enumerate(parts):  # along the diagonal
                lora_b[0, row : row + len(part.weight), number * RANK : (number + 1) * RANK] = part.lora_b
                row += len(part.weight)
            lora_a = np.concatenate([part.lora_a for part in parts])[None]
            return Product(packed, engine.pack_lora(lora_a, lora_b, 1.0, packed))

        norm = Norm(np.ones(spec.hidden_size, np.float32), None)
        layers = tuple(
            LayerWeights(
                qkv=product(own, "q", "k", "v"),
                attention_out=product(own, "out"),
                attention_norm=norm,
                up=product(own, "gate", "up", is_gated=True),
                down=product(own, "down"),
                mlp_norm=norm,
                q_norm=None,
                k_norm=None,
                residual_norm=None,
            )
            for own in self.layers
        )
        return EncoderWeights(self.words, None, None, None, None, layers, norm, tasks=() if merged else ("retrieval",))


def random_row(shape: LanguageShape, seed: int = 0) -> MediaRow:
    """An image's: its text's tokens around normal features, with places as Qwen2-VL's."""
    rows, columns = shape.grid
    count, behind = rows * columns, BEFORE + max(rows, columns)
    ids = np.concatenate([np.arange(BEFORE), np.full(count, BEFORE), BEFORE + 1 + np.arange(AFTER)]).astype(np.int32)
    places = np.zeros((len(ids), 3), np.float32)
    places[:BEFORE] = np.arange(BEFORE)[:, None]
    places[BEFORE : BEFORE + count] = BEFORE
    places[BEFORE : BEFORE + count, 1:] += np.indices((rows, columns)).reshape(2, -1).T
    places[BEFORE + count :] = behind + np.arange(AFTER)[:, None]
    pooled = np.zeros(len(ids), bool)
    pooled[BEFORE - 1 : BEFORE + count + 1] = True  # from the image's start to its end
    features = np.random.default_rng([SEED, 2, seed]).standard_normal((count, shape.spec.hidden_size), np.float32)
    return MediaRow(ids, pooled, features, np.arange(BEFORE, BEFORE + count), places)


def embedded(plain: PlainLanguage, row: MediaRow) -> np.ndarray:
    """(tokens, hidden_size), what a row begins as, for peers that take it so."""
    x = plain.words[row.ids]
    x[row.feature_places] = row.features
    return x


def pooled_span() -> tuple[int, int]:
    """The tokens that the mean counts: the first of them, and how many there are beside the image's."""
    return BEFORE - 1, 2


class Language:
    """Rows to the means of their images' tokens."""

    def __init__(self, spec: ModelSpec, weights: EncoderWeights, engine: OpsEngine) -> None:
        self._encoder = TextEncoder(spec, weights, engine)
        self._workspace = Workspace(engine.empty)
        self._has_adapter = bool(weights.tasks)

    def __call__(self, rows: list[MediaRow]) -> np.ndarray:
        """(rows, hidden_size) of unit length, in order."""
        ids = [row.ids for row in rows]
        tasks = [0] * len(ids) if self._has_adapter else None
        found = np.empty((len(rows), self._encoder.spec.hidden_size))
        for batch in pack(ids, batch_tokens=sum(map(len, ids)), lora_ids=tasks):
            own = self._encoder.attach(batch, [rows[index] for index in batch.indices])
            hidden = self._encoder.forward(own, self._workspace)
            for index, start in zip(batch.indices, batch.cu_seqlens):
                found[index] = hidden[start : start + len(ids[index])][rows[index].pooled].mean(0)
        return found / np.linalg.norm(found, axis=1, keepdims=True)
