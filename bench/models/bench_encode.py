"""Tokens a second of a whole model, from text to vectors, beside the runtimes that people use.

    python -m bench.models.bench_encode [--model FOLDER] [--dtype D] [--full] [--json FILE]

Short texts (6 to 32 words), passages (90 to 200) and ragged ones (4 to 400, lognormal), the same for all. Runtimes
that pad get what their users give them: texts sorted by length, in the best of a few batch sizes. Vectors are held
against a forward pass in float64 first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from ..case import Case, Setting
from ..command import main
from .encoding import encode_case
from .texts import TEXT_SETS, make_texts

BUDGET: Final = 90  # seconds of the short form, about


def cases(setting: Setting) -> Iterator[Case]:
    """One a set of texts."""
    for name in TEXT_SETS:
        yield encode_case("encode", {"texts": name}, make_texts(name), setting)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_encode", __doc__, cases))
