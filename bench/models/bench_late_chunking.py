"""What late chunking costs beside token vectors, what a very long document needs of memory, and how windows join.

    python -m bench.models.bench_late_chunking [--model FOLDER] [--tokens 100000] [--json FILE]

Cost: `encode_chunks` on a document that fills one window, beside `encode(output_value="token_embeddings")` on the
same, in turn. Memory: the most that a process held while it chunked a document of so many tokens, less what it held
when the model was loaded. Seams: tokens that two neighbouring windows both see, as cosine
of their two vectors, where one window's vectors end and the other's begin, and at the far ends of what they share. The
documents are the language reference that every CPython carries, page after page.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.record import busy_warning, write_json
from bench.timing import Spread, interleave, speedup

if TYPE_CHECKING:
    from longspan import Encoder
    from longspan.late_chunking import Window

MAX_COST: Final = 1.05  # times that of token vectors
MAX_MEMORY: Final = 300.0  # MB of 1e6 bytes
SEAM_WINDOWS: Final = 20


def long_document(encoder: Encoder, num_tokens: int) -> str:
    """Pages of the reference, again and again, with `num_tokens` tokens or a few more."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    size = len(encoder.tokenizer.encode([text], max_length=10**9)[0].ids)
    whole, rest = divmod(num_tokens, size)
    return (text + "\n\n") * whole + text[: len(text) * (rest + 1) // size]


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


def measure_memory(model: str, document: str) -> dict[str, float]:
    """MB more at the peak, tokens, seconds and chunks, from a process of its own."""
    command = [sys.executable, "-m", "bench.models.bench_late_chunking", "--model", model, "--child"]
    done = subprocess.run(command, input=document.encode(), check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def memory_child(model: str) -> None:
    """Reads the document; prints what `measure_memory` returns."""
    from longspan import Encoder

    encoder, document = Encoder(model), sys.stdin.buffer.read().decode()
    before = resident_bytes()
    # Looks again and again: the process' own peak would be that of loading the model.
    most, is_done = before, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_done.wait(0.002):
            most = max(most, resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    chunks = encoder.encode_chunks(document)
    seconds = time.perf_counter() - started
    is_done.set()
    watcher.join()
    tokens = int(chunks.token_spans[-1, 1])
    print(json.dumps({"MB": (most - before) * 1e-6, "tokens": tokens, "seconds": seconds, "chunks": len(chunks)}))


def resident_bytes() -> int:
    """What the process holds now; Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_seams(encoder: Encoder) -> dict[str, list[float]]:
    """Cosines of tokens' two vectors: at the "seam", where windows take turns, and the "edge" of what they share."""
    from longspan.late_chunking import default_overlap, plan_windows

    ids = encoder.tokenizer.encode([long_document(encoder, SEAM_WINDOWS * encoder.max_length)], max_length=10**9)[0].ids
    overlap = default_overlap(encoder.max_length)
    windows = plan_windows(ids, 1, 1, window=encoder.max_length, overlap=overlap, strategy="context")[:SEAM_WINDOWS]
    states = encoder.encode_ids([window.ids for window in windows], output_value="token_embeddings")
    cosines: dict[str, list[float]] = {"seam": [], "edge": []}
    for (before, left), (after, right) in pairwise(zip(windows, states, strict=True)):
        first, last = after.shift + 1, before.shift + len(before.ids) - 2  # the tokens of text that both hold
        for name, places in (("seam", (after.start - 1, after.start)), ("edge", (first, last))):
            cosines[name] += [_cosine(left, before, right, after, place) for place in places]
    return cosines


def _cosine(left: np.ndarray, before: Window, right: np.ndarray, after: Window, place: int) -> float:
    a, b = left[place - before.shift], right[place - after.shift]
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0, or 1 where a limit is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.models.bench_late_chunking", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", help="a folder, or a Hugging Face id; the demo's model if not given")
    parser.add_argument("--tokens", type=int, default=100_000, help="of the very long document (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="for the comparison of costs (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        memory_child(options.model)
        return 0
    from longspan import Encoder
    from longspan.demo import find_demo_model

    model = options.model or str(find_demo_model())
    encoder = Encoder(model)
    cost = measure_cost(encoder, options.seconds)
    print(f"cost     {cost.text(3)} times that of token vectors, {encoder.max_length} tokens; at most {MAX_COST}")
    seams = measure_seams(encoder)
    for name, cosines in seams.items():
        median, least = statistics.median(cosines), min(cosines)
        print(f"cosine   {median:.3f}, least {least:.3f}, of {len(cosines)} tokens at the {name}")
    memory = measure_memory(model, long_document(encoder, options.tokens))
    what = f"{memory['tokens']:.0f} tokens, {memory['chunks']:.0f} chunks"
    rate = memory["tokens"] / memory["seconds"]
    print(f"memory   {memory['MB']:.0f} MB more for {what}; at most {MAX_MEMORY:.0f} MB ({rate:.0f} tokens/s)")
    if warning := busy_warning():
        print(warning)
    if options.json is not None:
        write_json(options.json, "models.late_chunking", {"cost": cost.median, "seams": seams, "memory": memory})
    return 0 if cost.median <= MAX_COST and memory["MB"] <= MAX_MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
