"""The families that can be loaded, one line each; a checkpoint belongs to the first that it matches."""

from __future__ import annotations

from typing import Final

from longspan.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.bert import BERT, ROBERTA
from longspan.models.family import Family

FAMILIES: Final[tuple[Family, ...]] = (BERT, ROBERTA)


def detect_family(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint; CheckpointError, listing what is supported, if it is of none."""
    for family in FAMILIES:
        if family.matches(checkpoint):
            return family
    config = checkpoint.config
    supported = "; ".join(family.supports for family in FAMILIES)
    raise CheckpointError(
        f"{config.source}: model_type {config.get('model_type')!r} with position_embedding_type "
        f"{config.get('position_embedding_type')!r} is not supported; supported are: {supported}"
    )
