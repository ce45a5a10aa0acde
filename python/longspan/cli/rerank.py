"""`longspan rerank`: documents of files in the order of how well they answer a query, by a cross-encoder."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longspan.cli.console.failures import CommandError
from longspan.cli.console.terminal import count, excerpt, is_terminal, json_line, style, tell
from longspan.cli.embedding.options import (
    ModelOptions,
    add_folder_options,
    add_format_options,
    add_model_and_inputs,
    add_model_options,
    from_args,
    model_and_inputs,
    positive,
    reading_of,
)
from longspan.cli.embedding.stream import Tally, good_records
from longspan.cli.files.inputs import STDIN, find_inputs
from longspan.cli.files.passed_over import PassedOver
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import Record, Selection
from longspan.cli.files.writers import STDOUT, check_target
from longspan.documents.kinds import Format
from longspan.own_files import open_new, written_aside
from longspan.pipeline.options import OnTruncate

if TYPE_CHECKING:
    from longspan.reranker import Reranker, RerankOptions

DESCRIPTION = """\
Order documents by how well they answer a query, as a reranker (cross-encoder) judges them.

Documents are the rows of the inputs: lines of .txt, objects of .jsonl and .json, rows of .csv, .tsv and .parquet, and
whole files of Markdown, HTML and code; all may be zipped (.gz, .zst), folders are read, `-` is standard input.

Queries are given by --query, or by --queries, a file of them, each of
which ranks all documents; or each row has its own in --query-field, and rows of one query are ranked together. With
--scores rows stay in their order, and each gets its score.
"""
EPILOG = """\
examples:
  longspan rerank cross-encoder/ms-marco-MiniLM-L6-v2 passages.txt --query "how do I reset my password" --top-k 5
  longspan rerank BAAI/bge-reranker-v2-m3 corpus.jsonl --field body --keep id --queries questions.txt -o ranked.jsonl
  longspan rerank BAAI/bge-reranker-base candidates.jsonl --query-field question --keep id --scores -o scores.jsonl

A line of the output: {"query": ..., "rank": 1, "score": ..., "index": ..., fields of --keep, "text": ...}; index is the
row's number from 0. With --scores: {"index": ..., fields of --keep, "score": ...}.
"""
_SHOWN_LINES = 3


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """What `longspan rerank` was asked for; each field is an option of that name."""

    model: str
    inputs: tuple[str, ...]
    query: str | None
    queries: str | None
    query_field: str | None
    output: str
    format: Format | None
    field: str
    encoding: str | None
    delimiter: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    hidden: bool
    no_ignore: bool
    keep: tuple[str, ...]
    limit: int | None
    skip_bad: bool
    scores: bool
    top_k: int | None
    windows: bool
    activation: str | None
    prompt_name: str | None
    prompt: str | None
    max_length: int | None
    max_query_length: int | None
    on_truncate: OnTruncate
    batch_tokens: int | None
    force: bool
    json: bool


@dataclass(frozen=True, slots=True)
class RerankSummary:
    """What a finished run did, as `--json` prints it."""

    output: str
    queries: int
    documents: int
    pairs: int
    skipped: int  # bad rows, with --skip-bad
    passed_over: dict[str, object]  # files of folders, by reason
    seconds: float
    pairs_per_second: float


@dataclass(frozen=True, slots=True)
class _Row:
    """A document, and its number among all."""

    index: int
    record: Record


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `rerank`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "longspan rerank MODEL INPUT [INPUT ...] (--query TEXT | --queries FILE | --query-field NAME)"
    add_model_and_inputs(parser, "a file or folder of documents, or - for standard input")
    asking = parser.add_argument_group("asking").add_mutually_exclusive_group(required=True)
    asking.add_argument("--query", metavar="TEXT", help="the one query")
    asking.add_argument("--queries", metavar="FILE", help="queries, a line each, or rows with a field of --field")
    asking.add_argument("--query-field", metavar="NAME", help="where a row of the inputs has its own query")
    reading = parser.add_argument_group("reading")
    add_format_options(reading)
    add_folder_options(reading)
    reading.add_argument("--limit", type=positive, metavar="N", help="stop after N documents")
    reading.add_argument("--skip-bad", action="store_true", help="count rows that cannot be used, and go on")
    ranking = parser.add_argument_group("ranking")
    ranking.add_argument("--top-k", "-k", type=positive, metavar="K", help="documents of a ranking (default: all)")
    ranking.add_argument("--scores", action="store_true", help="a score for every row of --query or --query-field")
    ranking.add_argument("--activation", choices=("identity", "sigmoid"), help="of the scores (default: the model's)")
    prompt = ranking.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-name", metavar="NAME", help="one of the model's prompts")
    prompt.add_argument("--prompt", metavar="TEXT", help="what goes before a query, or the model's instruction")
    ranking.add_argument("--windows", action="store_true", help="read long documents whole, in overlapping windows")
    ranking.add_argument("--max-length", type=positive, metavar="N", help="tokens of a pair (default: the model's)")
    ranking.add_argument("--max-query-length", type=positive, metavar="N", help="tokens that a query keeps")
    ranking.add_argument(
        "--on-truncate", choices=("warn", "error", "ignore"), default="warn", help="for longer pairs (default: warn)"
    )
    ranking.add_argument("--batch-tokens", type=positive, metavar="N", help="tokens to compute on at a time")
    writing = parser.add_argument_group("writing")
    writing.add_argument(
        "-o", "--output", default=STDOUT, metavar="OUT", help="a .jsonl file (default: standard output)"
    )
    writing.add_argument("--keep", action="append", default=[], metavar="FIELD", help="write this field too")
    writing.add_argument("--force", action="store_true", help="replace an output that exists")
    writing.add_argument("--json", action="store_true", help="JSONL on a terminal too; a summary with --output FILE")
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    """Rank, and write or print what was found."""
    model_and_inputs(args)
    request = from_args(RerankRequest, args)
    started = time.perf_counter()
    target = None if request.output == STDOUT else _target(request)
    if request.scores and request.queries is not None:
        raise CommandError("--scores is for one query a row: give --query or --query-field")
    if request.query is not None and not request.query.strip():
        raise CommandError("--query is empty; ask in words")
    if request.queries == STDIN and STDIN in request.inputs:
        raise CommandError("standard input can hold the documents or the queries, not both")
    find_inputs(
        request.inputs, reading=reading_of(request), passed=PassedOver()
    )  # what is wrong with them is said before the model is loaded
    reranker = from_args(ModelOptions, args).open_reranker(request.model)
    tally = Tally()
    lists = _lists(request, tally)
    lines = _scored(reranker, request, lists) if request.scores else _ranked(reranker, request, lists)
    if target is None:
        for line in lines:
            print(line if request.json or not is_terminal(sys.stdout) else _for_a_person(line), flush=True)
        tally.report()
        return
    _write(target, lines, force=request.force)
    tally.report()
    pairs, seconds = sum(len(rows) for _, rows in lists), time.perf_counter() - started
    summary = RerankSummary(
        output=request.output,
        queries=len(lists),
        documents=len({row.index for _, rows in lists for row in rows}),
        pairs=pairs,
        skipped=tally.skipped,
        passed_over=tally.passed.as_json(),
        seconds=seconds,
        pairs_per_second=pairs / seconds if seconds > 0 else 0.0,
    )
    what = f"{count(pairs, 'pair')} of {count(len(lists), 'query').replace('querys', 'queries')}"
    tell(asdict(summary), f"{request.output}: {what} ({seconds:.1f} s)", as_json=request.json)


def _target(request: RerankRequest) -> Path:
    if Path(request.output).suffix.lower() not in (".jsonl", ".ndjson"):
        raise CommandError(f"{request.output}: rankings are written as .jsonl")
    return check_target(request.output, force=request.force)


def _lists(request: RerankRequest, tally: Tally) -> list[tuple[str, list[_Row]]]:
    """Queries, each with the documents to rank, in the order of their first row."""
    own = () if request.query_field is None else (request.query_field,)
    records = _records(request.inputs, request, (*own, *request.keep), tally)
    rows = [_Row(index, record) for index, record in zip(_numbers(request.limit), records)]
    if request.query is not None:
        return [(request.query, rows)]
    if request.queries is not None:
        queries = _records((request.queries,), request, (), tally)
        return [(record.text, rows) for record in queries if record.text.strip()]
    grouped: dict[str, list[_Row]] = {}
    for row in rows:
        query = json.loads(row.record.kept).get(request.query_field)
        if isinstance(query, str):
            grouped.setdefault(query, []).append(row)
            continue
        reason = f"{row.record.place}: field {request.query_field!r} must be a string, a query"
        if not request.skip_bad:
            raise CommandError(f"{reason} (--skip-bad passes over bad rows)")
        tally.skip(reason, sum(map(len, grouped.values())))
    return [*grouped.items()]


def _numbers(limit: int | None) -> Iterator[int]:
    number = 0
    while limit is None or number < limit:
        yield number
        number += 1


def _records(names: Sequence[str], request: RerankRequest, keep: tuple[str, ...], tally: Tally) -> Iterator[Record]:
    sources = find_inputs(names, reading=reading_of(request), passed=tally.passed)
    rows = read_records(sources, Selection(request.field, keep))
    said = [name for name in keep if name in request.keep]  # not --query-field, of which each row is told
    return good_records(rows, tally, keep=said, skip_bad=request.skip_bad)


def _options(request: RerankRequest) -> RerankOptions:
    return {
        "activation_fn": request.activation,  # type: ignore[typeddict-item]  # argparse has the choices
        "prompt_name": request.prompt_name,
        "prompt": request.prompt,
        "max_length": request.max_length,
        "max_query_length": request.max_query_length,
        "on_truncate": request.on_truncate,
        "batch_tokens": request.batch_tokens,
    }


def _ranked(reranker: Reranker, request: RerankRequest, lists: Sequence[tuple[str, list[_Row]]]) -> Iterator[str]:
    """A line a document, best first, query by query."""
    rankings = reranker.rank(
        [query for query, _ in lists],
        [[row.record.text for row in rows] for _, rows in lists],
        request.top_k,
        long_documents="windows" if request.windows else "cut",
        **_options(request),
    )
    for (query, rows), ranking in zip(lists, rankings, strict=True):
        for rank, entry in enumerate(ranking, start=1):
            row = rows[entry["corpus_id"]]
            place = {"query": query, "rank": rank, "score": entry["score"], "index": row.index}
            yield json_line({**place, **_kept(request, row), "text": row.record.text})


def _scored(reranker: Reranker, request: RerankRequest, lists: Sequence[tuple[str, list[_Row]]]) -> Iterator[str]:
    """A line a row, in the rows' order."""
    rows = sorted(((row, query) for query, own in lists for row in own), key=lambda pair: pair[0].index)
    scores = reranker.predict([(query, row.record.text) for row, query in rows], **_options(request)).tolist()
    for (row, _), score in zip(rows, scores, strict=True):
        yield json_line({"index": row.index, **_kept(request, row), "score": score})


def _kept(request: RerankRequest, row: _Row) -> dict[str, object]:
    fields: dict[str, object] = json.loads(row.record.kept)
    return {name: fields[name] for name in request.keep if name in fields}


def _for_a_person(line: str) -> str:
    found = json.loads(line)
    if "rank" not in found:
        return line
    head = style(found["query"], "bold", "cyan") + "\n" if found["rank"] == 1 else ""
    place = f"{found['rank']:>3}  {style(format(found['score'], '.4f'), 'green')}  {style(str(found['index']), 'bold')}"
    return f"{head}{place}\n{excerpt(found['text'], indent=5, lines=_SHOWN_LINES)}"


def _write(target: Path, lines: Iterator[str], *, force: bool) -> None:
    """Aside, then renamed: whole, or not there."""
    with written_aside(target) as aside:
        with open_new(aside) as file:
            file.writelines(f"{line}\n".encode() for line in lines)
        if target.exists() and not force:
            raise CommandError(f"{target} appeared meanwhile; give --force to replace it")
