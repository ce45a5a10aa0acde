"""SPLADE's head: the masked-language-model head, its logits pooled over a text's tokens as they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.families.family import ACTIVATIONS, read_choice
from longspan.models.parts import Norm, Product
from longspan.models.spec import ModelSpec, WeightMap
from longspan.ops.activations import Activation
from longspan.ops.pool_logits import LOGIT_POOLINGS, LogitPooling, Saturation
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection

# SpladePooling's names of what becomes of a logit.
SATURATIONS: Final[dict[str, Saturation]] = {"relu": "log1p", "log1p_relu": "log1p_twice"}
POOLINGS: Final[dict[str, LogitPooling]] = {name: name for name in LOGIT_POOLINGS}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a kind of checkpoint keeps the head: modules, each with a weight and a bias."""

    dense: str
    norm: str
    bias: str  # of the logits, a tensor
    decoder: str  # whose weight may be left out where it is the table of word embeddings
    activation_key: str | None  # of config.json; None: GELU
    eps_key: str | None
    default_eps: float
    other_norm: str | None = None  # the same under another name


LAYOUTS: Final = (
    Layout(  # BERT; NomicBERT by transformers' own config
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
        "cls.predictions.decoder",
        "hidden_act",
        "layer_norm_eps",
        1e-12,
        "cls.predictions.transform.layer_norm",
    ),
    Layout(  # DistilBERT
        "vocab_transform",
        "vocab_layer_norm",
        "vocab_projector.bias",
        "vocab_projector",
        "activation",
        None,
        1e-12,
    ),
    Layout(  # RoBERTa, XLM-RoBERTa, CamemBERT, MPNet, Jina v3, GTE
        "lm_head.dense",
        "lm_head.layer_norm",
        "lm_head.bias",
        "lm_head.decoder",
        None,
        "layer_norm_eps",
        1e-5,
        "lm_head.norm",
    ),
    Layout(
        "head.dense", "head.norm", "decoder.bias", "decoder", "classifier_activation", "norm_eps", 1e-5
    ),  # ModernBERT
)


@dataclass(frozen=True, slots=True, eq=False)
class MlmHead:
    """y = E norm(activation(T h + t)) + b, one logit a row of the vocabulary."""

    dense: Product
    activation: Activation
    norm: Norm
    norm_eps: float
    output: Product
    engine: OpsEngine

    @property
    def dim(self) -> int:
        """Rows of the vocabulary."""
        return self.output.weight.out_features


@dataclass(frozen=True, slots=True)
class PooledLogits:
    """A tail: for each row the weights of all vocabulary entries, (rows, dim) f32."""

    head: MlmHead
    pooling: LogitPooling
    saturation: Saturation

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        head, engine = self.head, self.head.engine
        transformed = engine.empty(*hidden.shape)
        engine.multiply(hidden, head.dense, None, activation=head.activation, out=transformed)
        normed = engine.empty(*hidden.shape)
        engine.norm(transformed, head.norm, "layer_norm", head.norm_eps, out=normed)
        return engine.pool_logits(
            normed, head.output, batch.cu_seqlens, pooling=self.pooling, saturation=self.saturation
        )


def find_layout(checkpoint: Checkpoint) -> Layout | None:
    """Where the checkpoint keeps its head; None where it has none."""
    return next((layout for layout in LAYOUTS if f"{layout.dense}.weight" in checkpoint.tensor_names), None)


def head_tensors(checkpoint: Checkpoint, layout: Layout, names: WeightMap) -> dict[str, str]:
    """The head's tensors by their part: dense, dense_bias, norm, norm_bias, output, output_bias."""
    present = checkpoint.tensor_names
    norm = layout.norm
    if layout.other_norm is not None and f"{layout.other_norm}.weight" in present:
        norm = layout.other_norm
        if layout.activation_key is not None and layout.activation_key not in checkpoint.config:
            raise CheckpointError(
                f"{checkpoint.config.source}: {layout.activation_key!r} is missing, the activation of the "
                f"masked-language-model head; NomicBERT is supported with transformers' own config only"
            )
    scale, shift = ("gamma", "beta") if f"{norm}.gamma" in present else ("weight", "bias")
    parts = {
        "dense": f"{layout.dense}.weight",
        "dense_bias": f"{layout.dense}.bias",
        "norm": f"{norm}.{scale}",
        "norm_bias": f"{norm}.{shift}",
        "output": f"{layout.decoder}.weight",
        "output_bias": _bias(checkpoint, layout),
    }
    if parts["output"] not in present and checkpoint.config.get_bool("tie_word_embeddings", True):
        parts["output"] = names.word_embeddings
    optional = {"dense_bias", "norm_bias"} if layout.dense == "head.dense" else set()
    for part, name in list(parts.items()):
        if name not in present and part in optional:
            del parts[part]
        elif name not in present:
            raise CheckpointError(f"{checkpoint.folder}: tensor {name} is missing from the masked-language-model head")
    return parts


def _bias(checkpoint: Checkpoint, layout: Layout) -> str:
    """Of two that may be there, the head's own and its decoder's, the one that counts: where they differ, the
    decoder's."""
    present, of_decoder = checkpoint.tensor_names, f"{layout.decoder}.bias"
    return layout.bias if layout.bias in present and of_decoder not in present else of_decoder


def counted(unused: Sequence[str], tensors: dict[str, str]) -> tuple[str, ...]:
    """The patterns of unused tensors but for those that leave out a part of the head: what the fingerprint is to pass
    over."""
    used = set(tensors.values())
    return tuple(pattern for pattern in unused if not any(fnmatchcase(name, pattern) for name in used))


def load_head(
    checkpoint: Checkpoint, spec: ModelSpec, layout: Layout, tensors: dict[str, str], engine: OpsEngine
) -> MlmHead:
    """Read and pack it. Raises: CheckpointError, a tensor is misshapen or not finite, or an activation unknown."""
    hidden, vocabulary = spec.hidden_size, spec.vocab_size
    shapes: dict[str, tuple[int, ...]] = {
        "dense": (hidden, hidden),
        "dense_bias": (hidden,),
        "norm": (hidden,),
        "norm_bias": (hidden,),
        "output": (vocabulary, hidden),
        "output_bias": (vocabulary,),
    }
    read = {part: _read(checkpoint, name, shapes[part]) for part, name in tensors.items()}
    activation: Activation = "gelu"
    if layout.activation_key is not None:
        activation = read_choice(checkpoint.config, layout.activation_key, "gelu", ACTIVATIONS)
    eps = layout.default_eps
    if layout.eps_key is not None:
        eps = checkpoint.config.get_float(layout.eps_key, eps)
    shift = read.get("norm_bias")
    return MlmHead(
        dense=Product(engine.pack([read["dense"]], [read.get("dense_bias")])),
        activation=activation,
        norm=Norm(engine.vector(read["norm"]), None if shift is None else engine.vector(shift)),
        norm_eps=eps,
        output=Product(engine.pack([read["output"]], [read["output_bias"]])),
        engine=engine,
    )


def read_pooling(checkpoint: Checkpoint) -> tuple[LogitPooling, Saturation]:
    """What the SpladePooling module says; the largest and log(1 + relu) where there is none."""
    module = next((module for module in checkpoint.modules if module.kind == "SpladePooling"), None)
    if module is None:
        return "max", "log1p"
    return (
        read_choice(module.config, "pooling_strategy", "max", POOLINGS),
        read_choice(module.config, "activation_function", "relu", SATURATIONS),
    )


def _read(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if checkpoint.shape(name) != shape:
        raise CheckpointError(
            f"{checkpoint.folder}: tensor {name} must be {shape} by the config, got {checkpoint.shape(name)}"
        )
    values = checkpoint.read(name)
    checkpoint.require_finite(name, values)
    return values
