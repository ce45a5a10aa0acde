"""What a call left out of its inputs, and what it says of it."""

from __future__ import annotations

from dataclasses import dataclass

from longspan.pipeline.blocks import Block
from longspan.pipeline.options import OnTruncate
from longspan.text.tokenizer import TokenizedText
from longspan.vectors.results import truncation_text


@dataclass(slots=True)
class Cuts:
    """The count of one call of `encode`.

    Attributes:
        on_truncate: the caller's.
        limit: tokens of a text that count.
        num_inputs: of the call.
        rate: samples a second of what models hear.
    """

    on_truncate: OnTruncate
    limit: int
    num_inputs: int
    rate: int | None
    num_texts: int = 0
    num_tokens: int = 0
    num_characters: int = 0
    num_with_sound: int = 0
    num_samples: int = 0

    def add(self, block: Block[TokenizedText]) -> None:
        """Count a block's. ValueError, `on_truncate` is "error" and something was cut."""
        for place, text in block.texts.items():
            if text.truncated and self.on_truncate == "error":
                raise ValueError(
                    f"encode: texts[{block.start + place}] has {text.truncated} tokens more than {self.limit}"
                )
            self.num_texts += text.truncated > 0
            self.num_tokens += text.truncated
            self.num_characters += text.unread
        for place, one in block.sequences.items():
            if one.cut_samples and self.on_truncate == "error":
                raise ValueError(
                    f"encode: inputs[{block.start + place}] has {self._seconds(one.cut_samples)} seconds of sound more "
                    f"than the model hears"
                )
            self.num_with_sound += one.cut_samples > 0
            self.num_samples += one.cut_samples

    @property
    def warnings(self) -> list[str]:
        """What is to be said at the end."""
        if self.on_truncate != "warn":
            return []
        said = []
        if self.num_texts:
            counts = (self.num_texts, self.num_tokens, self.num_inputs, self.limit, self.num_characters)
            said.append(truncation_text(*counts))
        if self.num_with_sound:
            inputs = f"{self.num_with_sound} of {self.num_inputs} inputs" if self.num_inputs > 1 else "the input"
            said.append(
                f"encode: {inputs} had sounds longer than the model hears; {self._seconds(self.num_samples)} seconds "
                f"were left out"
            )
        return said

    def _seconds(self, samples: int) -> str:
        return f"{samples / (self.rate or 1):.4g}"
