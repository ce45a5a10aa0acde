"""What late chunking costs beside token vectors alone, and how windows join.

    python -m bench.models.bench_late_chunking [--model FOLDER] [--full] [--json FILE]

Cost: `encode_chunks` on a document that fills one window, beside `encode(output_value="token_embeddings")` on the
same, in turn. Seams: tokens that two neighbouring windows both see have two vectors, of which `encode_chunks` takes
one. Shown is 1 - cosine of the two, where it goes over from one window to the next ("seam"), at the far ends of what
the windows share ("edge"), which a rule that keeps the earlier window's vectors would go by, and of the mean of the
tokens around the seam, as of a chunk there. The document is the language reference that every CPython carries. What
very long documents need of memory: bench memory.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from ..case import OURS, Setting
from ..command import new_report, run_command
from ..contest import PAUSE
from ..results import Entry, Report, Result
from ..table import result_text
from ..timing import Spread, speedup, take_turns
from ..watch import Watch
from .encoding import load_ours
from .texts import long_document

if TYPE_CHECKING:
    from longspan import Encoder

BUDGET: Final = 14  # seconds of the short form, about
MAX_COST: Final = 1.05  # times that of token vectors
MIN_SECONDS: Final = 3.0  # a contestant: what is looked for are hundredths
SEAM_WINDOWS, SHORT_SEAM_WINDOWS = 20, 6
SEAM_CHUNK: Final = 64  # tokens of the chunk around a seam, or all that the windows share if they are fewer


def measure_cost(encoder: Encoder, setting: Setting) -> tuple[Entry, ...]:
    """Seconds of token vectors and of late chunking, and how many times as long the second takes, round by round."""
    document = long_document(encoder, encoder.max_length)
    times = take_turns(
        {
            "tokens": lambda: encoder.encode(document, output_value="token_embeddings", on_truncate="ignore"),
            "chunks": lambda: encoder.encode_chunks(document, max_length=encoder.max_length, chunk_tokens=64),
        },
        seconds=max(setting.seconds, MIN_SECONDS),
        rounds=setting.rounds,
        pause=PAUSE,
    )
    tokens, chunks = (Spread.of(times[name].rounds) for name in ("tokens", "chunks"))
    ratio = speedup(times["tokens"].rounds, times["chunks"].rounds)
    return (
        Entry(f"{OURS} token vectors", "float32", value=tokens, rounds=tuple(times["tokens"].rounds)),
        Entry(f"{OURS} chunks", "float32", value=chunks, rounds=tuple(times["chunks"].rounds)),
        Entry(f"{OURS} chunks over token vectors", "float32", "times", ratio, limit=MAX_COST),
    )


def measure_seams(encoder: Encoder, num_windows: int, overlap: int) -> dict[str, list[float]]:
    """Cosines of the two vectors of tokens, or of tokens' means, that neighbouring windows share, by place."""
    from longspan.late_chunking.windows import plan_windows

    window = encoder.max_length
    ids = encoder.tokenizer.encode([long_document(encoder, num_windows * window)], max_length=10**9)[0].ids
    windows = plan_windows(ids, 1, 1, window=window, overlap=overlap, strategy="context")[:num_windows]
    states = encoder.encode_ids([one.ids for one in windows], output_value="token_embeddings")
    assert isinstance(states, list)
    cosines: dict[str, list[float]] = {"seam": [], "edge": [], "chunk": []}
    for (before, left), (after, right) in pairwise(zip(windows, states, strict=True)):
        # The tokens of text that both hold, and the first that comes from the later one.
        first, end, seam = after.shift + 1, before.shift + len(before.ids) - 1, after.start
        reach = SEAM_CHUNK // 2
        for name, start, stop in (
            *(("seam", place, place + 1) for place in (seam - 1, seam)),
            *(("edge", place, place + 1) for place in (first, end - 1)),
            ("chunk", max(first, seam - reach), min(end, seam + reach)),
        ):
            rows = [states[start - one.shift : stop - one.shift] for one, states in ((before, left), (after, right))]
            cosines[name].append(_cosine(*(row.mean(axis=0) for row in rows)))
    return cosines


def run(setting: Setting) -> Report:
    """Cost, then seams."""
    from longspan.late_chunking.windows import default_overlap

    watch = Watch.now()
    encoder = load_ours(setting.model, setting.dtypes[0], setting.threads)
    results = [Result("late_chunking", {"cost": f"{encoder.max_length} tokens"}, measure_cost(encoder, setting))]
    usual = default_overlap(encoder.max_length)
    for overlap in (usual, 2 * usual):
        seams = measure_seams(encoder, SHORT_SEAM_WINDOWS if setting.is_short else SEAM_WINDOWS, overlap)
        far = {name: Spread.of([1 - cosine for cosine in cosines]) for name, cosines in seams.items()}
        entries = tuple(Entry(f"{OURS} {name}", "float32", "1 - cosine", each) for name, each in far.items())
        results.append(Result("late_chunking", {"windows": encoder.max_length, "overlap": overlap}, entries))
    for result in results:
        print(result_text(result))
    return new_report(tuple(results), setting, watch)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


if __name__ == "__main__":
    sys.exit(run_command("bench.models.bench_late_chunking", __doc__, run))
