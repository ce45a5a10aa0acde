"""Texts of given lengths for the benches: runs of words from the language reference that every CPython carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from longspan import Encoder

SEED: Final = 20260131


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many words the texts of a set have."""

    num_texts: int
    least: int
    most: int
    median: float | None  # lognormal around it, cut at the ends; uniform where None
    sigma: float = 1.0  # of the logarithm

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(num_texts,) int64."""
        if self.median is None:
            return rng.integers(self.least, self.most, self.num_texts, endpoint=True)
        lengths = np.exp(rng.normal(np.log(self.median), self.sigma, self.num_texts))
        return np.clip(np.rint(lengths), self.least, self.most).astype(np.int64)


# A search query or a sentence; a passage of a corpus cut for retrieval; a mix of everything, as documents come.
TEXT_SETS: Final[dict[str, Lengths]] = {
    "short": Lengths(256, 6, 32, None),
    "passage": Lengths(64, 90, 200, None),
    "ragged": Lengths(96, 4, 400, 60),
}


def make_texts(name: str) -> list[str]:
    """The texts of a set, the same in every run under one version of Python."""
    return draw_texts(TEXT_SETS[name], [SEED, list(TEXT_SETS).index(name)])


def draw_texts(lengths: Lengths, seed: Sequence[int]) -> list[str]:
    """Runs of words from random places."""
    from pydoc_data.topics import topics

    rng = np.random.default_rng(seed)
    # Words of signs alone are the ruling of tables: one of them is dozens of tokens, and a text of a few words with one
    # in it would cost a runtime that pads far more than real text does.
    words = [word for name in sorted(topics) for word in topics[name].split() if any(map(str.isalnum, word))]
    counts = lengths.draw(rng)
    starts = rng.integers(0, len(words) - lengths.most, lengths.num_texts)
    return [" ".join(words[start : start + count]) for start, count in zip(starts, counts, strict=True)]


def long_document(encoder: Encoder, num_tokens: int) -> str:
    """Pages of the reference, again and again, with `num_tokens` tokens or a few more."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    size = len(encoder.tokenizer.encode([text], max_length=10**9)[0].ids)
    whole, rest = divmod(num_tokens, size)
    return (text + "\n\n") * whole + text[: len(text) * (rest + 1) // size]
