"""What a checkpoint is for, as its files say: vectors of texts, of tokens, of words, or scores of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.modules import makes_scores
from longspan.errors import CheckpointError

Purpose = Literal["embedding", "late interaction", "reranking", "sparse"]
# What makes each, and the class that runs it.
PURPOSES: Final[Mapping[Purpose, tuple[str, str]]] = {
    "embedding": ("one vector a text", "longspan.Encoder"),
    "late interaction": ("one vector a token", "longspan.MultiVectorEncoder"),
    "reranking": ("scores of a query with documents", "longspan.Reranker"),
    "sparse": ("weights of words", "longspan.SparseEncoder"),
}
COLBERT: Final = "linear.weight"  # the projection beside the backbone


def purpose_of(checkpoint: Checkpoint) -> Purpose:
    """What the checkpoint is made for; where its files leave it open, embedding. jina-embeddings-v4, which has vectors
    of texts and of tokens, counts as embedding."""
    kinds = {module.kind for module in (*checkpoint.modules, *checkpoint.query_modules)}
    if "LogitScore" in kinds or makes_scores(checkpoint.modules):
        return "reranking"
    if kinds & {"SpladePooling", "SparseStaticEmbedding"}:
        return "sparse"
    if "MultiVectorMask" in kinds:
        return "late interaction"
    if checkpoint.modules:
        return "late interaction" if checkpoint.makes_token_vectors else "embedding"
    if COLBERT in checkpoint.tensor_names:
        return "late interaction"
    return "reranking" if _scores(checkpoint) else "embedding"


def require_purpose(caller: str, checkpoint: Checkpoint, wanted: Purpose) -> None:
    """CheckpointError, naming the class that runs it, if the checkpoint is for something else."""
    purpose = purpose_of(checkpoint)
    if purpose != wanted:
        (makes, right), (ours, _) = PURPOSES[purpose], PURPOSES[wanted]
        raise CheckpointError(
            f"{checkpoint.folder} is made for {purpose} ({makes}), and {caller} makes {ours}; open it with {right}"
        )


def _scores(checkpoint: Checkpoint) -> bool:
    """Whether config.json says that the model ends in one score, or in that of a label of its own name."""
    listed = checkpoint.config.get_list("architectures", [])
    classes = [name for name in listed if isinstance(name, str)]
    labels = checkpoint.config.get_object("id2label", None)
    number = 1 if labels is not None and len(labels) == 1 else checkpoint.config.get_int("num_labels", None)
    scores = number == 1 and any(name.endswith("ForSequenceClassification") for name in classes)
    return scores or any(name.endswith("ForRanking") for name in classes)
