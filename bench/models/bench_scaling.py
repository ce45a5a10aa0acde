"""Cost of a token as the batch grows from 1 text to 4096, and as texts grow longer.

    python -m bench.models.bench_scaling [--model FOLDER] [--dtype D] [--full] [--json FILE]

Batches of texts of 6 to 32 words; and 16 texts of one length each. The short form is ours alone, unless peers are told.
The slowest tokens are a single query's: bench latency looks at those.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from ..case import Case, Setting
from ..command import main
from .encoding import encode_case
from .texts import SEED, Lengths, draw_texts

BUDGET: Final = 30  # seconds of the short form, about
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SHORT_BATCHES: Final = (1, 8, 64, 256)
WORDS: Final = (4, 8, 16, 32, 64, 96, 128, 160)
SHORT_WORDS: Final = (8, 128)
TEXTS_OF_A_LENGTH: Final = 16


def cases(setting: Setting) -> Iterator[Case]:
    """By batch, then by length."""
    for count in SHORT_BATCHES if setting.is_short else BATCHES:
        texts = draw_texts(Lengths(count, 6, 32, None), [SEED, 10, count])
        yield _case({"grows": "batch", "texts": count}, texts, setting, "texts")
    for words in SHORT_WORDS if setting.is_short else WORDS:
        texts = draw_texts(Lengths(TEXTS_OF_A_LENGTH, words, words, None), [SEED, 11, words])
        yield _case({"grows": "length", "words": words}, texts, setting, "words")


def _case(labels: dict[str, str | int], texts: list[str], setting: Setting, plot: str) -> Case:
    chosen = replace(setting, peers=()) if setting.is_short and setting.peers is None else setting
    case = encode_case("scaling", labels, texts, chosen, plot)
    return replace(case, build=lambda _: case.build(chosen))


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_scaling", __doc__, cases))
