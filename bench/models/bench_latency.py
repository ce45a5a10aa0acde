"""Milliseconds of one query, from text to vector: the median, and the slowest twentieth and hundredth of calls.

    python -m bench.models.bench_latency [--model FOLDER] [--dtype D] [--full] [--json FILE]

A query of 8 words, as searches have them, and one of 32; each contestant answers it again and again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from ..case import Case, Setting
from ..command import main
from .encoding import encode_case
from .texts import SEED, Lengths, draw_texts

BUDGET: Final = 30  # seconds of the short form, about
WORDS: Final = (8, 32)
SHORT_WORDS: Final = (8,)
MIN_SECONDS: Final = 1.2  # a contestant; a slow runtime then still makes a hundred calls


def cases(setting: Setting) -> Iterator[Case]:
    """One a length of query."""
    for words in SHORT_WORDS if setting.is_short else WORDS:
        texts = draw_texts(Lengths(1, words, words, None), [SEED, 12, words])
        yield encode_case("latency", {"query": f"{words} words"}, texts, setting)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_latency", __doc__, cases, min_seconds=MIN_SECONDS))
