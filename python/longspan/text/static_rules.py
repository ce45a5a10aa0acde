"""What of a text counts for a static model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

if TYPE_CHECKING:
    from longspan.models.spec import StaticSpec
    from longspan.text.tokenizer import TokenizedText


@dataclass(frozen=True, slots=True)
class StaticRules:
    """model2vec's rules; sentence-transformers' StaticEmbedding counts every token."""

    unknown_id: int | None  # the token that is left out after the cut
    token_chars: int | None  # characters of a token of the vocabulary, their median; None cuts by tokens alone

    @classmethod
    def of(cls, tokenizer: Tokenizer, spec: StaticSpec) -> StaticRules:
        """Read off the tokenizer, whose special tokens are taken away."""
        tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1")
        model = json.loads(tokenizer.to_str())["model"]
        unknown = model.get("unk_id")
        if unknown is None and isinstance(model.get("unk_token"), str):
            unknown = tokenizer.token_to_id(model["unk_token"])
        lengths = sorted(map(len, tokenizer.get_vocab(with_added_tokens=True)))
        middle = (lengths[(len(lengths) - 1) // 2] + lengths[len(lengths) // 2]) // 2 if lengths else 1
        return cls(unknown if spec.drops_unknown else None, max(1, middle) if spec.cuts_characters else None)

    def cut(self, text: str, limit: int) -> str:
        """The characters that can hold the first `limit` tokens, by the median."""
        return text if self.token_chars is None else text[: limit * self.token_chars]

    def counted(self, text: TokenizedText) -> TokenizedText:
        """Without unknown tokens."""
        if self.unknown_id is None or not (text.ids == self.unknown_id).any():
            return text
        kept = text.ids != self.unknown_id
        return replace(text, ids=text.ids[kept], offsets=text.offsets[kept], special_mask=text.special_mask[kept])
