"""What happens to each token by itself: a model cut at its attentions, as lists of steps.

Values have names: an engine is given those of `BOUND`, and makes all others itself. What runs the steps may take some
rows through all of them before others; each step is one call of `multiply` or `norm` of an engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from longspan.models.parts import EncoderWeights, Experts, LayerWeights, Norm, Product
from longspan.models.spec import ModelSpec
from longspan.ops.activations import Activation

# The hidden state (tokens, hidden_size); what goes into an attention, q, k and v side by side; what comes out of it.
BOUND: Final = ("x", "qkv", "context")


@dataclass(frozen=True, slots=True)
class Multiply:
    """target = activation(source W^T + each row's adapter) + residual."""

    source: str
    product: Product
    target: str
    residual: str | None = None
    activation: Activation | None = None


@dataclass(frozen=True, slots=True)
class Mlp:
    """target = activation(source U^T + ...) D^T + ... + residual: two products, and a value that nobody else sees."""

    source: str
    up: Product
    activation: Activation
    down: Product
    target: str
    residual: str | None = None


@dataclass(frozen=True, slots=True)
class Normalize:
    """target = norm(source + residual), in groups of the norm's width, over `columns` (first, end) or all of them."""

    source: str
    norm: Norm
    target: str
    residual: str | None = None
    columns: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """target = source + residual; all three are there before."""

    source: str
    residual: str
    target: str


@dataclass(frozen=True, slots=True)
class Route:
    """target = what each row's experts make of source; adapters adapt none of them."""

    source: str
    experts: Experts
    activation: Activation
    target: str


Step: TypeAlias = Multiply | Mlp | Normalize | Add | Route


def row_steps(spec: ModelSpec, weights: EncoderWeights) -> tuple[tuple[Step, ...], ...]:
    """The steps before, between and after the attentions of a model's layers: one list more than there are layers.
    The first one starts from the embeddings in x; the last one leaves the last hidden state there."""
    after = _after_prenorm_attention if spec.is_prenorm else _after_postnorm_attention
    opening = () if weights.embedding_norm is None else (Normalize("x", weights.embedding_norm, "x"),)
    closing = () if weights.final_norm is None else (Normalize("x", weights.final_norm, "x"),)
    parts: list[tuple[Step, ...]] = [opening]
    for layer in weights.layers:
        parts[-1] += tuple(_before_attention(spec, layer))
        parts.append(tuple(after(spec, layer)))
    parts[-1] += closing
    return tuple(parts)


def _before_attention(spec: ModelSpec, layer: LayerWeights) -> Iterator[Step]:
    """qkv = [norm(x)] W^T, with norms of q and k where the model has them; positions are the attention's."""
    source = "x"
    if spec.is_prenorm and layer.attention_norm is not None:
        source = "normed"
        yield Normalize("x", layer.attention_norm, source)
    yield Multiply(source, layer.qkv, "qkv")
    k_start, v_start = spec.q_width, spec.q_width + spec.kv_width
    for norm, columns in ((layer.q_norm, (0, k_start)), (layer.k_norm, (k_start, v_start))):
        if norm is not None:
            yield Normalize("qkv", norm, "qkv", columns=columns)


def _after_postnorm_attention(spec: ModelSpec, layer: LayerWeights) -> Iterator[Step]:
    """x = norm(x + attention(x)); [x = norm(x + what was x;)] x = norm(x + mlp(x))."""
    assert layer.attention_norm is not None  # `weights.py` sees to it
    yield Multiply("context", layer.attention_out, "delta")
    if layer.residual_norm is None:
        yield Normalize("delta", layer.attention_norm, "x", residual="x")
    else:
        yield Normalize("delta", layer.attention_norm, "delta", residual="x")
        yield Normalize("delta", layer.residual_norm, "x", residual="x")
    yield from _mlp(spec, layer, "x", "delta")
    yield Normalize("delta", layer.mlp_norm, "x", residual="x")


def _mlp(spec: ModelSpec, layer: LayerWeights, source: str, target: str, residual: str | None = None) -> Iterator[Step]:
    """The layer's MLP, with a norm in it where it has one, or its experts."""
    if layer.experts is not None:
        assert residual is None  # no pre-norm model has any
        yield Route(source, layer.experts, spec.activation, target)
        return
    assert layer.up is not None and layer.down is not None
    if layer.inner_norm is None:
        yield Mlp(source, layer.up, spec.activation, layer.down, target, residual)
        return
    yield Multiply(source, layer.up, "inner", activation=spec.activation)
    yield Normalize("inner", layer.inner_norm, "inner")
    yield Multiply("inner", layer.down, target, residual=residual)


def _after_prenorm_attention(spec: ModelSpec, layer: LayerWeights) -> Iterator[Step]:
    """x = x + attention(norm(x)); x = x + mlp(norm(x)); where there are norms of what is added, they come between, and
    one of what attention found before its product."""
    if layer.context_norm is not None:
        yield Normalize("context", layer.context_norm, "context")
    if layer.attention_post_norm is None:
        yield Multiply("context", layer.attention_out, "x", residual="x")
    else:
        yield Multiply("context", layer.attention_out, "delta")
        yield Normalize("delta", layer.attention_post_norm, "delta")
        yield Add("delta", "x", "x")
    yield Normalize("x", layer.mlp_norm, "normed")
    if layer.mlp_post_norm is None:
        yield from _mlp(spec, layer, "normed", "x", residual="x")
    else:
        yield from _mlp(spec, layer, "normed", "delta")
        yield Normalize("delta", layer.mlp_post_norm, "delta")
        yield Add("delta", "x", "x")


def temporaries(steps: Sequence[Step]) -> dict[str, int]:
    """Names and widths of the values that only these steps see, in the order of their first use."""
    return {step.target: _width(step) for step in steps if step.target not in BOUND and not isinstance(step, Add)}


def _width(step: Multiply | Mlp | Normalize | Route) -> int:
    """Columns of a step's target; of a norm that has all of them."""
    if isinstance(step, Route):
        return len(step.experts.bias)
    if isinstance(step, Normalize):
        return len(step.norm.weight)
    return (step.down if isinstance(step, Mlp) else step.product).weight.out_features
