"""`longspan embed`: its options, and what it says when it is done."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from longspan.cli.embedding import EmbedSummary, embed
from longspan.cli.inputs import FORMATS
from longspan.cli.options import ModelOptions, add_model_options, from_args, positive
from longspan.cli.plan import EmbedRequest, make_plan
from longspan.cli.terminal import count, is_terminal
from longspan.cli.writers import OUTPUT_FORMATS, STDOUT
from longspan.quantize import PRECISIONS

DESCRIPTION = """\
Turn each text of the inputs into a vector, in order.

Inputs are read as a stream and may be larger than memory. Their format is told by the suffix, or by --format:
  text      .txt .text        a text a line, an empty line too; with --whole-file, of any suffix, a text a file
  jsonl     .jsonl .ndjson    an object a line
  csv, tsv  .csv .tsv         a header line, quotes as spreadsheets write them
  parquet   .parquet .pq      needs pip install 'longspan[parquet]'
All but Parquet may be gzipped (.gz). `-` is standard input. Texts are UTF-8.

The output is written aside and renamed when it is whole: an error, Ctrl-C or a full disk leaves none.
  .npy      an array (texts, dim)
  .jsonl    {"index": 0, "embedding": [...]} a text, with the fields of --keep between
  .parquet  columns index, those of --keep, embedding
"""
EPILOG = """\
examples:
  longspan embed sentence-transformers/all-MiniLM-L6-v2 notes.txt -o notes.npy
  longspan embed BAAI/bge-small-en-v1.5 corpus.jsonl.gz --field body --keep id --document -o corpus.parquet --resume
  longspan embed ./my-model questions.csv --column question --query --precision ubinary -o questions.npy
  sort -u words.txt | longspan embed ./my-model - --format text -o - | head -1

int8 and uint8 codes depend on the least and greatest value of each dimension. These are taken from all texts of the
run, in a second pass over float32 rows on the disk; or, in one pass, from the vectors in --calibration FILE.npy, which
queries need that are to be compared with documents of another run.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `embed`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "longspan embed MODEL INPUT [INPUT ...] -o OUT [options]"
    parser.add_argument("model", metavar="MODEL", help="a folder, or org/name on the Hugging Face hub")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="a file to read, or - for standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the file to write, or - for JSONL to stdout"
    )

    reading = parser.add_argument_group("reading")
    reading.add_argument("--format", choices=FORMATS, help="what the inputs are (default: by suffix)")
    reading.add_argument(
        "--field", "--column", default="text", metavar="NAME", help="where the text is (default: text)"
    )
    reading.add_argument("--whole-file", action="store_true", help="each file is one text")
    reading.add_argument("--limit", type=positive, metavar="N", help="stop after N texts")
    reading.add_argument("--skip-bad", action="store_true", help="count rows that cannot be used, and go on")

    meaning = parser.add_argument_group("embedding")
    role = meaning.add_mutually_exclusive_group()
    role.add_argument(
        "--query", dest="role", action="store_const", const="query", help="use the model's prompt and task for queries"
    )
    role.add_argument("--document", dest="role", action="store_const", const="document", help="use those for documents")
    meaning.add_argument("--task", metavar="NAME", help="one of the model's tasks; `longspan info MODEL` lists them")
    prompt = meaning.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-name", metavar="NAME", help="one of the model's prompts")
    prompt.add_argument("--prompt", metavar="TEXT", help="a prompt to put before every text")
    meaning.add_argument(
        "--max-length", type=positive, metavar="N", help="tokens of a text that count (default: the model's)"
    )
    meaning.add_argument(
        "--on-truncate", choices=("warn", "error", "ignore"), default="warn", help="for longer texts (default: warn)"
    )
    meaning.add_argument("--batch-tokens", type=positive, metavar="N", help="tokens to compute on at a time")

    vectors = parser.add_argument_group("vectors")
    vectors.add_argument("--truncate-dim", type=positive, metavar="N", help="keep the first N dimensions")
    vectors.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="to unit length, or not (default: the model's own way)",
    )
    vectors.add_argument("--precision", choices=PRECISIONS, default="float32", help="what to write (default: float32)")
    vectors.add_argument("--calibration", metavar="FILE.npy", help="vectors to take the ranges of int8 and uint8 from")

    writing = parser.add_argument_group("writing")
    writing.add_argument("--to", choices=OUTPUT_FORMATS, help="the output's format (default: by suffix)")
    writing.add_argument(
        "--keep", action="append", default=[], metavar="FIELD",
        help="write this field too, as often as wanted; text has the fields text, file and line",
    )  # fmt: skip
    writing.add_argument("--force", action="store_true", help="replace an output that exists")
    writing.add_argument(
        "--resume", action="store_true", help="keep what is done if the run is stopped, and go on from what is kept"
    )
    writing.add_argument("--json", action="store_true", help="print a summary on stdout as JSON")
    add_model_options(parser)


def run(args: argparse.Namespace) -> None:
    """Embed, then say what was done: JSON if asked, a line on stderr for a person, nothing in a pipe."""
    as_json: bool = args.json
    args.keep = tuple(dict.fromkeys(args.keep))
    args.inputs = tuple(args.inputs)
    plan = make_plan(from_args(EmbedRequest, args), as_json=as_json)
    model = from_args(ModelOptions, args)
    summary = embed(plan, model.open(plan.request.model), model)
    if as_json:
        print(json.dumps(asdict(summary)))
    elif is_terminal(sys.stderr):
        print(_in_words(summary), file=sys.stderr)


def _in_words(summary: EmbedSummary) -> str:
    place = "standard output" if summary.output == STDOUT else summary.output
    speed = f"{summary.seconds:.1f} s, {summary.texts_per_second:,.0f} texts/s"
    return f"{place}: {count(summary.rows, 'vector')} of {summary.dim} {summary.precision} ({speed})"
