"""Retrieval quality of a sparse model: alone, as a second stage, and its scores and a dense model's added.

python -m bench.quality.sparse DATA_FOLDER --model SPARSE_FOLDER --dense DENSE_FOLDER --sets cosqa scifact-100
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bench.quality.baselines import find_baseline
from bench.quality.data import RetrievalSet, load_retrieval
from bench.quality.metrics import MRR_10, NDCG_10, RECALL_10, RECALL_100, evaluate
from bench.quality.rankings import best_first
from bench.quality.report import Result, table, verdict
from bench.quality.session import run_command
from bench.record import model_name, write_json
from longspan import Encoder, SparseEncoder, SparseIndex, SparseVectors
from longspan.pipeline.options import FloatOptions
from longspan.search.fusion import fuse_scores

MAX_LENGTH = 256
CUTS = (128, 64, 32)
FIRST = "-100"  # of a set's name: its first 100 queries alone


def load(options: argparse.Namespace, name: str) -> RetrievalSet:
    """The set, or its first 100 queries."""
    data = load_retrieval(options.data, name.removesuffix(FIRST))
    return replace(data, queries=data.queries[:100], gains=data.gains[:100]) if name.endswith(FIRST) else data


def rankings(
    data: RetrievalSet, sparse: SparseEncoder, dense: Encoder | None, *, is_whole: bool
) -> dict[str, Callable[[], np.ndarray]]:
    """By name: each query's documents, best first, (num_queries, depth)."""
    how = {"max_length": MAX_LENGTH, "on_truncate": "ignore", "show_progress_bar": False}
    queries = sparse.encode_query(data.queries, **how)  # type: ignore[arg-type]
    found: dict[str, Callable[[], np.ndarray]] = {}
    stage = None if dense is None else _first_stage(data, dense)
    whole = is_whole or stage is None
    wanted = np.arange(len(data.documents)) if whole or stage is None else np.unique(stage[0][:, :20])
    documents = sparse.encode_document([data.documents[place] for place in wanted], **how)  # type: ignore[arg-type]
    index = SparseIndex(sparse.dim)
    index.add(documents, wanted)
    print(f"mean entries: documents {len(documents.values) / len(documents):.1f}, "
          f"queries {len(queries.values) / len(queries):.1f}")  # fmt: skip
    if whole:
        found["sparse"] = lambda: _in_full(index.search(queries, len(wanted)).ids)
        for cut in CUTS:
            found[f"sparse-{cut}"] = partial(_cut, documents, queries, cut)
    if stage is not None:
        for depth in (20, 100) if whole else (20,):
            found[f"rerank-{depth}"] = partial(_reranked, stage, index, queries, depth, False)
            found[f"sum-{depth}"] = partial(_reranked, stage, index, queries, depth, True)
    return found


Stage = tuple[np.ndarray, np.ndarray]  # (num_queries, documents) places of documents, best first, and their cosines


def _first_stage(data: RetrievalSet, dense: Encoder) -> Stage:
    how: FloatOptions = {"normalize_embeddings": True, "on_truncate": "ignore", "show_progress_bar": False}
    queries, documents = (dense.encode(texts, **how) for texts in (data.queries, data.documents))
    scores = queries @ documents.T
    order = best_first(scores)
    return order, np.take_along_axis(scores, order, axis=1)


def _in_full(ids: np.ndarray) -> np.ndarray:
    """Rows of all documents: what no term finds comes last, in the order of the corpus."""
    full = np.empty_like(ids)
    for row, found in zip(full, ids, strict=True):
        there = found[found >= 0]
        row[: len(there)], row[len(there) :] = there, np.setdiff1d(np.arange(len(row)), there)
    return full


def _cut(documents: SparseVectors, queries: SparseVectors, most: int) -> np.ndarray:
    index = SparseIndex(documents.dim)
    index.add(documents.top(most))
    return _in_full(index.search(queries, len(documents)).ids)


def _reranked(stage: Stage, index: SparseIndex, queries: SparseVectors, depth: int, is_sum: bool) -> np.ndarray:
    """The first `depth` of the first stage by the sparse score, or by the sum of both scaled; the rest as it was."""
    order, cosines = stage
    rows = []
    for place, query in enumerate(queries):
        first, rest = order[place, :depth], order[place, depth:]
        found = index.search(query, depth, filter=first)
        scores = dict(zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True))
        values = np.array([scores.get(document, 0.0) for document in first.tolist()])
        if is_sum:
            parts = [(first[None], cosines[place : place + 1, :depth]), (first[None], values[None])]
            totals = fuse_scores(parts, depth)
            of = dict(zip(totals.ids[0].tolist(), totals.scores[0].tolist(), strict=True))
            values = np.array([of[document] for document in first.tolist()])
        rows.append(np.concatenate([first[np.argsort(-values, kind="stable")], rest]))
    return np.stack(rows)


def work(options: argparse.Namespace) -> int:
    """Measures each set asked for."""
    sparse = SparseEncoder(options.model, dtype=options.dtype, num_threads=options.threads)
    dense = Encoder(options.dense, num_threads=options.threads) if options.dense else None
    baseline = find_baseline(sparse.folder, options.baseline)
    print(f"{sparse!r}, {options.dtype}; baseline: {baseline.model if baseline else 'none is known for these weights'}")
    results: list[Result] = []
    for name in options.sets:
        data, started = load(options, name), time.perf_counter()
        rows = []
        for ranking, order in rankings(data, sparse, dense, is_whole=not name.endswith(FIRST)).items():
            figures = evaluate(order(), data.gains)
            rows.append(Result.against(baseline, name, ranking, ranking, figures))
        print(f"\n{name}: {len(data.queries)} queries, {time.perf_counter() - started:.1f} s")
        print(table("ranking", rows, [NDCG_10, RECALL_10, RECALL_100, MRR_10]), flush=True)
        results += rows
    sentence, is_good = verdict(results)
    print(f"\n{sentence}")
    if options.json is not None:
        body = {
            "model": model_name(options.model),
            "dtype": options.dtype,
            "results": [row.as_json() for row in results],
        }
        write_json(options.json, "quality.sparse", body)
    return 0 if is_good else 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a figure is off its baseline; 2 for a mistake in the arguments or the data."""
    from pathlib import Path

    parser = argparse.ArgumentParser(prog="python -m bench.quality.sparse", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER", help="the folder that holds scifact, cosqa, ...")
    parser.add_argument("--model", required=True, help="the sparse model: a local folder, or a Hugging Face id")
    parser.add_argument(
        "--dense", help="a dense model, whose best documents are ranked again and whose scores are added"
    )
    parser.add_argument("--dtype", default="float32", help="the sparse model's compute type (%(default)s)")
    parser.add_argument("--sets", nargs="+", required=True, metavar="SET", help="cosqa, scifact; NAME-100: 100 queries")
    parser.add_argument("--threads", type=int, help="threads to use; all that the machine grants if not given")
    parser.add_argument("--baseline", metavar="NAME", help="compare with this model; found by the weights if not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return run_command(work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
