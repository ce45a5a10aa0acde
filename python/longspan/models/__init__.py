"""The families that can be loaded, one line each; a checkpoint belongs to the first that it matches."""

from __future__ import annotations

from typing import Final

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.families.bert import BERT, ELECTRA, ROBERTA
from longspan.models.families.distilbert import DISTILBERT
from longspan.models.families.eurobert import EUROBERT
from longspan.models.families.family import Family, check_numbers
from longspan.models.families.gemma import EMBEDDING_GEMMA
from longspan.models.families.gte import GTE
from longspan.models.families.jina_bert import JINA_BERT
from longspan.models.families.jina_omni import OMNI
from longspan.models.families.modernbert import MODERNBERT
from longspan.models.families.mpnet import MPNET
from longspan.models.families.nomic_bert import NOMIC_BERT
from longspan.models.families.qwen import QWEN2, QWEN3, QWEN_VL
from longspan.models.families.static import STATIC
from longspan.models.families.t5 import T5
from longspan.models.families.xlm_roberta_flash import JINA_CLIP, XLM_ROBERTA_FLASH

FAMILIES: Final[tuple[Family, ...]] = (
    BERT,
    ELECTRA,
    JINA_BERT,
    XLM_ROBERTA_FLASH,
    JINA_CLIP,
    ROBERTA,
    DISTILBERT,
    T5,
    MPNET,
    MODERNBERT,
    NOMIC_BERT,
    GTE,
    EMBEDDING_GEMMA,
    STATIC,
    QWEN2,
    QWEN3,
    QWEN_VL,
    EUROBERT,
    OMNI,
)


def detect_family(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint; CheckpointError, listing what is supported, if it is of none, or naming a number in
    its config that no model has."""
    for family in FAMILIES:
        if family.matches(checkpoint):
            check_numbers(checkpoint.config)
            return family
    config = checkpoint.config
    named = [name for name in config.get_list("architectures", None) or [] if isinstance(name, str)]
    classes = f" ({', '.join(named)})" if named else ""
    positions = config.get("position_embedding_type")
    beside = "" if positions is None else f" with position_embedding_type {positions!r}"
    supported = "; ".join(family.supports for family in FAMILIES)
    raise CheckpointError(
        f"{config.source}: model_type {config.get('model_type')!r}{classes}{beside} is not supported; supported are: "
        f"{supported}"
    )
