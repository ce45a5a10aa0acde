"""Quality of BinaryIndex: every centring, store, oversampling and truncation, beside float32 and int8 vectors.

    python -m bench.quality.codes DATA_FOLDER --model FOLDER --sets scifact cosqa xquad.en covidqa xquad.de \
        --markdown codes.md --plot codes.svg --json codes.json

Rankings are those of the index itself, so that what is measured is what users run; float32 and int8 are rules 4 and 5
of the protocol in README.md. Means are taken over all documents and all queries that are evaluated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from bench.quality.data import RetrievalSet, load_retrieval
from bench.quality.metrics import NDCG_10, evaluate
from bench.quality.plot import Line, line_chart
from bench.quality.rankings import by_float, by_int8
from bench.quality.report import Result, table
from bench.quality.retrieval import embed
from bench.quality.session import Session, add_common_options, finish, run_command
from longspan import BinaryIndex

Center = Literal["none", "mean", "own"]
Store = Literal["codes", "int8", "float32"]

CENTERS: Final[dict[Center, str]] = {
    "none": "not centred",
    "mean": "documents' mean off both",
    "own": "each side's own mean off",
}
STORES: Final[dict[Store, str]] = {"codes": "the bits", "int8": "int8 vectors", "float32": "float32 vectors"}
OVERSAMPLES: Final = (1, 2, 4, 8, 16)
FOUND: Final = 10
NO_RESCORING: Final = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to search; `oversample` 0: by Hamming distance alone, which is the same for all stores."""

    dim: int
    center: Center
    store: Store
    oversample: int

    def name(self, full_dim: int) -> str:
        """Of the ranking, as baselines.json has it."""
        parts = ["binary"] + ([] if self.center == "none" else [self.center])
        if self.oversample != NO_RESCORING:
            parts += [f"x{self.oversample}", {"codes": "bits", "float32": "float"}.get(self.store, self.store)]
        return "-".join(parts + ([] if self.dim == full_dim else [f"d{self.dim}"]))


Figures = dict[Setting, dict[str, float]]
Vectors = dict[int, tuple[dict[str, float], dict[str, float]]]  # by dim: float32's and int8's figures


def shortened(vectors: np.ndarray, dim: int) -> np.ndarray:
    """The first `dim` values, at unit length again."""
    short = vectors[:, :dim]
    lengths = np.linalg.norm(short, axis=1, keepdims=True)
    return np.ascontiguousarray(short / np.where(lengths > 0, lengths, 1))


def measure(
    data: RetrievalSet, queries: np.ndarray, documents: np.ndarray, dims: Sequence[int]
) -> tuple[Vectors, Figures]:
    """All figures of a set, from unit vectors of both sides."""
    vectors: Vectors = {}
    figures: Figures = {}
    for dim in dims:
        asked, held = shortened(queries, dim), shortened(documents, dim)
        vectors[dim] = evaluate(by_float(asked, held), data.gains), evaluate(by_int8(asked, held), data.gains)
        for setting, order in rankings(asked, held):
            figures[setting] = evaluate(order, data.gains)
    return vectors, figures


def rankings(queries: np.ndarray, documents: np.ndarray) -> Iterator[tuple[Setting, np.ndarray]]:
    """Every setting of this dim, and the places of the documents that it finds."""
    dim = documents.shape[1]
    for center in CENTERS:
        for store in STORES:
            if center == "none":
                index = BinaryIndex(dim, store=store)
            else:
                index = BinaryIndex.learn(documents, queries if center == "own" else None, store=store)
            index.add(documents)
            if store == "codes":
                yield Setting(dim, center, store, NO_RESCORING), index.search(queries, 100, rescore=False).ids
            for oversample in OVERSAMPLES:
                yield Setting(dim, center, store, oversample), index.search(queries, FOUND, oversample=oversample).ids


def markdown(name: str, size: str, full_dim: int, vectors: Vectors, figures: Figures) -> str:
    """Two tables of nDCG@10: oversampling at all dimensions, and fewer dimensions at an oversampling of 4."""
    floats, int8 = (one[NDCG_10] for one in vectors[full_dim])
    head = ["centring", "scored again by", "Hamming", *(f"x{n}" for n in OVERSAMPLES)]
    rows = [
        [
            CENTERS[center],
            STORES[store],
            *(_cell(figures, Setting(full_dim, center, "codes", NO_RESCORING))),
            *(cell for n in OVERSAMPLES for cell in _cell(figures, Setting(full_dim, center, store, n))),
        ]
        for center in CENTERS
        for store in STORES
    ]
    short_head = [
        "dimensions",
        "float32",
        "int8",
        "Hamming",
        "x4 the bits",
        "x4 int8",
        "x4 float32",
        "own mean: Hamming",
    ]
    short_rows = [
        [
            str(dim),
            f"{vectors[dim][0][NDCG_10]:.4f}",
            f"{vectors[dim][1][NDCG_10]:.4f}",
            *_cell(figures, Setting(dim, "none", "codes", NO_RESCORING)),
            *(cell for store in STORES for cell in _cell(figures, Setting(dim, "none", store, 4))),
            *_cell(figures, Setting(dim, "own", "codes", NO_RESCORING)),
            *_cell(figures, Setting(dim, "own", "int8", 4)),
        ]
        for dim in vectors
    ]
    intro = f"## {name}\n\n{size}; nDCG@10 of float32 {floats:.4f}, of int8 {int8:.4f}."
    return "\n\n".join([intro, _grid(head, rows), _grid([*short_head, "own mean: x4 int8"], short_rows)])


def _cell(figures: Figures, setting: Setting) -> list[str]:
    return [f"{figures[setting][NDCG_10]:.4f}"]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def panel(full_dim: int, vectors: Vectors, figures: Figures) -> list[Line]:
    """nDCG@10 over the oversampling, not centred, and float32 as a level."""
    lines = [
        Line(title, [(n, figures[Setting(full_dim, "none", store, n)][NDCG_10]) for n in OVERSAMPLES])
        for store, title in STORES.items()
    ]
    level = vectors[full_dim][0][NDCG_10]
    return [*lines, Line("no codes", [(n, level) for n in OVERSAMPLES])]


def work(options: argparse.Namespace) -> int:
    """Measures each set asked for."""
    session = Session.open(options)
    results: list[Result] = []
    texts: list[str] = []
    panels: dict[str, list[Line]] = {}
    for name in options.sets:
        data = load_retrieval(options.data, name)
        queries, documents = embed(session.runtime, data, options.query_prompt, options.document_prompt)
        full_dim = documents.shape[1]
        dims = [full_dim, *(dim for dim in options.dims if dim < full_dim)]
        vectors, figures = measure(data, queries, documents, dims)
        size = f"{len(documents):,} documents, {len(queries):,} queries"
        known = list(_results(session, name, full_dim, vectors, figures))
        compared = [result for result in known if result.known]
        print(f"\n{name}: {size}")
        print(table("ranking", compared or known[:2], [NDCG_10]), flush=True)
        results += known
        texts.append(markdown(name, size, full_dim, vectors, figures))
        panels[name] = panel(full_dim, vectors, figures)
    if options.markdown is not None:
        options.markdown.write_text(
            "\n\n".join([f"# Binary codes of {options.title}", *texts]) + "\n", encoding="utf-8"
        )
    if options.plot is not None:
        options.plot.write_text(line_chart(panels, x_label="candidates a result", y_label=NDCG_10), encoding="utf-8")
    print()
    return finish("quality.codes", options, session, results)


def _results(
    session: Session, name: str, full_dim: int, vectors: Vectors, figures: Mapping[Setting, dict[str, float]]
) -> Iterator[Result]:
    for dim, pair in vectors.items():
        for ranking, found in zip(("float32", "int8"), pair, strict=True):
            label = ranking if dim == full_dim else f"{ranking}-d{dim}"
            yield Result.against(session.baseline, name, label, label, found)
    for setting, found in figures.items():
        label = setting.name(full_dim)
        yield Result.against(session.baseline, name, label, label, found)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a figure is off its baseline; 2 for a mistake in the arguments or the data."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.codes", description=__doc__.partition("\n")[0])
    add_common_options(parser)
    sets = "scifact, scifact-1283, cosqa, covidqa, xquad.LANGUAGE, xquad.LANGUAGE-LANGUAGE (questions-passages)"
    parser.add_argument("--sets", nargs="+", required=True, metavar="SET", help=sets)
    parser.add_argument("--dims", nargs="+", type=int, default=[256, 128, 64], help="truncations (%(default)s)")
    parser.add_argument("--query-prompt", help='such as "query: "; the model\'s own if not given')
    parser.add_argument("--document-prompt", help='such as "passage: "; the model\'s own if not given')
    parser.add_argument("--title", default="a model", help="the model's name in the Markdown file (%(default)s)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write tables there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw nDCG@10 over the oversampling there, as SVG")
    return run_command(work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
