"""Which tensors of a checkpoint are its head, the layers from hidden states to the numbers that score a pair.

| head | tensors | what it computes of h |
| --- | --- | --- |
| BERT, JinaBERT, GTE | `pooler.dense`, `classifier` | W tanh(P h0 + p) + b |
| RoBERTa, jina-reranker-v2 | `classifier.dense`, `classifier.out_proj` | O tanh(D h0 + d) + o |
| ELECTRA | the same | O gelu(D h0 + d) + o |
| DistilBERT | `pre_classifier`, `classifier` | W relu(P h0 + p) + b |
| ModernBERT | `head.dense`, `head.norm`, `classifier` | C norm(act(D pool(h))) + c |
| EuroBERT | `dense`, `classifier` | C gelu(D pool(h) + d) + c, or the mean of C gelu(D h + d) + c |
| Qwen2, Qwen3, Gemma as classifiers | `score` | W h_last |
| Qwen2, Qwen3 as language models | two rows of the output table | h_last (E_yes - E_no) |

h0 is the first token's hidden state, h_last the last one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.models.families.family import read_activation, read_choice, read_positive
from longspan.models.spec import ModelSpec, NormMap, PoolingMode
from longspan.ops.activations import Activation

MODERNBERT_POOLINGS: Final[dict[str, PoolingMode]] = {"cls": "cls", "mean": "mean"}
LATE: Final = "late"
EUROBERT_POOLINGS: Final[dict[str, PoolingMode]] = {"bos": "cls", "mean": "mean", LATE: "mean"}


@dataclass(frozen=True, slots=True)
class HeadLayer:
    """One product: weight (out, in) and its bias, if it has one."""

    weight: str
    bias: str | None


@dataclass(frozen=True, slots=True)
class HeadMap:
    """A head's layers: pooling, then `dense` with its activation and norm if there is one, then `out`."""

    pooling: PoolingMode
    out: HeadLayer
    dense: HeadLayer | None = None
    activation: Activation = "tanh"
    norm: NormMap | None = None
    norm_eps: float = 0.0
    pools_late: bool = False  # behind `dense`, which every token goes through

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor that it reads."""
        layers = (self.out,) if self.dense is None else (self.out, self.dense)
        own = [name for layer in layers for name in (layer.weight, layer.bias) if name is not None]
        return (*own, *(() if self.norm is None else self.norm.names))


def find_head(checkpoint: Checkpoint, spec: ModelSpec) -> HeadMap | None:
    """The head of a sequence classifier; None where the checkpoint has none."""
    present = frozenset(checkpoint.tensor_names)
    if "classifier.out_proj.weight" in present:
        activation: Activation = "gelu" if spec.family == "ELECTRA" else "tanh"
        return HeadMap("cls", _layer("classifier.out_proj", present), _layer("classifier.dense", present), activation)
    if "score.weight" in present:
        return HeadMap("lasttoken", _layer("score", present))
    if "classifier.weight" not in present:
        return None
    out = _layer("classifier", present)
    if "head.dense.weight" in present:
        return _modernbert_head(checkpoint.config, present, out)
    if "dense.weight" in present:
        return _eurobert_head(checkpoint.config, present, out)
    is_distil = "pre_classifier.weight" in present
    dense = _layer("pre_classifier", present) if is_distil else _pooler(checkpoint, present, spec.family)
    return HeadMap("cls", out, dense, "relu" if is_distil else "tanh")


def _modernbert_head(config: JsonObject, present: frozenset[str], out: HeadLayer) -> HeadMap:
    return HeadMap(
        pooling=read_choice(config, "classifier_pooling", "cls", MODERNBERT_POOLINGS),
        out=out,
        dense=_layer("head.dense", present),
        activation=read_activation(config, "classifier_activation", "gelu"),
        norm=NormMap("head.norm.weight", "head.norm.bias" if "head.norm.bias" in present else None),
        norm_eps=read_positive(config, "norm_eps", 1e-5),
    )


def _eurobert_head(config: JsonObject, present: frozenset[str], out: HeadLayer) -> HeadMap:
    return HeadMap(
        pooling=read_choice(config, "classifier_pooling", LATE, EUROBERT_POOLINGS),
        out=out,
        dense=_layer("dense", present),
        activation="gelu",
        pools_late=config.get_str("classifier_pooling", LATE) == LATE,
    )


def _pooler(checkpoint: Checkpoint, present: frozenset[str], family: str) -> HeadLayer:
    poolers = [name for name in present if name == "pooler.dense.weight" or name.endswith(".pooler.dense.weight")]
    if len(poolers) != 1:
        raise CheckpointError(
            f"{checkpoint.folder}: the head of {family} needs one pooler.dense.weight before classifier.weight, "
            f"got {len(poolers)}; tensors must not be guessed"
        )
    return _layer(poolers[0].removesuffix(".weight"), present)


def _layer(module: str, present: frozenset[str]) -> HeadLayer:
    return HeadLayer(f"{module}.weight", f"{module}.bias" if f"{module}.bias" in present else None)
