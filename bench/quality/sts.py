"""Spearman correlation with people's judgement of sentence pairs (STS benchmark).

python -m bench.quality.sts DATA_FOLDER --model FOLDER --languages en de
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

import numpy as np

from bench.encoders import Runtime
from bench.quality.baselines import STS_PREFIX
from bench.quality.data import SentencePairs, load_sts
from bench.quality.metrics import spearman
from bench.quality.rankings import signs
from bench.quality.report import Result, table
from bench.quality.session import Session, add_common_options, finish, run_command

SPEARMAN: Final = "Spearman"
TITLES: Final = {"float32": "cosine", "binary": "Hamming"}


def similarities(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """(n,) similarity of each pair of unit vectors: the cosine, and the signs in common less those that differ."""
    return {
        "float32": np.einsum("nd,nd->n", first, second),
        "binary": np.einsum("nd,nd->n", signs(first), signs(second)),
    }


def measure(runtime: Runtime, pairs: SentencePairs, prompt: str | None = None) -> dict[str, float]:
    """Spearman's correlation of each kind of similarity with the judgements."""
    vectors = runtime.embed([*pairs.first, *pairs.second], prompt=prompt)
    first, second = vectors[: len(pairs.first)], vectors[len(pairs.first) :]
    return {kind: spearman(values, pairs.scores) for kind, values in similarities(first, second).items()}


def work(options: argparse.Namespace) -> int:
    """Measures each language asked for."""
    session = Session.open(options)
    results: list[Result] = []
    for language in options.languages:
        pairs = load_sts(options.data, language, options.split)
        figures = measure(session.runtime, pairs, options.prompt)
        baseline = session.baseline if options.split == "test" else None
        rows = [
            Result.against(baseline, STS_PREFIX + language, kind, TITLES[kind], {SPEARMAN: figure})
            for kind, figure in figures.items()
        ]
        print(table(f"{STS_PREFIX}{language} {options.split}, {len(pairs.scores)} pairs", rows, [SPEARMAN]), flush=True)
        results += rows
    return finish("quality.sts", options, session, results)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a figure is off its baseline; 2 for a mistake in the arguments or the data."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.sts", description=__doc__.partition("\n")[0])
    add_common_options(parser)
    parser.add_argument("--languages", nargs="+", default=["en"], help="of the STS files (en)")
    parser.add_argument("--split", choices=("test", "dev"), default="test", help="which pairs (%(default)s)")
    parser.add_argument("--prompt", help='put before every sentence, such as "query: "; the model\'s own if not given')
    return run_command(work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
