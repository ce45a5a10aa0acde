"""`longspan retro`: its subcommands and options."""

from __future__ import annotations

import argparse

from longspan.cli.embedding.options import add_model_options, from_args, positive
from longspan.cli.retro.plan import PlanRequest, show_plan
from longspan.cli.retro.query import QueryRequest, query
from longspan.cli.retro.run import RunRequest, UpdateRequest, run_update, run_whole
from longspan.relations.plan import MIN_EDGES
from longspan.relations.settings import SOLVERS
from longspan.relations.stores import DEFAULT_TABLE

DESCRIPTION = """\
Give every text value of a relational database a vector that carries its meaning and its relations: same row, foreign
keys, link tables (RETRO). DATABASE is sqlite:///FILE, the path of a SQLite file, or postgresql://USER@HOST/NAME
(pip install 'longspan[postgres]').

The database is read in one read-only transaction. Nothing is written but what --out names.
"""
EPILOG = """\
examples:
  longspan retro plan films.db                                   # what would be used: look before you compute
  longspan retro run films.db --model sentence-transformers/all-MiniLM-L6-v2 --exclude films.slug --out films.npz
  longspan retro run postgresql:///shop --model ./model --out postgresql:///shop --table value_vectors
  longspan retro update films.db --model sentence-transformers/all-MiniLM-L6-v2 --out films.npz
  longspan retro query films.npz --of films.title Alien
  longspan retro query films.npz --of films.title Alien --complete directors.name --unknown
"""
OUT = "FILE.npz, FILE.parquet, sqlite:///FILE or postgresql://..."


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands of `retro`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    subparsers = parser.add_subparsers(
        title="what to do",
        metavar="plan|run|update|query",
        required=True,
        dest="what",
    )
    summaries = {
        "plan": (_configure_plan, "show what a database has: columns, relations, what looks wrong"),
        "run": (_configure_run, "compute vectors, and write them where --out says"),
        "update": (_configure_update, "take up new, changed and deleted rows"),
        "query": (_configure_query, "neighbours of a value or of any text, and which values go with one"),
    }
    for name, (configure_one, summary) in summaries.items():
        configure_one(subparsers.add_parser(name, help=summary, description=summary))


def run(args: argparse.Namespace) -> None:
    """Do what was asked for."""
    if args.what == "plan":
        show_plan(from_args(PlanRequest, args))
    elif args.what == "run":
        run_whole(from_args(RunRequest, args), args)
    elif args.what == "update":
        run_update(from_args(UpdateRequest, args), args)
    else:
        args.words = tuple(args.words)
        query(from_args(QueryRequest, args), args)


def _configure_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("database", metavar="DATABASE", help="sqlite:///FILE, a SQLite file, or postgresql://...")
    _add_reading(parser)
    parser.add_argument("--json", action="store_true", help="print all of it on stdout as JSON")


def _configure_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("database", metavar="DATABASE", help="sqlite:///FILE, a SQLite file, or postgresql://...")
    vectors = parser.add_mutually_exclusive_group(required=True)
    vectors.add_argument("--model", metavar="MODEL", help="what embeds the texts: a folder, or org/name on the hub")
    vectors.add_argument("--vectors", metavar="FILE.npy", help="or vectors (n, d) in the order of the plan's nodes")
    _add_reading(parser)
    solving = parser.add_argument_group("solving")
    solving.add_argument("--solver", choices=SOLVERS, default="rn", help="default: rn, the series with normalisation")
    solving.add_argument(
        "--alpha", type=float, default=1.0, metavar="A", help="pull to a value's own vector (default: 1)"
    )
    solving.add_argument("--beta", type=float, default=0.0, metavar="B", help="pull to its column's mean (default: 0)")
    solving.add_argument("--gamma", type=float, default=3.0, metavar="G", help="pull to related values (default: 3)")
    solving.add_argument(
        "--delta", type=float, metavar="D", help="push from unrelated ones (default: 1; ro: alpha / 4)"
    )
    solving.add_argument("--iterations", type=_iterations, metavar="N", help="steps, or `exact` for ro's optimum")
    solving.add_argument(
        "--no-check", dest="check", action="store_false", help="run ro's steps even where they diverge"
    )
    _add_writing(parser, "--out", "write here; without it nothing is written: ")
    add_model_options(parser)


def _configure_update(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("database", metavar="DATABASE", help="the database that the vectors came from")
    parser.add_argument("--model", metavar="MODEL", help="what embeds new texts (default: the model that was used)")
    parser.add_argument(
        "--mode",
        choices=("refresh", "new"),
        default="refresh",
        help="refresh: as a run from scratch, new texts alone are embedded; new: old vectors stay as they are",
    )
    parser.add_argument("--from", dest="origin", metavar="PLACE", help="where the vectors are (default: --out)")
    _add_writing(parser, "--out", "what to replace: ", is_needed=True)
    add_model_options(parser)


def _configure_query(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="PLACE", help=f"where the vectors are: {OUT.replace(', FILE.parquet', '')}")
    parser.add_argument("words", metavar="WORD", nargs="+", help="the value, or with no --of any text")
    parser.add_argument("--of", metavar="TABLE.COLUMN", help="the words are a value of this column")
    finding = parser.add_mutually_exclusive_group()
    finding.add_argument("--within", metavar="TABLE.COLUMN", help="find values of this column alone")
    finding.add_argument("--complete", metavar="TABLE.COLUMN", help="which values of this column go with it")
    parser.add_argument("--unknown", action="store_true", help="with --complete: leave out what is related already")
    parser.add_argument("--top-k", "-k", type=positive, default=10, metavar="K", help="values (default: 10)")
    parser.add_argument("--table", metavar="NAME", help=f"the table in a database (default: {DEFAULT_TABLE})")
    parser.add_argument("--model", metavar="MODEL", help="what embeds a text (default: the model that was used)")
    parser.add_argument("--json", action="store_true", help="print an object a line")
    add_model_options(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME",
        help="a table or table.column that is to be as if it were not there; as often as wanted",
    )
    group.add_argument(
        "--weight",
        action="append",
        default=[],
        metavar="RELATION=W",
        help="a relation, as `plan` names it, and what its pull is multiplied by; 0 leaves it out",
    )
    group.add_argument(
        "--min-edges", type=positive, default=MIN_EDGES, metavar="N", help=f"pairs of a relation (default: {MIN_EDGES})"
    )
    group.add_argument(
        "--link-tables", choices=("pure", "all"), default="pure", help="all: join through tables with text too"
    )


def _add_writing(parser: argparse.ArgumentParser, option: str, what: str, *, is_needed: bool = False) -> None:
    group = parser.add_argument_group("writing")
    group.add_argument(option, metavar="PLACE", required=is_needed, help=what + OUT)
    group.add_argument("--table", metavar="NAME", help=f"the table in a database (default: {DEFAULT_TABLE})")
    if not is_needed:
        group.add_argument("--force", action="store_true", help="replace what is there, if it is ours")
    group.add_argument("--json", action="store_true", help="print a summary on stdout as JSON")


def _iterations(text: str) -> int | str:
    return text if text == "exact" else positive(text)
