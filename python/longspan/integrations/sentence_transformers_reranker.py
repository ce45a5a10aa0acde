"""longspan under sentence-transformers 6: a real CrossEncoder that computes with longspan.

    from longspan.integrations.sentence_transformers_reranker import as_cross_encoder
    model = as_cross_encoder("cross-encoder/ms-marco-MiniLM-L6-v2")
    model.rank(query, documents)

Everything around the model is the library's own: predict and rank, activations, softmax, evaluators. What differs from
its torch backend: nothing is trained, all pairs of a call are packed and run together, and a cut pair is warned of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from longspan.integrations import missing, opened
from longspan.integrations.sentence_transformers_module import CheckpointModule, Features, Settings
from longspan.pipeline.options import OnTruncate
from longspan.reranker import Reranker

try:
    import torch
    from sentence_transformers import CrossEncoder
except ImportError as error:
    raise missing("sentence-transformers", error) from error

if TYPE_CHECKING:
    from longspan.reranking.activation import ActivationName

ACTIVATIONS: dict[ActivationName, Callable[[], torch.nn.Module]] = {
    "identity": torch.nn.Identity,
    "sigmoid": torch.nn.Sigmoid,
}


def as_cross_encoder(
    model: Reranker | str | os.PathLike[str], *, on_truncate: OnTruncate = "warn"
) -> LongspanCrossEncoder:
    """A CrossEncoder whose one module is `model`, with the prompts and the activation of its files.

    Args:
        model: a Reranker, or what it opens.
        on_truncate: what to do when a pair is cut: "warn", "error" or "ignore".
    Raises: TypeError, `model` is something else; ValueError, `on_truncate` is; and what `Reranker` raises.
    """
    return LongspanCrossEncoder(opened(model, Reranker, "as_cross_encoder"), on_truncate)


class RerankerModule(CheckpointModule):
    """A Reranker as the one module of a CrossEncoder: pairs to logits."""

    encoder: Reranker

    def __init__(self, encoder: Reranker, *, on_truncate: OnTruncate = "warn") -> None:
        super().__init__(encoder, on_truncate)

    def preprocess(self, inputs: Sequence[Sequence[str]], prompt: str | None = None, **kwargs: object) -> Features:
        """The pairs, which `forward` tokenizes itself."""
        return {"pairs": [tuple(pair) for pair in inputs], "prompt": prompt}

    def forward(self, features: Features, **kwargs: object) -> Features:
        """`features` with scores, (pairs, labels) logits."""
        self.refuse_training()
        logits = self.encoder.predict(
            features["pairs"],
            activation_fn="identity",
            prompt=features["prompt"] or "",
            on_truncate=self.on_truncate,
            show_progress_bar=False,
        )
        return {**features, "scores": torch.as_tensor(logits).reshape(-1, self.encoder.num_labels)}

    @classmethod
    def _open(cls, folder: str, settings: Settings, options: Settings) -> RerankerModule:
        return cls(Reranker(folder, **options), **settings)


class LongspanCrossEncoder(CrossEncoder):
    """What `as_cross_encoder` gives; it pickles, and `save_pretrained` copies the checkpoint."""

    def __init__(self, reranker: Reranker, on_truncate: OnTruncate = "warn") -> None:
        super().__init__(
            modules=[RerankerModule(reranker, on_truncate=on_truncate)],
            prompts=reranker.prompts,
            default_prompt_name=reranker.default_prompt_name,
            activation_fn=ACTIVATIONS[reranker.default_activation](),
        )
        self.eval()

    @property
    def reranker(self) -> Reranker:
        """The Reranker that computes."""
        found: Reranker = self[0].encoder
        return found

    @property
    def num_labels(self) -> int:
        """Numbers that the model gives for a pair."""
        return self.reranker.num_labels

    def _inference(self, inputs: list[Any], **options: Any) -> torch.Tensor:
        """All pairs in one call, which packs them by itself."""
        return super()._inference(inputs, **{**options, "batch_size": max(1, len(inputs))})
