"""What rows a model wants for pairs of a query and a document, and the tokenizer's own template for them.

Decoders have prompts instead: `prompts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.spec import ModelSpec
from longspan.text.pairs import PairRow, PairTemplate, pair_rows
from longspan.text.tokenizer import TextTokenizer
from longspan.text.tokenizer_config import Side

Pairs = Sequence[tuple[str, str]]

# Tokenizers that make no token types, whatever the model has rows for: transformers' `model_input_names` of the class.
TYPELESS: Final = ("Roberta", "XLMRoberta", "Camembert", "MPNet", "DistilBert", "Qwen2", "GPT2", "Gemma", "Llama")


@dataclass(frozen=True, slots=True)
class Cut:
    """How pairs are cut: tokens of a row and of its query at most, see `pairs.kept`; and at which end of a text."""

    max_length: int
    max_query_length: int | None = None
    side: Side | None = None  # None for what the tokenizer's settings say


class RowFormat(Protocol):
    """How pairs become rows."""

    @property
    def num_fixed(self) -> int:
        """Tokens of a row that belong to neither text."""

    @property
    def num_beside(self) -> int:
        """Tokens of a row that `Cut.max_length` does not count."""

    @property
    def takes_instruction(self) -> bool:
        """Whether a row can hold an instruction."""

    @property
    def cuts_queries(self) -> bool:
        """Whether a query can be cut by itself, to `Cut.max_query_length`."""

    @property
    def max_length(self) -> int | None:
        """Tokens of a row by convention; None where the model's own limit is one."""

    def rows(self, pairs: Pairs, cut: Cut, instruction: str | None) -> list[PairRow]:
        """One row a pair."""


@dataclass(frozen=True, slots=True, eq=False)
class PairFormat:
    """The tokenizer's own template for pairs."""

    tokenizer: TextTokenizer
    template: PairTemplate
    with_types: bool
    pad_id: int | None = None  # left out at the end of a row
    num_beside: int = 0
    takes_instruction: bool = False
    cuts_queries: bool = True
    max_length: int | None = None

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, spec: ModelSpec, tokenizer: TextTokenizer, *, pad_id: int | None = None
    ) -> PairFormat:
        """CheckpointError, the template is none for pairs, or has more token types than the model.

        Args:
            pad_id: of a decoder's classifier, which transformers reads at the last token that is not this one, even
                where the template ends in it.
        """
        template = PairTemplate.of(tokenizer)
        with_types = spec.token_types > 1 and template.num_types > 1 and _makes_types(checkpoint)
        if with_types and template.num_types > spec.token_types:
            raise CheckpointError(
                f"{tokenizer.source}: pairs have {template.num_types} token types, the model has {spec.token_types}"
            )
        return cls(tokenizer, template, with_types, pad_id)

    @property
    def num_fixed(self) -> int:
        """See `RowFormat`."""
        return self.template.num_special

    def rows(self, pairs: Pairs, cut: Cut, instruction: str | None) -> list[PairRow]:
        """See `RowFormat`; there is no place for an instruction."""
        rows = pair_rows(
            self.tokenizer,
            self.template,
            pairs,
            max_length=cut.max_length,
            max_query_length=cut.max_query_length,
            truncation_side=cut.side,
            with_types=self.with_types,
        )
        return rows if self.pad_id is None else [_without_end(row, self.pad_id) for row in rows]


def _without_end(row: PairRow, token: int) -> PairRow:
    """Without the tokens of this number at its end; a row of nothing else keeps its first."""
    others = np.flatnonzero(row.ids != token)
    size = int(others[-1]) + 1 if len(others) else 1
    return replace(row, ids=row.ids[:size], types=None if row.types is None else row.types[:size])


def _makes_types(checkpoint: Checkpoint) -> bool:
    config = checkpoint.tokenizer_config
    inputs = config.get_list("model_input_names", None)
    if inputs is not None:
        return "token_type_ids" in inputs
    return not config.get_str("tokenizer_class", "").startswith(TYPELESS)
