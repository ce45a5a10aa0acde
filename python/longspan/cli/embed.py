"""`longspan embed`: its options, and what it says when it is done."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longspan.cli.console.terminal import count
from longspan.cli.embedding.options import (
    add_files,
    add_meaning_options,
    add_model_options,
    add_reading_options,
    add_vector_options,
    add_writing_options,
    positive,
)
from longspan.cli.embedding.plan import Layout, RowsRequest
from longspan.cli.embedding.provenance import provenance
from longspan.cli.embedding.rows import Done, RowsCommand, Work, place_of
from longspan.cli.embedding.stream import TEXTS_A_BLOCK, encode_with, fit_for, media_read
from longspan.cli.files.records import Record
from longspan.cli.files.stage import Vectors
from longspan.pipeline.options import OnTruncate
from longspan.vectors.quantize import Precision

if TYPE_CHECKING:
    from longspan.encoder import Encoder
    from longspan.text.tasks import Role

DESCRIPTION = """\
Turn each text, image, page, sound or video of the inputs into a vector, in order.

Inputs are files, folders, or `-` for standard input, and may be larger than memory. The suffix tells what they are, or
--format. Here plain text is a text a line; `chunk` and `search build` take it as a document a file.
  text      .txt .log         a text a line, an empty line too; with --whole-file a text a file
  markdown  .md .rst .html    a text a file, as are source code (.py .c .js and more), README, Makefile and the like
  jsonl     .jsonl .json      an object a line; or an array of objects
  csv, tsv  .csv .tsv         a header line, quotes as spreadsheets write them
  parquet   .parquet .pq      needs pip install 'longspan[parquet]'
  image     .png .jpg .webp   and others: one vector each, by a model that reads images; pip install 'longspan[images]'
  pdf       .pdf              a vector a page, drawn at 150 dots an inch; of a model that reads texts alone, its text
  audio     .wav .mp3 .flac   and others, by a model that hears; pip install 'longspan[audio]'
  video     .mp4 .webm .mov   and others, with their sound, by a model that takes them; pip install 'longspan[video]'
All texts may be zipped (.gz, .zst). Texts are UTF-8, unless a mark or --encoding says otherwise.

Of a folder all files below it are read, in order of their names, but hidden ones and what a .gitignore names. What
cannot be used in it (unknown, binary, not readable) is counted and named at the end; what you name yourself must be
good, or the run ends.

The output is written aside and renamed when it is whole: an error, Ctrl-C or a full disk leaves none.
  .npy      an array (texts, dim)
  .jsonl    {"index": 0, "embedding": [...]} a text, with the fields of --keep between
  .parquet  columns index, those of --keep, embedding
What made the vectors (model, revision, fingerprint, dtype, prompt) is said in the metadata of a .parquet file, and
beside a .npy file in .npy.json.
"""
EPILOG = """\
examples:
  longspan embed sentence-transformers/all-MiniLM-L6-v2 notes.txt -o notes.npy
  longspan embed BAAI/bge-small-en-v1.5 corpus.jsonl.gz --field body --keep id --document -o corpus.parquet --resume
  longspan embed ./my-model questions.csv --column question --query --precision ubinary -o questions.npy
  longspan embed jinaai/jina-embeddings-v5-omni-small calls/*.wav --document --keep file -o calls.parquet
  longspan embed jinaai/jina-clip-v2 pictures/*.jpg report.pdf --keep file --keep page -o pictures.parquet
  sort -u words.txt | longspan embed ./my-model - --format text -o - | head -1

int8 and uint8 codes depend on the least and greatest value of each dimension. These are taken from all texts of the
run, in a second pass over float32 rows on the disk; or, in one pass, from the vectors in --calibration FILE.npy, which
queries need that are to be compared with documents of another run.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `embed`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "longspan embed MODEL INPUT [INPUT ...] -o OUT [options]"
    add_files(parser)
    reading = parser.add_argument_group("reading")
    add_reading_options(reading, "text", "texts")
    reading.add_argument("--whole-file", action="store_true", help="each file is one text")

    meaning = parser.add_argument_group("embedding")
    role = meaning.add_mutually_exclusive_group()
    role.add_argument(
        "--query", dest="role", action="store_const", const="query", help="use the model's prompt and task for queries"
    )
    role.add_argument("--document", dest="role", action="store_const", const="document", help="use those for documents")
    add_meaning_options(meaning, "text")
    meaning.add_argument(
        "--max-length", type=positive, metavar="N", help="tokens of a text that count (default: the model's)"
    )
    meaning.add_argument(
        "--on-truncate", choices=("warn", "error", "ignore"), default="warn", help="for longer texts (default: warn)"
    )
    add_vector_options(parser)
    writing = parser.add_argument_group("writing")
    add_writing_options(
        writing,
        "write this field too, as often as wanted; every row has file, and line or its number, a page has page",
    )
    add_model_options(parser)


@dataclass(frozen=True, slots=True)
class EmbedRequest(RowsRequest):
    """What `longspan embed` was asked for; each field is an option of that name."""

    whole_file: bool
    role: Role | None
    on_truncate: OnTruncate


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """What a finished run did, as `--json` prints it."""

    output: str
    rows: int
    dim: int  # of a row of the output: a binary code has dim / 8
    precision: Precision
    resumed_rows: int  # of `rows`, those that an earlier run had embedded
    skipped: int  # bad rows, with --skip-bad
    passed_over: dict[str, object]  # files of folders, by reason
    seconds: float
    texts_per_second: float


def _work(encoder: Encoder, request: EmbedRequest) -> Work[None]:
    """A row a text."""
    encode = encode_with(encoder, request)

    def make(records: Sequence[Record]) -> tuple[Vectors, list[None]]:
        return encode([record.input for record in records]), [None] * len(records)

    def kept(_number: int, record: Record, _: None) -> list[str]:
        return [record.kept]

    return Work(
        make,
        kept,
        dim=encode([]).shape[1],
        noun="text",
        fewest=TEXTS_A_BLOCK,
        fingerprint=lambda: encoder.fingerprint,
        about=lambda: provenance(encoder, request, request.role),
        reads=media_read(encoder),
        fit=fit_for(encoder),
    )


def _summary(request: EmbedRequest, done: Done) -> tuple[EmbedSummary, str]:
    summary = EmbedSummary(
        output=request.output,
        rows=done.rows,
        dim=done.dim,
        precision=request.precision,
        resumed_rows=done.resumed_rows,
        skipped=done.skipped,
        passed_over=done.passed_over,
        seconds=done.seconds,
        texts_per_second=done.records_per_second,
    )
    speed = f"{summary.seconds:.1f} s, {summary.texts_per_second:,.0f} texts/s"
    what = f"{count(summary.rows, 'vector')} of {summary.dim} {summary.precision}"
    return summary, f"{place_of(summary.output)}: {what} ({speed})"


def _layout(request: EmbedRequest) -> Layout:
    return Layout(whole="all" if request.whole_file else "none", takes_media=True)


run = RowsCommand(EmbedRequest, _layout, _work, _summary).run
