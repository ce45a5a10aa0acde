"""Specs that no family has, with random weights: the encoder against a forward pass in float64, written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from longspan import reference
from longspan.models.encoder import TextEncoder
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import EncoderWeights, LayerWeights, Norm, Product
from longspan.models.positions import alibi_slopes, rotary_tables
from longspan.models.spec import LayerSpec, ModelSpec, Rotary
from longspan.ops.activations import Gate
from longspan.ops.multi_lora import pack_lora
from longspan.packing.batch import PackedBatch, pack

# A few hundred float32 roundings a layer in each of these sums, of values around 1: 1e-4 is the goldens' limit as well.
HIDDEN_LIMIT = 1e-4
NUM_TASKS, RANK, SCALING = 2, 3, 0.5
VOCABULARY = 50


@dataclass
class Plain:
    """A product's parts as they are before packing; one of them may lack its bias."""

    weights: Sequence[np.ndarray]
    biases: Sequence[np.ndarray | None]
    lora_a: np.ndarray | None
    lora_b: np.ndarray | None


class Model:
    """Random weights of a spec, packed for an engine and plain for the reference."""

    def __init__(self, spec: ModelSpec, seed: int, *, has_bias: bool, has_lora: bool) -> None:
        self.spec, self._rng = spec, np.random.default_rng(seed)
        self._has_bias, self._has_lora = has_bias, has_lora
        self.word = self._normal(VOCABULARY, spec.hidden_size)
        self.places = (
            None if spec.position_offset is None else self._normal(64 + spec.position_offset, spec.hidden_size)
        )
        self.bias_table = self._normal(spec.num_heads, 9) if seed % 3 == 0 else None
        self.layers = [self._layer() for _ in spec.layers]
        self.embedding_norm = self._norm(spec.hidden_size) if seed % 2 else None
        self.final_norm = self._norm(spec.hidden_size) if spec.is_prenorm else None

    def _normal(self, *shape: int) -> np.ndarray:
        return self._rng.standard_normal(shape).astype(np.float32)

    def _norm(self, dim: int) -> Norm:
        has_bias = self.spec.norm == "layer_norm" and self._has_bias
        return Norm(1 + 0.1 * self._normal(dim), 0.1 * self._normal(dim) if has_bias else None)

    def _product(self, rows: Sequence[int], inputs: int) -> Plain:
        weights = [self._normal(size, inputs) / np.float32(np.sqrt(inputs)) for size in rows]
        biases = [self._normal(size) if self._has_bias and i != 1 else None for i, size in enumerate(rows)]
        if not self._has_lora:
            return Plain(weights, biases, None, None)
        return Plain(
            weights,
            biases,
            self._normal(NUM_TASKS, RANK, inputs) / np.float32(np.sqrt(inputs)),
            self._normal(NUM_TASKS, sum(rows), RANK),
        )

    def _layer(self) -> dict[str, Plain | Norm | None]:
        spec = self.spec
        hidden, inner = spec.hidden_size, spec.intermediate_size
        widths = (spec.head_dim, spec.head_dim) if spec.qk_norm == "head" else (spec.q_width, spec.kv_width)
        return {
            "qkv": self._product((spec.q_width, spec.kv_width, spec.kv_width), hidden),
            "attention_out": self._product((hidden,), spec.q_width),
            "up": self._product((inner,) if spec.gate is None else (inner, inner), hidden),
            "down": self._product((hidden,), inner),
            "attention_norm": self._norm(hidden),
            "mlp_norm": self._norm(hidden),
            "q_norm": None if spec.qk_norm is None else self._norm(widths[0]),
            "k_norm": None if spec.qk_norm is None else self._norm(widths[1]),
            "residual_norm": self._norm(hidden) if spec.has_double_residual else None,
        }

    def packed(self, engine: OpsEngine) -> EncoderWeights:
        """As the encoder takes them."""

        def product(plain: Plain, gate: Gate | None = None) -> Product:
            weight = engine.pack(plain.weights, plain.biases, gate)
            if plain.lora_a is None or plain.lora_b is None:
                return Product(weight)
            return Product(weight, pack_lora(plain.lora_a, plain.lora_b, SCALING, weight))

        return EncoderWeights(
            word_embeddings=self.word,
            position_embeddings=self.places,
            token_type=None,
            relative_bias=self.bias_table,
            embedding_norm=self.embedding_norm,
            layers=tuple(
                LayerWeights(
                    **{
                        name: product(part, self.spec.gate if name == "up" else None)
                        if isinstance(part, Plain)
                        else part
                        for name, part in layer.items()
                    }
                )
                for layer in self.layers
            ),
            final_norm=self.final_norm,
        )

    def forward(self, batch: PackedBatch) -> np.ndarray:
        """The last hidden state in float64."""
        spec = self.spec
        x = self.word[batch.ids].astype(np.float64)
        if self.places is not None and spec.position_offset is not None:
            x += self.places[batch.positions + spec.position_offset]
        x = self._normed(x, self.embedding_norm)
        for layer_spec, layer in zip(spec.layers, self.layers):
            if spec.is_prenorm:
                x = x + self._attended(layer_spec, layer, self._normed(x, layer["attention_norm"]), batch)
                x = x + self._mlp(layer, self._normed(x, layer["mlp_norm"]), batch)
                continue
            attended = self._normed(x + self._attended(layer_spec, layer, x, batch), layer["attention_norm"])
            x = attended if layer["residual_norm"] is None else self._normed(x + attended, layer["residual_norm"])
            x = self._normed(x + self._mlp(layer, x, batch), layer["mlp_norm"])
        return self._normed(x, self.final_norm)

    def _normed(self, x: np.ndarray, norm: Norm | Plain | None) -> np.ndarray:
        if not isinstance(norm, Norm):
            return x
        weight = norm.weight.astype(np.float64)
        if self.spec.norm == "rms_norm":
            return reference.rms_norm(x, weight, eps=self.spec.norm_eps)
        bias = None if norm.bias is None else norm.bias.astype(np.float64)
        return reference.layer_norm(x, weight, bias, eps=self.spec.norm_eps)

    def _times(
        self, x: np.ndarray, plain: Plain, batch: PackedBatch, activation: str | None = None, gate: str | None = None
    ) -> np.ndarray:
        weight = np.concatenate(plain.weights).astype(np.float64)
        bias = np.concatenate(
            [np.zeros(len(w)) if b is None else b for w, b in zip(plain.weights, plain.biases)]
        ) + np.zeros((len(x), 1))
        for task in range(NUM_TASKS if plain.lora_a is not None and batch.lora_ids is not None else 0):
            rows = batch.lora_ids == task
            bias[rows] += SCALING * (x[rows] @ plain.lora_a[task].T) @ plain.lora_b[task].T
        return reference.linear(x, weight, bias, activation=activation, gate=gate)

    def _mlp(self, layer: dict, x: np.ndarray, batch: PackedBatch) -> np.ndarray:
        inner = self._times(x, layer["up"], batch, self.spec.activation, self.spec.gate)
        return self._times(inner, layer["down"], batch)

    def _attended(self, layer_spec: LayerSpec, layer: dict, x: np.ndarray, batch: PackedBatch) -> np.ndarray:
        spec = self.spec
        cut = [spec.q_width, spec.q_width + spec.kv_width]
        parts = np.split(self._times(x, layer["qkv"], batch), cut, axis=1)
        for i, name in enumerate(("q_norm", "k_norm")):
            shape = (-1, spec.head_dim) if spec.qk_norm == "head" else parts[i].shape
            parts[i] = self._normed(parts[i].reshape(shape), layer[name]).reshape(parts[i].shape)
        q, k, v = (part.reshape(len(x), -1, spec.head_dim) for part in parts)
        rotary = layer_spec.rotary
        tables = (None, None) if rotary is None else rotary_tables(rotary, batch.max_seqlen)
        attended = reference.attention_varlen(
            q,
            k,
            v,
            batch.cu_seqlens,
            batch.cu_seqlens,
            slopes=alibi_slopes(spec.num_heads).astype(np.float64) if spec.alibi else None,
            cos=None if tables[0] is None else tables[0].astype(np.float64),
            sin=None if tables[1] is None else tables[1].astype(np.float64),
            interleaved=rotary is not None and rotary.interleaved,
            bias_table=self.bias_table,
            causal=spec.causal,
            window=layer_spec.window,
            softmax_scale=spec.scale,
        )
        return self._times(attended.reshape(len(x), -1), layer["attention_out"], batch)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    head_dim = draw(st.sampled_from([2, 6, 16, 20]))
    rotary = st.builds(
        Rotary,
        theta=st.sampled_from([50.0, 1e4]),
        dim=st.integers(1, head_dim // 2).map(lambda half: 2 * half),
        interleaved=st.booleans(),
    )
    windows = st.tuples(st.integers(-1, 5), st.integers(-1, 5))
    layers = st.builds(LayerSpec, rotary=st.none() | rotary, window=st.none() | windows)
    is_prenorm = draw(st.booleans())
    return ModelSpec(
        family="random",
        hidden_size=draw(st.integers(4, 40)),
        num_heads=kv_heads * group,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=draw(st.integers(1, 70)),
        vocab_size=VOCABULARY,
        max_tokens=64,
        layers=tuple(draw(st.lists(layers, min_size=1, max_size=3))),
        norm=draw(st.sampled_from(["layer_norm", "rms_norm"])),
        norm_eps=1e-5,
        activation=draw(st.sampled_from(["gelu", "gelu_tanh", "relu", "silu"])),
        gate=draw(st.sampled_from([None, "first", "second"])),
        position_offset=draw(st.sampled_from([None, 0, 2])),
        alibi=draw(st.booleans()),
        softmax_scale=draw(st.sampled_from([None, 0.3])),
        causal=draw(st.booleans()),
        is_prenorm=is_prenorm,
        qk_norm=draw(st.sampled_from([None, "head", "width"])),
        has_double_residual=not is_prenorm and draw(st.booleans()),
    )


def batch_of(lengths: list[int], rng: np.random.Generator, has_lora: bool) -> PackedBatch:
    ids = [rng.integers(0, VOCABULARY, length).astype(np.int32) for length in lengths]
    adapters = rng.integers(-1, NUM_TASKS, len(lengths)).tolist() if has_lora else None
    return next(pack(ids, batch_tokens=10_000, lora_ids=adapters))


@settings(max_examples=60, deadline=None)
@given(
    specs(), st.lists(st.integers(1, 64), min_size=1, max_size=5), st.integers(0, 1000), st.booleans(), st.booleans()
)
def test_any_spec_agrees_with_float64(
    spec: ModelSpec, lengths: list[int], seed: int, has_bias: bool, has_lora: bool
) -> None:
    model = Model(spec, seed, has_bias=has_bias, has_lora=has_lora)
    batch = batch_of(lengths, np.random.default_rng(seed), has_lora)
    truth = model.forward(batch)
    engine = CpuEngine()
    found = TextEncoder(spec, model.packed(engine), engine).forward(batch, Workspace(engine.empty))
    scale = max(1.0, float(np.abs(truth).max()))
    np.testing.assert_allclose(found, truth, rtol=0, atol=HIDDEN_LIMIT * scale)
