"""What a late-interaction checkpoint's files say of its token ids: markers, lengths, query expansion, skip lists.

Source: ColBERT, arXiv:2004.12832; jina-colbert-v2, arXiv:2408.16672; the files and defaults of colbert-ai, PyLate and
sentence-transformers' MultiVectorEncoder.
"""

from __future__ import annotations

import dataclasses
import string
from dataclasses import dataclass
from typing import Final, Literal

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.late_interaction.token_head import V4
from longspan.models.families.family import read_choice, require
from longspan.text.special_tokens import special_token

SkipRule = Literal["colbert", "pylate"]
SKIP_RULES: Final[tuple[SkipRule, ...]] = ("colbert", "pylate")


@dataclass(frozen=True, slots=True)
class ColbertRules:
    """How a checkpoint's own tools make token ids. Lengths are in tokens, special ones and the marker included."""

    query_maxlen: int
    doc_maxlen: int
    query_marker: str | None = None
    doc_marker: str | None = None
    expansion_token: str | None = None  # what fills a query up to query_maxlen; None: nothing does
    expansion_length: int | None = None  # up to where it does, of queries that may be longer; None: query_maxlen
    attends_to_expansion: bool = True  # whether tokens see the expansion tokens, which always see the others
    skip_rule: SkipRule | None = None
    skip_words: tuple[str, ...] = tuple(string.punctuation)
    pad_token: str | None = None  # colbert-ai takes it for padding even where a text spells it out

    @property
    def settings(self) -> dict[str, object]:
        """All of them, for the fingerprint; what no checkpoint had before it was there only where it is set."""
        settings = dataclasses.asdict(self)
        if self.expansion_length is None:
            del settings["expansion_length"]
        return settings


def read_rules(checkpoint: Checkpoint, limit: int) -> ColbertRules:
    """Those of the checkpoint's layout; lengths may go up to `limit`.

    Raises: CheckpointError, a key has a wrong type, a length is out of bounds, or it says what is not supported.
    """
    mask = next((module.config for module in checkpoint.modules if module.kind == "MultiVectorMask"), None)
    if mask is not None:
        return _masked_rules(checkpoint, mask, limit)
    if checkpoint.modules:
        return _pylate_rules(checkpoint, limit)
    if V4 in checkpoint.tensor_names:  # prompts of plain text, and a vector for every token
        return ColbertRules(limit, limit)
    return _stanford_rules(checkpoint, limit)


def override(
    rules: ColbertRules,
    *,
    query_maxlen: int | None,
    doc_maxlen: int | None,
    query_marker: str | None,
    doc_marker: str | None,
    attends_to_expansion: bool | None,
    mask_punctuation: bool | None,
) -> ColbertRules:
    """`rules` with what is not None in the place of what the files say; an empty marker is none."""
    skip_rule = rules.skip_rule
    if mask_punctuation is not None:
        skip_rule = (skip_rule or "colbert") if mask_punctuation else None
    return dataclasses.replace(
        rules,
        query_maxlen=rules.query_maxlen if query_maxlen is None else query_maxlen,
        doc_maxlen=rules.doc_maxlen if doc_maxlen is None else doc_maxlen,
        query_marker=rules.query_marker if query_marker is None else query_marker or None,
        doc_marker=rules.doc_marker if doc_marker is None else doc_marker or None,
        attends_to_expansion=rules.attends_to_expansion if attends_to_expansion is None else attends_to_expansion,
        skip_rule=skip_rule,
    )


def _stanford_rules(checkpoint: Checkpoint, limit: int) -> ColbertRules:
    """artifact.metadata's; absent keys have colbert-ai's defaults."""
    metadata = JsonObject.read_optional(checkpoint.folder / "artifact.metadata")
    require(metadata, "ColBERT", similarity="cosine", interaction="colbert", relu=False, reranker=False)
    return ColbertRules(
        query_maxlen=_read_length(metadata, "query_maxlen", 32, limit),
        doc_maxlen=_read_length(metadata, "doc_maxlen", min(220, limit), limit),
        query_marker=metadata.get_str("query_token_id", "[unused0]"),
        doc_marker=metadata.get_str("doc_token_id", "[unused1]"),
        expansion_token=_filler(checkpoint, "mask_token"),
        attends_to_expansion=metadata.get_bool("attend_to_mask_tokens", False),
        skip_rule="colbert" if metadata.get_bool("mask_punctuation", True) else None,
        pad_token=special_token(checkpoint, "pad_token"),
    )


def _masked_rules(checkpoint: Checkpoint, mask: JsonObject, limit: int) -> ColbertRules:
    """Those that sentence-transformers writes: skip words into its MultiVectorMask, the rest into the Transformer's
    settings. Markers are part of its prompts."""
    require(mask, "MultiVectorMask", skiplist_tasks=["document"], keep_only_token_ids=None)
    settings = checkpoint.modules[0].config
    own_limit = min(checkpoint.max_seq_length or limit, limit)
    words = _read_words(mask)
    rules = ColbertRules(
        query_maxlen=_read_length(settings, "query_length", own_limit, limit),
        doc_maxlen=_read_length(settings, "document_length", own_limit, limit),
        skip_rule="pylate" if words else None,
        skip_words=words,
    )
    expansion = settings.get_object("query_expansion", None)
    if expansion is None:
        return rules
    strategy = read_choice(expansion, "strategy", "", {name: name for name in ("fixed", "min")})
    length = _read_length(expansion, "length", None, limit)
    return dataclasses.replace(
        rules,
        query_maxlen=length if strategy == "fixed" else max(rules.query_maxlen, length),
        expansion_token=expansion.get_str("token", None) or _filler(checkpoint, "mask_token", "eos_token"),
        expansion_length=None if strategy == "fixed" else length,
        attends_to_expansion=expansion.get_bool("attend", False),
    )


def _pylate_rules(checkpoint: Checkpoint, limit: int) -> ColbertRules:
    """Those that PyLate writes into config_sentence_transformers.json; absent keys have its defaults."""
    config = JsonObject.read_optional(checkpoint.folder / "config_sentence_transformers.json")
    texts = _read_words(config, list(string.punctuation))
    expands = config.get_bool("do_query_expansion", True)
    return ColbertRules(
        query_maxlen=_read_length(config, "query_length", 32, limit),
        doc_maxlen=_read_length(config, "document_length", min(180, limit), limit),
        query_marker=config.get_str("query_prefix", "[Q] ") or None,
        doc_marker=config.get_str("document_prefix", "[D] ") or None,
        expansion_token=_filler(checkpoint, "mask_token", "eos_token") if expands else None,
        attends_to_expansion=config.get_bool("attend_to_expansion_tokens", False),
        skip_rule="pylate",
        skip_words=texts,
    )


def _read_words(config: JsonObject, default: list[object] | None = None) -> tuple[str, ...]:
    words = config.get_list("skiplist_words", default or [])
    texts = tuple(word for word in words if isinstance(word, str))
    if len(texts) < len(words):
        raise CheckpointError(f"{config.source}: 'skiplist_words' must be a list of strings")
    return texts


def _read_length(config: JsonObject, key: str, default: int | None, limit: int) -> int:
    length = config.get_int(key) if default is None else config.get_int(key, default)
    if not 1 <= length <= limit:
        raise CheckpointError(f"{config.source}: {key!r} must be from 1 to {limit}, got {length}")
    return length


def _filler(checkpoint: Checkpoint, *names: str) -> str:
    """The first of these special tokens that the tokenizer has."""
    for name in names:
        if (token := special_token(checkpoint, name)) is not None:
            return token
    raise CheckpointError(
        f"{checkpoint.tokenizer_config.source} names no {' or '.join(names)}, with which queries are filled up"
    )
