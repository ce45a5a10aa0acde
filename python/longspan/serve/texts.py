"""From a client's texts to token ids: the prompt, the limit, and what was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from longspan.serve.errors import RequestError
from longspan.serve.tasks import Meaning

if TYPE_CHECKING:
    from longspan.encoder import Encoder

Direction = Literal["right", "left"]  # the end that is cut


@dataclass(frozen=True, slots=True, eq=False)
class TextPayload:
    """A text, ready to be computed."""

    ids: np.ndarray  # (tokens,) int32
    task: str | None
    pooled: np.ndarray | None  # (tokens,) bool: what a mean counts; None for all
    truncated: int = 0  # tokens that were cut off
    is_partly_read: bool = False  # more was cut off than that: a long text is read no further than it needs

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
    direction: Direction | None = None,
) -> list[TextPayload]:
    """Tokenize prompt + text of each, cut to `max_length`.

    Args: direction: the end that is cut; None for what the checkpoint says.
    Raises: RequestError, a text gives no token at all.
    """
    prompts = [each.prompt for each in meanings]
    try:
        tokenized = encoder.tokenizer.encode(texts, prompt=prompts, max_length=max_length, truncation_side=direction)
    except ValueError as error:
        raise RequestError("tokenization", str(error), field="input", status=400) from None
    masks: Sequence[np.ndarray | None] = [None] * len(texts)
    if (kept := encoder.pooled_tokens(tokenized, prompts)) is not None:
        masks = kept
    return [
        TextPayload(text.ids, each.task, mask, text.truncated, text.unread > 0)
        for text, each, mask in zip(tokenized, meanings, masks, strict=True)
    ]
