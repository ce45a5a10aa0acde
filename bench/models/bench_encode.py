"""Tokens a second of `Encoder` and of its peers, on the same texts, in turn, with one number of threads.

    python -m bench.models.bench_encode --model FOLDER --threads 2

Before any timing each contestant's vectors are compared with ours: no agreement, no time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from bench.encoders import RUNTIMES, Runtime
from bench.models.texts import TEXT_SETS, make_texts
from bench.record import busy_warning, model_name, write_json
from bench.timing import Spread, interleave, speedup

OURS: Final = "longspan"
# Two float32 runtimes, each of which may be 1e-5 from the float64 truth.
MAX_DIFFERENCE: Final = 2e-5
PAUSE: Final = 0.05  # seconds; a runtime's idle threads may spin for some tens of milliseconds before they sleep


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant on one set of texts."""

    texts: str
    num_tokens: int  # special tokens included, after the model's cut
    contestant: str
    difference: float  # largest absolute difference of its vectors from ours
    tokens_per_second: Spread | None  # None: it does not agree, or there is nothing to time
    our_speedup: Spread | None  # how many times faster we are; None for ourselves


def load_contestants(model: str, num_threads: int, wanted: Sequence[str]) -> dict[str, Runtime]:
    """Ours first, then the peers; one that is not installed is named and left out."""
    contestants: dict[str, Runtime] = {}
    for name in dict.fromkeys([OURS, *wanted]):
        try:
            contestants[name] = RUNTIMES[name](model, num_threads)
        except ImportError as error:
            print(f"{name}: skipped, {error}")
    return contestants


def measure(
    name: str, texts: Sequence[str], num_tokens: int, contestants: Mapping[str, Runtime], seconds: float
) -> list[Row]:
    """Compares, then times in turn."""
    vectors = {contestant: runtime.embed(texts) for contestant, runtime in contestants.items()}
    differences = {contestant: float(np.abs(rows - vectors[OURS]).max()) for contestant, rows in vectors.items()}
    calls: dict[str, Callable[[], object]] = {
        contestant: partial(runtime.embed, texts)
        for contestant, runtime in contestants.items()
        if differences[contestant] <= MAX_DIFFERENCE
    }
    times = interleave(calls, seconds=seconds, pause=PAUSE)
    return [
        Row(
            name,
            num_tokens,
            contestant,
            difference,
            Spread.of([num_tokens / each for each in times[contestant]]) if contestant in times else None,
            speedup(times[OURS], times[contestant]) if contestant in times and contestant != OURS else None,
        )
        for contestant, difference in differences.items()
    ]


def describe(row: Row) -> str:
    """A line of the table."""
    start = f"{row.texts:<9}{row.num_tokens:>7}  {row.contestant:<24}{row.difference:>10.1e}"
    if row.tokens_per_second is None:
        return f"{start}  differs by more than {MAX_DIFFERENCE:g}: not timed"
    ratio = f"   we: {row.our_speedup.text()} x" if row.our_speedup else ""
    return f"{start}   {row.tokens_per_second.text(0):<28}{ratio}".rstrip()


def as_json(row: Row) -> dict[str, object]:
    """For the JSON file."""
    return {
        "texts": row.texts,
        "tokens": row.num_tokens,
        "contestant": row.contestant,
        "max_abs_difference": row.difference,
        "tokens_per_second": _spread(row.tokens_per_second),
        "our_speedup": _spread(row.our_speedup),
    }


def _spread(spread: Spread | None) -> dict[str, float] | None:
    return {"p20": spread.p20, "median": spread.median, "p80": spread.p80} if spread else None


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench.models.bench_encode", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a folder or a Hugging Face id; the installed MiniLM weights if not given")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="for each set of texts (%(default)s)")
    parser.add_argument("--texts", nargs="+", choices=TEXT_SETS, default=list(TEXT_SETS), help="sets of texts (all)")
    parser.add_argument("--peers", nargs="*", choices=RUNTIMES, default=list(RUNTIMES), help="contestants (all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a contestant differs; 2 where there is no model."""
    from longspan import Encoder
    from longspan.demo import find_demo_model

    options = parse(argv)
    warning = busy_warning()
    try:
        model = options.model or str(find_demo_model())
        counter = Encoder(model, num_threads=options.threads)
        contestants = load_contestants(model, options.threads, options.peers)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    versions = " against ".join(runtime.name for runtime in contestants.values())
    print(f"{versions}; {options.threads} threads; median (p20 .. p80)\n{counter.explain()}")
    print(f"{'texts':<9}{'tokens':>7}  {'contestant':<24}{'difference':>10}   tokens/s")
    rows: list[Row] = []
    for name in options.texts:
        texts = make_texts(name)
        num_tokens = sum(len(text.ids) for text in counter.tokenize(texts))
        for row in measure(name, texts, num_tokens, contestants, options.seconds):
            print(describe(row), flush=True)
            rows.append(row)
    if warning:
        print(warning)
    if options.json is not None:
        body = {"model": model_name(model), "threads": options.threads, "rows": [as_json(row) for row in rows]}
        write_json(options.json, "models.encode", body)
    return 0 if all(row.tokens_per_second for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
