"""Retrieval quality: nDCG@10, recall and MRR of the ways to rank a corpus.

python -m bench.quality.retrieval DATA_FOLDER --model FOLDER --sets scifact cosqa xquad.en covidqa
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np

from bench.encoders import Runtime
from bench.quality.data import RetrievalSet, load_retrieval
from bench.quality.metrics import MRR_10, NDCG_10, RECALL_10, RECALL_100, evaluate
from bench.quality.rankings import RANKINGS
from bench.quality.report import Result, table
from bench.quality.session import Session, add_common_options, finish, run_command


def embed(
    runtime: Runtime, data: RetrievalSet, query_prompt: str | None = None, document_prompt: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (num_queries, dim) and (num_documents, dim), f32."""
    queries = runtime.embed(data.queries, "query", query_prompt)
    return queries, runtime.embed(data.documents, "document", document_prompt)


def measure(
    data: RetrievalSet, queries: np.ndarray, documents: np.ndarray, rankings: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Figures by ranking."""
    return {name: evaluate(RANKINGS[name].order(queries, documents), data.gains) for name in rankings}


def work(options: argparse.Namespace) -> int:
    """Measures each set asked for."""
    session = Session.open(options)
    results: list[Result] = []
    for name in options.sets:
        data = load_retrieval(options.data, name)
        started = time.perf_counter()
        queries, documents = embed(session.runtime, data, options.query_prompt, options.document_prompt)
        seconds = time.perf_counter() - started
        print(f"\n{name}: {len(documents)} documents, {len(queries)} queries, embedded in {seconds:.1f} s")
        rows = [
            Result.against(session.baseline, name, ranking, RANKINGS[ranking].title, figures)
            for ranking, figures in measure(data, queries, documents, options.precision).items()
        ]
        print(table("ranking", rows, [NDCG_10, RECALL_10, RECALL_100, MRR_10]), flush=True)
        results += rows
    print()
    return finish("quality.retrieval", options, session, results)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a figure is off its baseline; 2 for a mistake in the arguments or the data."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.retrieval", description=__doc__.partition("\n")[0])
    add_common_options(parser)
    sets = "scifact, scifact-1283, cosqa, covidqa, xquad.LANGUAGE, xquad.LANGUAGE-LANGUAGE (questions-passages)"
    parser.add_argument("--sets", nargs="+", required=True, metavar="SET", help=sets)
    parser.add_argument(
        "--precision", nargs="+", choices=RANKINGS, default=list(RANKINGS), help="rankings to measure (all)"
    )
    parser.add_argument("--query-prompt", help='such as "query: "; the model\'s own if not given')
    parser.add_argument("--document-prompt", help='such as "passage: "; the model\'s own if not given')
    return run_command(work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
