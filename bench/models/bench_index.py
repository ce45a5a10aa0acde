"""What an index of a million codes takes (ten in the full form): to grow, to keep on disk, to load, to answer first.

    python -m bench.models.bench_index [--full] [--json FILE]

The first search checks every code against the checksums in the file; later ones do not.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from ..case import OURS, Setting
from ..command import new_report, run_command
from ..results import Entry, Report, Result
from ..table import result_text
from ..timing import Spread
from ..watch import Watch

BUDGET: Final = 4  # seconds of the short form, about
ROWS, SHORT_ROWS = 10_000_000, 1_000_000
BYTES: Final = 128  # a code
BATCH: Final = 100_000  # codes to an `add`


def run(setting: Setting) -> Report:
    """Measures each step as often as there are rounds."""
    watch = Watch.now()
    rows = SHORT_ROWS if setting.is_short else ROWS
    batch = np.random.default_rng(1).integers(0, 256, (BATCH, BYTES), dtype=np.uint8)
    seconds: dict[str, list[float]] = {"add": [], "save": [], "load": [], "first search": []}
    with tempfile.TemporaryDirectory() as name:
        for number in range(setting.rounds):
            folder = Path(name) / str(number)
            for step, call in steps(batch, rows, folder):
                started = time.perf_counter()
                call()
                seconds[step].append(time.perf_counter() - started)
    results = tuple(
        Result("index", {"codes": rows, "bits": 8 * BYTES, "step": step}, (_entry(each, rows),), "GB/s")
        for step, each in seconds.items()
    )
    for result in results:
        print(result_text(result))
    return new_report(results, setting, watch)


def steps(batch: np.ndarray, rows: int, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is timed, in order; what lies between two steps is not."""
    from longspan import BinaryIndex

    index = BinaryIndex(8 * BYTES)
    yield "add", lambda: [index.add(batch) for _ in range(rows // BATCH)]
    yield "save", lambda: index.save(folder)
    yield "load", lambda: BinaryIndex.load(folder)
    loaded = BinaryIndex.load(folder)
    yield "first search", lambda: loaded.search(batch[:1], 10, rescore=False)


def _entry(seconds: list[float], rows: int) -> Entry:
    value = Spread.of(seconds)
    moved = rows * BYTES
    return Entry(OURS, "bits", value=value, rounds=tuple(seconds), bytes=moved, rate=moved / value.median * 1e-9)


if __name__ == "__main__":
    sys.exit(run_command("bench.models.bench_index", __doc__, run))
