"""From a client's texts to token ids: the prompt, the limit, and what was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from longspan.pipeline.pooling import after_prompt
from longspan.serve.errors import RequestError
from longspan.serve.tasks import Meaning
from longspan.text.tokenizer import TokenizedText

if TYPE_CHECKING:
    from longspan.encoder import Encoder

Direction = Literal["right", "left"]  # the end that is cut
NO_LIMIT: Final = 1 << 30


@dataclass(frozen=True, slots=True, eq=False)
class TextPayload:
    """A text, ready to be computed."""

    ids: np.ndarray  # (tokens,) int32
    task: str | None
    pooled: np.ndarray | None  # (tokens,) bool: what a mean counts; None for all
    truncated: int = 0  # tokens that were cut off

    @property
    def identity(self) -> tuple[bytes, str | None, bytes]:
        """Equal for texts whose vectors are equal."""
        return self.ids.tobytes(), self.task, b"" if self.pooled is None else self.pooled.tobytes()


def prepare(
    encoder: Encoder,
    texts: Sequence[str],
    meanings: Sequence[Meaning],
    *,
    max_length: int,
    direction: Direction = "right",
) -> list[TextPayload]:
    """Tokenize prompt + text of each, cut to `max_length`.

    With direction "left" the beginning of a text goes, the prompt stays.
    Raises: RequestError, a text gives no token at all.
    """
    prompts = [each.prompt for each in meanings]
    limit = NO_LIMIT if direction == "left" else max_length
    try:
        tokenized = encoder.tokenizer.encode(texts, prompt=prompts, max_length=limit)
    except ValueError as error:
        raise RequestError("tokenization", str(error), field="input", status=400) from None
    if direction == "left":
        tokenized = [_without_beginning(text, max_length) for text in tokenized]
    masks: list[np.ndarray | None] = [None] * len(texts)
    if not encoder.pools_prompt and any(prompts):
        masks = [after_prompt(text.special_mask, text.num_prompt_tokens) for text in tokenized]
    return [
        TextPayload(text.ids, each.task, mask, text.truncated)
        for text, each, mask in zip(tokenized, meanings, masks, strict=True)
    ]


def _without_beginning(text: TokenizedText, max_length: int) -> TokenizedText:
    excess = len(text.ids) - max_length
    if excess <= 0:
        return text
    content = np.flatnonzero(~text.special_mask)
    first = text.num_prompt_tokens if text.num_prompt_tokens + excess <= len(content) else len(content) - excess
    kept = np.ones(len(text.ids), bool)
    kept[content[first : first + excess]] = False
    num_prompt_tokens = min(first, text.num_prompt_tokens)
    return TokenizedText(text.ids[kept], text.offsets[kept], num_prompt_tokens, excess, text.special_mask[kept])
