"""`longspan search`: what its subcommands run, and what they say."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from longspan.cli.console.terminal import count, is_terminal, json_line, one_line, shown
from longspan.cli.embedding.options import ModelOptions, from_args
from longspan.cli.search.answers import as_json, as_text
from longspan.cli.search.build import BuildSummary, build
from longspan.cli.search.delete import DeleteRequest, delete
from longspan.cli.search.options import configure
from longspan.cli.search.plan import BuildRequest
from longspan.cli.search.query import query
from longspan.cli.search.questions import QueryRequest, Sources
from longspan.cli.search.show import Shown, check_show, page_of
from longspan.own_files import open_new

__all__ = ["configure", "run"]  # what `program.py` asks of a command


def run(args: argparse.Namespace) -> None:
    """Build, then say what was done; or ask, and print the answers as they come."""
    if args.what == "delete":
        _delete(from_args(DeleteRequest, args), as_json=args.json)
        return
    if args.what == "build":
        args.keep = tuple(dict.fromkeys(args.keep))
        _report(build(from_args(BuildRequest, args), from_args(ModelOptions, args)), as_json=args.json)
        return
    args.words = tuple(args.words)
    args.best = not args.json and args.show is None if args.best is None else args.best
    request = from_args(QueryRequest, args)
    if request.show is not None:
        _show(request, from_args(ModelOptions, args), as_json=args.json)
        return
    for number, answer in enumerate(query(request, from_args(ModelOptions, args))):
        if args.json:
            print(as_json(answer), flush=True)
        else:
            print(
                "\n" * (number > 0) + as_text(answer, is_full=request.full, shows_query=not request.words), flush=True
            )


def _show(request: QueryRequest, options: ModelOptions, *, as_json: bool) -> None:
    """Write the page aside, then put it in its place; a person is told where it is."""
    assert request.show is not None
    check_show(request.show, as_json=as_json)
    sources = Sources()
    answers = list(query(request, options, sources))
    page = page_of(Shown(answers, sources.index, sources.encoder))
    beside = Path(f"{request.show}.new")
    with open_new(beside) as file:
        file.write(page.encode())
    os.replace(beside, request.show)
    if is_terminal(sys.stderr):
        print(f"{request.show}: {count(len(answers), 'answer')}; open it in a browser", file=sys.stderr)


def _delete(request: DeleteRequest, *, as_json: bool) -> None:
    """Delete, and say what; a dry run names every document."""
    summary = delete(request)
    if as_json:
        print(json_line(asdict(summary)))
    elif request.dry_run:
        for key in summary.keys:
            print(one_line(key))
    elif is_terminal(sys.stderr):
        what = f"{count(summary.deleted, 'document')} deleted, {count(summary.documents, 'passage')} left"
        print(f"{shown(summary.index)}: {what}", file=sys.stderr)


def _report(summary: BuildSummary, *, as_json: bool) -> None:
    if as_json:
        print(json_line(asdict(summary)))
    elif is_terminal(sys.stderr):
        added = f"{_changes(summary)} in {summary.seconds:.1f} s"
        centered = ", codes centred" if summary.is_centered else ""
        print(f"{shown(summary.index)}: {count(summary.documents, 'passage')}{centered} ({added})", file=sys.stderr)
    if summary.advice and not as_json:
        warnings.warn(f"{summary.advice}; here, --center yes --query-sample FILE", stacklevel=2)


def _changes(summary: BuildSummary) -> str:
    """How many documents, each of one passage or more, the run has added, and so on."""
    counts = {"new": summary.new, "changed": summary.changed, "gone": summary.gone, "unchanged": summary.unchanged}
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    deleted = f", {summary.deleted:,} deleted" if summary.deleted else ""
    return f"{told or 'nothing new'}; {count(summary.added, 'passage')} added{deleted}"
