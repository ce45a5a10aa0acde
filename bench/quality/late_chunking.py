"""Late chunking against chunks embedded alone and whole documents: nDCG@10 and recall on judged data.

    python -m bench.quality.late_chunking DATA_FOLDER --model FOLDER --sets xquad.en covidqa --plot FILE.svg

Two questions are asked of a set (README.md has the protocol). "passages": which passage of the articles answers the
question, the passages being the data's own; also among those of the question's own article alone. "documents": which
document answers it, its score being that of its best chunk, for chunks of several sizes; or that of its one vector.
Which way wins depends on the model and the data: run this with yours.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.encoders import Runtime
from bench.quality.baselines import Baseline, find_baseline
from bench.quality.data import ArticleSet, RetrievalSet, load_articles, load_retrieval
from bench.quality.metrics import MRR_10, NDCG_10, RECALL_10, RECALL_100, evaluate
from bench.quality.plot import Line, line_chart
from bench.quality.rankings import best_first, by_float, by_hamming
from bench.quality.report import Result, table
from bench.quality.session import Session, add_common_options, finish, run_command

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from longspan import Encoder
    from longspan.late_chunking.chunking import ChunkUnit, Span
    from longspan.late_chunking.document_chunks import ChunkMode, ChunkOptions
    from longspan.late_chunking.windows import Chunks, Strategy

SIZES: Final = (32, 64, 128, 256)
CHUNKED: Final[tuple[ChunkMode, ...]] = ("naive", "late")
NAIVE_IDS: Final = "naive-ids"
IN_DOCUMENT_NDCG: Final = "in-doc nDCG@10"
IN_DOCUMENT_MRR: Final = "in-doc MRR"
FIRST_IS_GOLD: Final = "first is gold"


@dataclass(frozen=True, slots=True)
class Study:
    """The model, and how its windows run."""

    encoder: Encoder
    window: int | None
    overlap: int | None
    strategy: Strategy
    unit: ChunkUnit
    naive_ids: bool = False  # measure chunks of the document's own ids, too

    def chunks(self, documents: Sequence[str], **options: Unpack[ChunkOptions]) -> list[Chunks]:
        """Chunks with unit vectors. A chunk alone is cut at the model's own limit; a window may be longer."""
        from longspan import TruncationWarning

        is_late = options.get("mode") == "late"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            options |= {"strategy": self.strategy, "special_tokens": False, "normalize_embeddings": True}
            options |= {"window": self.window if is_late else None, "overlap": self.overlap if is_late else None}
            return self.encoder.encode_chunks(documents, **options)

    def queries(self, data: RetrievalSet) -> np.ndarray:
        """(num_queries, dim) unit vectors."""
        vectors = self.encoder.encode_query(data.queries, normalize_embeddings=True, on_truncate="ignore")
        return np.asarray(vectors)


def passage_figures(study: Study, data: ArticleSet) -> dict[str, dict[str, float]]:
    """By ranking: "naive" and "late", and each with "-binary"."""
    queries = study.queries(data.passages)
    figures: dict[str, dict[str, float]] = {}
    owners = np.repeat(np.arange(len(data.spans)), [len(spans) for spans in data.spans])
    for mode in CHUNKED:
        chunks = study.chunks(data.documents, mode=mode, chunks=data.spans)
        passages = np.concatenate([one.embeddings for one in chunks])
        figures[mode] = evaluate(by_float(queries, passages), data.passages.gains)
        figures[mode] |= in_document_figures(queries @ passages.T, owners, data.passages.gains)
        figures[f"{mode}-binary"] = evaluate(by_hamming(queries, passages), data.passages.gains)
    return figures


def in_document_figures(
    scores: np.ndarray, owners: np.ndarray, gains: Sequence[Mapping[int, float]]
) -> dict[str, float]:
    """The same questions, asked of their own article.

    Args:
        scores: (num_queries, num_passages).
        owners: (num_passages,), the article of each.
        gains: of each query, by passage; all in one article.
    """
    own = owners[[next(iter(known)) for known in gains]]
    order = best_first(np.where(owners == own[:, None], scores, -np.inf))
    ranks = [next(rank for rank, place in enumerate(row, 1) if place in known) for row, known in zip(order, gains)]
    return {
        IN_DOCUMENT_NDCG: evaluate(order, gains)[NDCG_10],
        IN_DOCUMENT_MRR: float(np.mean([1 / rank for rank in ranks])),
        FIRST_IS_GOLD: float(np.mean([rank == 1 for rank in ranks])),
    }


def document_figures(study: Study, data: RetrievalSet, sizes: Sequence[int]) -> dict[str, dict[str, float]]:
    """By ranking: "whole", and "naive-SIZE" and "late-SIZE" for each number of tokens."""
    from longspan.late_chunking.chunking import split_document

    queries = study.queries(data)
    whole = study.encoder.encode_document(data.documents, normalize_embeddings=True, on_truncate="ignore")
    figures = {"whole": evaluate(by_float(queries, np.asarray(whole)), data.gains)}
    tokenizer = study.encoder.tokenizer
    spans = {
        size: [split_document(text, tokenizer, size, unit=study.unit) for text in data.documents] for size in sizes
    }
    late = late_rows(study, data.documents, list(spans.values()))
    for size, late_vectors in zip(sizes, late, strict=True):
        naive = study.chunks(data.documents, mode="naive", chunks=spans[size], drop_empty=True)
        rows = {"naive": [one.embeddings for one in naive], "late": late_vectors}
        if study.naive_ids:
            rows[NAIVE_IDS] = naive_id_rows(study, data.documents, size)
        for kind, vectors in rows.items():
            figures[f"{kind}-{size}"] = evaluate(best_first(best_chunk_scores(queries, vectors)), data.gains)
    return figures


def late_rows(
    study: Study, documents: Sequence[str], spans: Sequence[Sequence[Sequence[Span]]]
) -> list[list[np.ndarray]]:
    """For each way to cut the documents the late vectors of each one's chunks: all ways from one run of the encoder.

    Args:
        spans: of each way, of each document, its chunks; one without a token has no vector.
    """
    together = [sorted({span for chunks in ways for span in chunks}) for ways in zip(*spans, strict=True)]
    found = study.chunks(documents, mode="late", chunks=together, drop_empty=True)
    rows = [dict(zip(one.spans, one.embeddings, strict=True)) for one in found]
    empty = np.empty((0, study.encoder.dim), np.float32)
    return [
        [np.array([own[span] for span in chunks if span in own] or empty) for own, chunks in zip(rows, way)]
        for way in spans
    ]


def naive_id_rows(study: Study, documents: Sequence[str], size: int) -> list[np.ndarray]:
    """Each document's vectors of `size` of its own ids each, between the special tokens: not tokenized again."""
    found: list[np.ndarray] = []
    for tokens in study.encoder.tokenizer.encode(documents, max_length=10**9):
        own = np.flatnonzero(~tokens.special_mask)
        head, tail = tokens.ids[: own[0]], tokens.ids[own[-1] + 1 :]
        parts = [tokens.ids[own[start : start + size]] for start in range(0, len(own), size)]
        runs = [np.concatenate([head, part, tail]) for part in parts]
        found.append(np.asarray(study.encoder.encode_ids(runs, normalize_embeddings=True)))
    return found


def best_chunk_scores(queries: np.ndarray, chunks: Sequence[np.ndarray]) -> np.ndarray:
    """(num_queries, num_documents): the score of each document's best chunk, of (n, dim) each; -inf without any."""
    scores = np.full((len(queries), len(chunks)), -np.inf, np.float32)
    for place, vectors in enumerate(chunks):
        if len(vectors):
            scores[:, place] = (queries @ vectors.T).max(axis=1)
    return scores


def articles_as_documents(data: ArticleSet) -> RetrievalSet:
    """The question is which article holds the passage that answers."""
    owners = np.repeat(np.arange(len(data.spans)), [len(spans) for spans in data.spans]).tolist()
    gains = tuple({owners[place]: 1.0 for place in known} for known in data.passages.gains)
    return RetrievalSet(data.passages.name, data.documents, data.passages.queries, gains)


def measure_set(study: Study, baseline: Baseline | None, options: argparse.Namespace, name: str) -> list[Result]:
    """The tables of one set, printed, and their rows."""
    results: list[Result] = []

    def show(heading: str, figures: Mapping[str, Mapping[str, float]], measures: Sequence[str], set_name: str) -> None:
        rows = [Result.against(baseline, set_name, key, key, values) for key, values in figures.items()]
        print(table(heading, rows, measures), flush=True)
        results.extend(rows)

    started = time.perf_counter()
    is_articles = name.partition(".")[0] in ("covidqa", "xquad")
    articles = load_articles(options.data, name) if is_articles else None
    data = load_retrieval(options.data, name) if articles is None else articles_as_documents(articles)
    print(f"\n{name}: {len(data.documents)} documents, {len(data.queries)} queries")
    if articles is not None and "passages" in options.ask:
        figures = passage_figures(study, articles)
        show(
            "passages",
            figures,
            [NDCG_10, RECALL_10, RECALL_100, IN_DOCUMENT_NDCG, IN_DOCUMENT_MRR, FIRST_IS_GOLD],
            name,
        )
    if "documents" in options.ask:
        set_name = name if articles is None else f"{name} documents"
        show(
            "documents",
            document_figures(study, data, options.sizes),
            [NDCG_10, RECALL_10, RECALL_100, MRR_10],
            set_name,
        )
    print(f"{time.perf_counter() - started:.0f} s")
    return results


def chart(results: Sequence[Result], sizes: Sequence[int]) -> str:
    """nDCG@10 of documents over the chunks' size, one panel a set, as SVG."""
    panels: dict[str, list[Line]] = {}
    for name in dict.fromkeys(result.name for result in results if result.ranking == "whole"):
        by_ranking = {result.ranking: result.figures[NDCG_10] for result in results if result.name == name}
        lines = [Line(mode, [(size, by_ranking[f"{mode}-{size}"]) for size in sizes]) for mode in CHUNKED]
        panels[name] = [*lines, Line("whole", [(size, by_ranking["whole"]) for size in sizes])]
    return line_chart(panels, x_label="tokens of a chunk", y_label=NDCG_10)


def work(options: argparse.Namespace) -> int:
    """Measures each set asked for."""
    import longspan
    from longspan.checkpoint import hub

    if not options.data.is_dir():
        raise FileNotFoundError(f"there is no data folder {options.data}")
    encoder = longspan.Encoder(options.model, num_threads=options.threads)
    folder = hub.resolve(options.model, revision=None, token=None, cache_dir=None, local_files_only=False)
    study = Study(encoder, options.window, options.overlap, options.strategy, options.unit, options.naive_ids)
    session = Session(
        Runtime(f"longspan {longspan.__version__}", lambda *_args: np.empty(0)),
        find_baseline(folder, options.baseline),
    )
    results = [row for name in options.sets for row in measure_set(study, session.baseline, options, name)]
    if options.plot is not None:
        options.plot.write_text(chart(results, options.sizes), encoding="utf-8")
    print()
    return finish("quality.late_chunking", options, session, results)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a figure is off its baseline; 2 for a mistake in the arguments or the data."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.late_chunking", description=__doc__.partition("\n")[0]
    )
    add_common_options(parser)
    sets = "covidqa, xquad.LANGUAGE; for documents also scifact, scifact-1283"
    parser.add_argument("--sets", nargs="+", required=True, metavar="SET", help=sets)
    parser.add_argument(
        "--ask", nargs="+", choices=("passages", "documents"), default=["passages", "documents"], help="(both)"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="tokens of a chunk (%(default)s)")
    parser.add_argument("--unit", choices=("tokens", "sentence", "paragraph"), default="tokens", help="(%(default)s)")
    parser.add_argument(
        "--window", type=int, help="tokens that the encoder sees at once; the model's limit if not given"
    )
    parser.add_argument("--overlap", type=int, help="of neighbouring windows; a quarter, 512 at most, if not given")
    parser.add_argument(
        "--strategy", choices=("earlier", "context", "reference"), default="earlier", help="(%(default)s)"
    )
    parser.add_argument(
        "--naive-ids",
        action="store_true",
        help="embed chunks of --sizes of the document's own token ids by themselves, too, not tokenized again",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw nDCG@10 over the chunks' size there, as SVG")
    return run_command(work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
