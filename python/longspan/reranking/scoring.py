"""What of a checkpoint makes it a reranker: which head it has, how its pairs become rows, what a score is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.modules import makes_scores
from longspan.errors import CheckpointError
from longspan.pipeline.loaded_model import OpenedModel
from longspan.pipeline.purpose import PURPOSES, purpose_of
from longspan.reranking.activation import ActivationName, default_activation
from longspan.reranking.formats import PairFormat, RowFormat
from longspan.reranking.head import Head, ModulesHead, finite_rows, load_head, row_head
from longspan.reranking.head_map import find_head
from longspan.reranking.listwise import FIRST, SECOND, MarkerHead
from longspan.reranking.prompts import MxbaiFormat, YesNoFormat
from longspan.text.tokenizer import TextTokenizer

PairFormatName = Literal["pair", "qwen3", "mxbai"]


@dataclass(frozen=True, slots=True)
class Judge:
    """A decoder that judges a pair: the format of its pairs, the tokens whose logits are compared, and what its
    published code makes of the difference."""

    pair_format: PairFormatName
    tokens: tuple[str, str]
    activation: ActivationName


JUDGES: Final = {
    "qwen3": Judge("qwen3", ("yes", "no"), "sigmoid"),
    "qwen2": Judge("mxbai", ("1", "0"), "identity"),
}


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a model scores.

    Attributes:
        head: from hidden states to logits, or to the vectors at a listwise model's markers.
        tensors: what the head has read.
        row_format: of models that score a pair by itself; None of a listwise one.
        activation: of the scores.
    """

    head: Head | ModulesHead | MarkerHead
    tensors: tuple[str, ...]
    row_format: RowFormat | None
    activation: ActivationName

    @property
    def longest(self) -> int | None:
        """Tokens of a row by the family's convention; None where it has none."""
        return None if self.row_format is None else self.row_format.max_length


def is_reranker(checkpoint: Checkpoint) -> bool:
    """Whether its own files say that it scores pairs; a language model that could does not count."""
    if any(module.kind == "LogitScore" for module in checkpoint.modules) or makes_scores(checkpoint.modules):
        return True
    architectures = checkpoint.config.get_list("architectures", [])
    named = ("ForSequenceClassification", "JinaForRanking")
    return checkpoint.pooling is None and any(isinstance(one, str) and one.endswith(named) for one in architectures)


def read_scoring(opened: OpenedModel, tokenizer: TextTokenizer, pair_format: PairFormatName | None) -> Scoring:
    """Told by the tensors' names, by config.json, and for decoders by what family they are.

    Raises: CheckpointError, it is no reranker, or its head is damaged or not supported.
    """
    checkpoint, spec, engine = opened.checkpoint, opened.spec, opened.engine
    if makes_scores(checkpoint.modules):
        scoring_head = ModulesHead.load(checkpoint, spec.hidden_size, engine)
        activation = default_activation(checkpoint, scoring_head.num_labels)
        return Scoring(scoring_head, (), _format(pair_format or "pair", opened, tokenizer), activation)
    _check_modules(checkpoint)
    names = find_head(checkpoint, spec)
    if names is None and FIRST in checkpoint.tensor_names:
        return Scoring(MarkerHead.load(checkpoint, spec.hidden_size, engine), (FIRST, SECOND), None, "identity")
    judge = JUDGES.get(checkpoint.config.get_str("model_type", ""))
    is_bare = names is not None and _reads_bare_pairs(checkpoint)
    name = pair_format or ("pair" if judge is None or is_bare else judge.pair_format)
    row_format = _format(name, opened, tokenizer, is_decoder=names is not None and names.pooling == "lasttoken")
    if names is not None:
        head = load_head(checkpoint, names, spec.hidden_size, engine)
        _check_labels(checkpoint, head.num_labels)
        return Scoring(head, names.names, row_format, default_activation(checkpoint, head.num_labels))
    if judge is None or not _is_language_model(checkpoint):
        raise CheckpointError(
            f"{checkpoint.folder} is no reranker: it has neither a sequence classifier's head nor a projector, nor is "
            f"it a language model of a known one; longspan.Encoder loads what makes vectors"
        )
    activation = judge.activation if checkpoint.activation_fn is None else default_activation(checkpoint, 1)
    return Scoring(_judging_head(opened, judge, tokenizer), (), row_format, activation)


def _reads_bare_pairs(checkpoint: Checkpoint) -> bool:
    """Whether sentence-transformers saved the classifier, and reads its pairs without a prompt: it has no template."""
    files = [checkpoint.model_folder / f"chat_template.{kind}" for kind in ("jinja", "json")]
    has_template = checkpoint.tokenizer_config.get("chat_template") is not None or any(map(os.path.lexists, files))
    return bool(checkpoint.modules) and not has_template


def _format(
    name: PairFormatName, opened: OpenedModel, tokenizer: TextTokenizer, *, is_decoder: bool = False
) -> RowFormat:
    if name == "qwen3":
        return YesNoFormat.of(tokenizer)
    if name == "mxbai":
        return MxbaiFormat.of(tokenizer)
    pad_id = opened.checkpoint.config.get_int("pad_token_id", None) if is_decoder and opened.spec.causal else None
    return PairFormat.of(opened.checkpoint, opened.spec, tokenizer, pad_id=pad_id)


def _is_language_model(checkpoint: Checkpoint) -> bool:
    """Whether it writes text: embedding models say so too, but have a Pooling module."""
    architectures = checkpoint.config.get_list("architectures", [])
    is_named = any(isinstance(name, str) and name.endswith("ForCausalLM") for name in architectures)
    return is_named and checkpoint.pooling is None


def _judging_head(opened: OpenedModel, judge: Judge, tokenizer: TextTokenizer) -> Head:
    """h_last . (E_yes - E_no): two rows of the output table, never the whole vocabulary."""
    checkpoint, spec = opened.checkpoint, opened.spec
    ids: list[int] = []
    for token in judge.tokens:
        number = tokenizer.token_id(token)
        if number is None or number >= spec.vocab_size:
            raise CheckpointError(f"{tokenizer.source} has no token {token!r}, whose logit is the score")
        ids.append(number)
    for module in checkpoint.modules:
        asked = [module.config.get_int(f"{key}_token_id", None) for key in ("true", "false")]
        if module.kind == "LogitScore" and asked != ids:
            raise CheckpointError(
                f"{module.config.source}: the score is of the tokens {asked}, but the prompt of {judge.pair_format!r} "
                f"asks for {ids}; prompts of other models are templates, which are not run"
            )
    is_tied = checkpoint.config.get_bool("tie_word_embeddings", "lm_head.weight" not in checkpoint.tensor_names)
    table = opened.names.word_embeddings if is_tied else "lm_head.weight"
    yes, no = finite_rows(checkpoint, table, ids, (spec.vocab_size, spec.hidden_size)).astype(np.float64)
    return row_head((yes - no).astype(np.float32), opened.engine)


def _check_modules(checkpoint: Checkpoint) -> None:
    kinds = [module.kind for module in checkpoint.modules]
    if any(kind not in ("Transformer", "LogitScore") for kind in kinds):
        raise CheckpointError(
            f"{checkpoint.folder} is no reranker: modules.json of one may list a Transformer and a LogitScore, or "
            f"end in a Dense that makes scores, and this one has {', '.join(kinds)}; "
            f"open it with {PURPOSES[purpose_of(checkpoint)][1]}"
        )


def _check_labels(checkpoint: Checkpoint, num_labels: int) -> None:
    """CheckpointError if config.json says another number of labels than the head has."""
    config = checkpoint.config
    names = config.get_object("id2label", None)
    said = config.get_int("num_labels", None if names is None else len(names))
    if said is not None and said != num_labels:
        raise CheckpointError(f"{config.source} says {said} labels, but the head's weights have {num_labels}")
