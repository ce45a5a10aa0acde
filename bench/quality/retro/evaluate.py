"""Imputation, regression and link prediction with plain and retrofitted vectors, beside what others reach.

    python -m bench.quality.retro.evaluate FOLDER --model MODEL [--json FILE] [--plot FILE.svg] [--markdown FILE]

FOLDER holds movies.json and initial_data.json anywhere below it (README.md says where they are from). Exit status 1 if
a figure is further from the known one than it may be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.quality.retro import databases, tasks
from bench.quality.retro.plot import bars
from longspan.relations import Database, Plan, retrofit

LIMIT: Final = 0.01
KNOWN: Final = Path(__file__).with_name("known.json")
Representations = dict[str, np.ndarray]
Encode = Callable[[list[str]], np.ndarray]

RUNS: Final[dict[str, dict[str, Any]]] = {
    "MF": {"solver": "mf"},
    "SGC": {"solver": "sgc"},
    "RO (1, 0, 3, 3)": {"solver": "ro", "delta": 3.0, "check": False},
    "RO (1, 0, 3, 1)": {"solver": "ro", "delta": 1.0, "check": False},
    "RO (1, 0, 3, 0.25) exact": {"solver": "ro", "delta": 0.25, "iterations": "exact"},
    "RO (1, 0, 3, 0)": {"solver": "ro", "delta": 0.0},
    "RN (1, 0, 3, 1)": {"solver": "rn"},
    "RN (1, 0, 3, 0)": {"solver": "rn", "delta": 0.0},
    "RN (0.3, 0, 3, 1)": {"solver": "rn", "alpha": 0.3},
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One representation at one task."""

    task: str
    representation: str
    mean: float
    spread: float
    known: float | None
    known_spread: float | None

    @property
    def is_off(self) -> bool:
        """Further from the known figure than LIMIT; with other random walks than those, than twice its spread."""
        if self.known is None:
            return False
        limit = max(LIMIT, 2 * (self.known_spread or 0.0)) if "DW" in self.representation else LIMIT
        return abs(self.mean - self.known) > limit + 5e-4


def representations(plan: Plan, base: np.ndarray, wanted: Sequence[str] = tuple(RUNS)) -> Representations:
    """Plain vectors and each run's, by name."""
    found = {"PV": base}
    for name in wanted:
        found[name] = retrofit(plan, base, **RUNS[name], show_progress_bar=False).vectors
    return found


def with_combinations(found: Representations, plan: Plan, row_texts: np.ndarray | None, walks: bool) -> Representations:
    """The same with the row's text, DeepWalk, and pairs of representations side by side."""
    if row_texts is not None:
        found["ROW"] = row_texts
        for name in ("RN (1, 0, 3, 1)", "RN (0.3, 0, 3, 1)"):
            found[f"ROW + {name}"] = tasks.both(row_texts, found[name])
    if walks:
        from bench.quality.retro.deepwalk import deepwalk

        found["DW"] = deepwalk(plan)
        for name in ("PV", "RO (1, 0, 3, 1)", "RN (1, 0, 3, 1)"):
            found[f"{name} + DW"] = tasks.both(found[name], found["DW"])
    return found


def movies(source: Path, folder: Path, encode: Encode, walks: bool) -> Iterator[tuple[str, Mapping[str, list[float]]]]:
    """Genre and gross of films, whose genre is not in the database."""
    whole = databases.make_movies(source, folder / "movies.db")
    path = databases.make_movies(source, folder / "movies-without-genre.db", without="genre")
    plan = _counted(Database(path).plan(), 3934, 6, 5, 13_000)
    base = encode(plan.texts)
    sql = "SELECT m.title, d.name, i.name, s.name, c.name, r.name FROM movie m " + " ".join(
        f"LEFT JOIN {table} {letter} ON {letter}.id = m.{table}"
        for table, letter in zip(("director", "distributor", "source", "creative_type", "rating"), "discr")
    )
    words = ("", "directed by ", "distributed by ", "", "", "rated ")
    rows = _row_vectors(plan, "movie.title", databases.query(path, sql + " ORDER BY m.id"), words, base, encode)
    found = with_combinations(representations(plan, base), plan, rows, walks)
    labels = databases.query(whole, "SELECT m.title, g.name FROM movie m JOIN genre g ON g.id = m.genre")
    task = tasks.classes(plan, "movie.title", labels, 30)
    for train in (100, 400):
        yield f"movies, genre, N = {train}", {name: tasks.accuracy(task, x, train) for name, x in found.items()}
    gross = tasks.values(plan, "movie.title", databases.query(whole, "SELECT title, us_gross FROM movie"))
    yield "movies, log10 US gross, R2, N = 400", {name: tasks.explained(gross, x, 400) for name, x in found.items()}


def chinook(source: Path, folder: Path, encode: Encode, walks: bool) -> Iterator[tuple[str, Mapping[str, list[float]]]]:
    """Genre of tracks, whose genre is not in the database: the music part alone, and with the shop."""
    labels_from = databases.make_chinook(source, folder / "chinook.db")
    labels = databases.query(labels_from, "SELECT t.name, g.name FROM track t JOIN genre g ON g.id = t.genre")
    path = databases.make_chinook(source, folder / "music.db", without="genre")
    plan = _counted(Database(path).plan(), 4750, 6, 8, 17_787)
    base = encode(plan.texts)
    sql = """SELECT t.name, a.title, r.name, t.composer FROM track t LEFT JOIN album a ON a.id = t.album
             LEFT JOIN artist r ON r.id = a.artist ORDER BY t.id"""
    words = ("", "album ", "by ", "composed by ")
    rows = _row_vectors(plan, "track.name", databases.query(path, sql), words, base, encode)
    found = with_combinations(representations(plan, base), plan, rows, walks)
    task = tasks.classes(plan, "track.name", labels, 40)
    for train in (100, 400):
        yield f"chinook, genre, N = {train}", {name: tasks.accuracy(task, x, train) for name, x in found.items()}
    path = databases.make_chinook(source, folder / "shop.db", without="genre", with_shop=True)
    plan = _counted(Database(path).plan(), 5055, 18, 92, 26_683)
    runs = ("RO (1, 0, 3, 1)", "RN (1, 0, 3, 1)", "RN (0.3, 0, 3, 1)")
    found = representations(plan, encode(plan.texts), runs)
    task = tasks.classes(plan, "track.name", labels, 40)
    for train in (100, 400):
        name = f"chinook with the shop, genre, N = {train}"
        yield name, {run: tasks.accuracy(task, found[run], train) for run in runs}


def link_tasks(movie_file: Path, chinook_file: Path, folder: Path, encode: Encode) -> Iterator[tuple[str, Any]]:
    """Tracks and albums whose relation is left out; films and directors of whom some pairs are hidden."""
    plan = Database(databases.make_chinook(chinook_file, folder / "links.db")).plan()
    left_out = _relation(plan, ("track", "name"), ("album", "title"))
    plan.relations.remove(left_out)
    found = representations(plan, encode(plan.texts))
    found["PV + RN (1, 0, 3, 1)"] = tasks.both(found["PV"], found["RN (1, 0, 3, 1)"])
    scores = {name: tasks.links(left_out.pairs, x, 400, 500) for name, x in found.items()}
    yield "chinook, link track - album, AUC", {name: score[0] for name, score in scores.items()}
    yield "chinook, link track - album, AUC of the cosine", {name: score[1] for name, score in scores.items()}
    path = databases.make_movies(movie_file, folder / "hidden.db")
    plan = _counted(Database(path).plan(), 3946, 7, 6, 15_908)
    relation = _relation(plan, ("movie", "title"), ("director", "name"))
    every, base = relation.pairs, encode(plan.texts)
    column = plan.column("director.name")
    targets = np.arange(column.start, column.stop)
    runs = ("MF", "SGC", "RO (1, 0, 3, 1)", "RN (1, 0, 3, 1)", "RN (0.3, 0, 3, 1)", "RN (1, 0, 3, 0)")
    auc: dict[str, list[float]] = {name: [] for name in ("PV", *runs)}
    hits: dict[str, list[float]] = {name: [] for name in ("PV", *runs)}
    for seed in range(5):
        is_kept, hidden, rng = tasks.hidden_pairs(every, seed, 300)
        relation.pairs = every[is_kept]
        state = rng.bit_generator.state
        for name, x in representations(plan, base, runs).items():
            rng.bit_generator.state = state
            scores_now = tasks.hidden_scores(every, hidden, rng, x, targets)
            auc[name].append(scores_now[0])
            hits[name].append(scores_now[1])
    yield "movies, hidden link title - director, AUC of the cosine", auc
    yield "movies, hidden link title - director, hits@10", hits


def run(folder: Path, encode: Encode, *, walks: bool) -> list[Figure]:
    """Every task; a line on stderr when one is done."""
    known: dict[str, dict[str, list[float | None]]] = json.loads(KNOWN.read_text(encoding="utf-8"))
    movie_file, chinook_file = databases.find(folder, "movies.json"), databases.find(folder, "initial_data.json")
    figures = []
    with tempfile.TemporaryDirectory() as place:
        here, started = Path(place), time.perf_counter()
        for task, scores in (
            *movies(movie_file, here, encode, walks),
            *chinook(chinook_file, here, encode, walks),
            *link_tasks(movie_file, chinook_file, here, encode),
        ):
            for name, found in scores.items():
                mean, spread = known.get(task, {}).get(name, [None, None])
                figures.append(Figure(task, name, float(np.mean(found)), float(np.std(found)), mean, spread))
        print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    return figures


def as_markdown(figures: Sequence[Figure]) -> str:
    """A table a task: what was reached, what is known, the difference; ! where that is too large."""
    parts = []
    for task in dict.fromkeys(figure.task for figure in figures):
        parts.append(f"**{task}**\n\n| representation | here | known | difference |\n| --- | --- | --- | --- |")
        for each in (figure for figure in figures if figure.task == task):
            told = "" if each.known is None else f"{each.known:.3f}"
            if each.known_spread is not None:
                told += f" ± {each.known_spread:.3f}"
            apart = "" if each.known is None else f"{each.mean - each.known:+.3f}{' !' if each.is_off else ''}"
            parts.append(f"| {each.representation} | {each.mean:.3f} ± {each.spread:.3f} | {told} | {apart} |")
        parts.append("")
    return "\n".join(parts)


def _relation(plan: Plan, source: tuple[str, str], target: tuple[str, str]) -> Any:
    (found,) = (relation for relation in plan.relations if (relation.source, relation.target) == (source, target))
    return found


def _row_vectors(
    plan: Plan, column: str, rows: Sequence[tuple[Any, ...]], words: Sequence[str], base: np.ndarray, encode: Encode
) -> np.ndarray:
    """Base vectors, with those of the column's values replaced by the vector of the first row's joined text."""
    texts: dict[str, str] = {}
    for row in rows:
        if row[0] is not None and row[0].strip():
            texts.setdefault(row[0], databases.joined(zip(words, row)))
    found, place = base.copy(), plan.column(column)
    found[place.start : place.stop] = encode([texts[text] for text in plan.texts[place.start : place.stop]])
    return found


def _counted(plan: Plan, nodes: int, columns: int, relations: int, pairs: int) -> Plan:
    """The plan, if it has what the protocol says it has."""
    got = (len(plan.nodes), len(plan.columns), len(plan.relations), sum(r.count for r in plan.relations))
    if got != (nodes, columns, relations, pairs):
        raise ValueError(f"nodes, columns, relations and pairs must be {(nodes, columns, relations, pairs)}, got {got}")
    return plan


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser("bench.quality.retro.evaluate", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where movies.json and initial_data.json are")
    parser.add_argument("--model", required=True, help="all-MiniLM-L6-v2, for the known figures")
    parser.add_argument("--no-walks", dest="walks", action="store_false", help="without DeepWalk, which needs gensim")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    args = parser.parse_args(argv)
    from longspan import Encoder

    encoder = Encoder(args.model)

    def encode(texts: list[str]) -> np.ndarray:
        distinct = list(dict.fromkeys(texts))
        place = {text: number for number, text in enumerate(distinct)}
        return np.asarray(encoder.encode(distinct, show_progress_bar=False))[[place[text] for text in texts]]

    figures = run(args.folder, encode, walks=args.walks)
    text = as_markdown(figures)
    print(text)
    if args.json:
        rows = [{**{n: getattr(f, n) for n in Figure.__dataclass_fields__}, "off": f.is_off} for f in figures]
        args.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.markdown:
        args.markdown.write_text(text, encoding="utf-8")
    if args.plot:
        args.plot.write_text(bars(figures), encoding="utf-8")
    return int(any(figure.is_off for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
