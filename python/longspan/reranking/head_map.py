"""Which tensors of a checkpoint are its head, the layers from hidden states to the numbers that score a pair.

| head | tensors | what it computes of h |
| --- | --- | --- |
| BERT, JinaBERT, GTE | `pooler.dense`, `classifier` | W tanh(P h0 + p) + b |
| RoBERTa, jina-reranker-v2 | `classifier.dense`, `classifier.out_proj` | O tanh(D h0 + d) + o |
| DistilBERT | `pre_classifier`, `classifier` | W relu(P h0 + p) + b |
| ModernBERT | `head.dense`, `head.norm`, `classifier` | C norm(act(D pool(h))) + c |
| Qwen2, Qwen3 as classifiers | `score` | W h_last |
| Qwen2, Qwen3 as language models | two rows of the output table | h_last (E_yes - E_no) |

h0 is the first token's hidden state, h_last the last one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.families.family import read_activation, read_choice, read_positive
from longspan.models.spec import ModelSpec, NormMap, PoolingMode
from longspan.ops.activations import Activation

MODERNBERT_POOLINGS: Final[dict[str, PoolingMode]] = {"cls": "cls", "mean": "mean"}


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
        return HeadMap("cls", _layer("classifier.out_proj", present), _layer("classifier.dense", present))
    if "score.weight" in present:
        return HeadMap("lasttoken", _layer("score", present))
    if "classifier.weight" not in present:
        return None
    out = _layer("classifier", present)
    if "head.dense.weight" in present:
        config = checkpoint.config
        return HeadMap(
            pooling=read_choice(config, "classifier_pooling", "cls", MODERNBERT_POOLINGS),
            out=out,
            dense=_layer("head.dense", present),
            activation=read_activation(config, "classifier_activation", "gelu"),
            norm=NormMap("head.norm.weight", "head.norm.bias" if "head.norm.bias" in present else None),
            norm_eps=read_positive(config, "norm_eps", 1e-5),
        )
    if "pre_classifier.weight" in present:
        return HeadMap("cls", out, _layer("pre_classifier", present), "relu")
    poolers = [name for name in present if name == "pooler.dense.weight" or name.endswith(".pooler.dense.weight")]
    if len(poolers) == 1:
        return HeadMap("cls", out, _layer(poolers[0].removesuffix(".weight"), present))
    raise CheckpointError(
        f"{checkpoint.folder}: the head of {spec.family} needs one pooler.dense.weight before classifier.weight, "
        f"got {len(poolers)}; tensors must not be guessed"
    )


def _layer(module: str, present: frozenset[str]) -> HeadLayer:
    return HeadLayer(f"{module}.weight", f"{module}.bias" if f"{module}.bias" in present else None)
