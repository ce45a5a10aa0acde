"""Tokens a second of a whole model, from text to vectors, beside the runtimes that people use.

    python -m bench.models.bench_encode [--model FOLDER] [--dtype D] [--full] [--json FILE]

Short texts (6 to 32 words), passages (90 to 200) and ragged ones (4 to 400, lognormal), the same for all; every second
one of them in the short form. Runtimes that pad get what their users give them: texts sorted by length, in the best of
a few batch sizes. Vectors are held against a forward pass in float64 first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from ..case import Case, Setting
from ..command import main
from .encoding import encode_case
from .texts import TEXT_SETS, make_texts

BUDGET: Final = 120  # seconds of the short form, about


def cases(setting: Setting) -> Iterator[Case]:
    """One a set of texts."""
    for name in TEXT_SETS:
        texts = make_texts(name)
        yield encode_case("encode", {"texts": name}, texts[::2] if setting.is_short else texts, setting)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_encode", __doc__, cases))
