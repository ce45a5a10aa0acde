"""What late chunking costs beside token vectors, and how windows join.

    python -m bench.models.bench_late_chunking [--model FOLDER] [--window 512 --overlap 128] [--json FILE]

Cost: `encode_chunks` on a document that fills one window, beside `encode(output_value="token_embeddings")` on the
same, in turn. Seams: tokens that two neighbouring windows both see have two vectors, of which `encode_chunks` takes
one. Shown is the cosine of the two, where it goes over from one window to the next ("seam"), at the far ends of what
the windows share ("edge"), which a rule that keeps the earlier window's vectors would go by, and of the mean of the
tokens around the seam, as of a chunk there. The document is the language reference that every CPython carries. What
very long documents need of memory: `bench_memory`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.models.texts import long_document
from bench.record import busy_warning, model_name, write_json
from bench.timing import Spread, interleave, speedup

if TYPE_CHECKING:
    from longspan import Encoder

MAX_COST: Final = 1.05  # times that of token vectors
SEAM_WINDOWS: Final = 20
SEAM_CHUNK: Final = 64  # tokens of the chunk around a seam, or all that the windows share if they are fewer


def measure_cost(encoder: Encoder, seconds: float) -> Spread:
    """How many times the time of token vectors late chunking takes."""
    document = long_document(encoder, encoder.max_length)
    times = interleave(
        {
            "tokens": lambda: encoder.encode(document, output_value="token_embeddings", on_truncate="ignore"),
            "chunks": lambda: encoder.encode_chunks(document, max_length=encoder.max_length, chunk_tokens=64),
        },
        seconds=seconds,
    )
    return speedup(times["tokens"], times["chunks"])


def measure_seams(encoder: Encoder, window: int, overlap: int) -> dict[str, list[float]]:
    """Cosines of the two vectors of tokens, or of tokens' means, that neighbouring windows share, by place."""
    from longspan.late_chunking import plan_windows

    ids = encoder.tokenizer.encode([long_document(encoder, SEAM_WINDOWS * window)], max_length=10**9)[0].ids
    windows = plan_windows(ids, 1, 1, window=window, overlap=overlap, strategy="context")[:SEAM_WINDOWS]
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


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0, or 1 where a limit is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.models.bench_late_chunking", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", help="a folder, or a Hugging Face id; the demo's model if not given")
    parser.add_argument("--seconds", type=float, default=10, help="for the comparison of costs (%(default)s)")
    parser.add_argument("--window", type=int, help="tokens of a window; the model's own limit if not given")
    parser.add_argument("--overlap", type=int, help="tokens that windows share; as encode_chunks if not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    from longspan import Encoder
    from longspan.demo import find_demo_model
    from longspan.late_chunking import default_overlap

    model = options.model or str(find_demo_model())
    encoder = Encoder(model)
    cost = measure_cost(encoder, options.seconds)
    print(f"cost     {cost.text(3)} times that of token vectors, {encoder.max_length} tokens; at most {MAX_COST}")
    window = options.window or encoder.max_length
    overlap = default_overlap(window) if options.overlap is None else options.overlap
    seams = measure_seams(encoder, window, overlap)
    print(f"cosines of two windows' vectors, windows of {window} that share {overlap}:")
    for name, cosines in seams.items():
        print(f"{name:<8} {statistics.median(cosines):.3f}, least {min(cosines):.3f}, of {len(cosines)}")
    if warning := busy_warning():
        print(warning)
    if options.json is not None:
        body = {"model": model_name(model), "cost": cost.median, "window": window, "overlap": overlap, "cosines": seams}
        write_json(options.json, "models.late_chunking", body)
    return 0 if cost.median <= MAX_COST else 1


if __name__ == "__main__":
    sys.exit(main())
